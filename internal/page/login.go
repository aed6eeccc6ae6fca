package page

import (
	"net/http"
	"strconv"
	"time"

	"github.com/cloakroom/cloakroom/internal/web"
)

// Button leads to a provider's hosted page.
type Button struct {
	Label string // the provider's name, as people know it; "" if there is only one and it needs no name
	URL   string
}

// Login is the page that asks who you are: a form, buttons, or both.
//
// The form posts username, password, remember ("true" or absent), and what is set of provider and return_to.
type Login struct {
	Form     bool   // show the form
	Action   string // where it posts to
	ReturnTo string
	Provider string // whose form it is
	Username string // filled in; the cursor then waits in the password
	Remember bool   // ticked
	// OneTimeCode asks for the second factor's code together with the password, from those who have one. It is posted as
	// otp.
	OneTimeCode bool
	Providers   []Button
	Message     string        // a problem's code, "" for none
	RetryAfter  time.Duration // goes with it; also sent as Retry-After
	Subject     string        // what one logs in to: the app's host. "" shows nothing
}

type loginSheet struct {
	Login
	Says   *says
	Wrong  bool // the fields are what is wrong
	Hidden []field
}

// Login shows the login page.
func (p *Pages) Login(w http.ResponseWriter, r *http.Request, status int, v Login) {
	t := p.textFor(r)
	v.Subject = p.subject(v.Subject)
	s := sheet{T: t, Title: withSubject(t.LogIn, v.Subject)}
	data := loginSheet{
		Login:  v,
		Wrong:  v.Message == web.CodeInvalidCredentials,
		Hidden: []field{{"return_to", v.ReturnTo}, {"provider", v.Provider}},
	}
	if v.Message != "" {
		said := t.say(v.Message, v.RetryAfter)
		data.Says = &said
		s.Title = withSubject(said.Title, v.Subject) // what a screen reader says first
	}
	s.Data = data
	retryAfter(w, v.RetryAfter)
	p.show(w, r, status, "login", s)
}

func withSubject(title, subject string) string {
	if subject == "" {
		return title
	}
	return title + " – " + subject
}

func retryAfter(w http.ResponseWriter, d time.Duration) {
	if d > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(web.Seconds(d)))
	}
}
