package page

import (
	"html/template"
	"net/http"
	"time"

	"github.com/cloakroom/cloakroom/internal/web"
)

// What a page says of a step that went wrong, beside the codes of problems.
const (
	WrongCode   = "wrong_code"
	Declined    = "declined"
	StepUnclear = "step_unclear"
)

// Factor is one that can be shown or set up.
type Factor struct {
	ID, Type string
	Name     string // such as "XXXXXXX1234"
}

// Step is a login in progress: a second factor to choose, to show or to set up, or a new password.
//
// Its forms post transaction and action (choose, submit, resend, poll, enroll or cancel) with factor, code, password,
// phone_number or email.
type Step struct {
	Action, Transaction string
	Status              string // challenge | enroll | password_change
	Subject, ReturnTo   string
	Factors             []Factor
	Selected            *Factor
	Wait                bool // the person confirms on another device
	Display             string
	Interval            time.Duration
	Resend              bool
	Secret, URI         string
	RecoveryCodes       []string
	Left                time.Duration
	Message             string
	RetryAfter          time.Duration
}

type stepSheet struct {
	Step
	Says    *says
	Wrong   bool
	Heading string
	Intro   string
	Label   string
	QR      template.HTML
	Others  []choice
	Seconds int
}

// choice is a factor with its words.
type choice struct {
	Factor
	Label  string
	Target string // phone_number or email where one is needed to set it up
	Ask    string // its label
	Kind   string // of its input
	Auto   string // its autocomplete
}

// Step shows a login in progress.
func (p *Pages) Step(w http.ResponseWriter, r *http.Request, status int, v Step) {
	t := p.textFor(r)
	v.Subject = p.subject(v.Subject)
	data := stepSheet{Step: v, Wrong: v.Message == WrongCode, Seconds: max(web.Seconds(v.Interval), 1)}
	data.Heading, data.Intro = t.heading(v)
	for _, f := range v.Factors {
		if v.Selected != nil && v.Selected.ID == f.ID {
			continue
		}
		data.Others = append(data.Others, t.choice(f, v.Status == "enroll"))
	}
	if v.Selected != nil {
		data.Label = t.CodeLabel
		if v.Selected.Type == "recovery_code" {
			data.Label = t.RecoveryCode
		}
	}
	if v.Status == "enroll" && v.URI != "" {
		if svg, err := QR(v.URI); err == nil {
			data.QR = template.HTML(svg) //nolint:gosec // made of numbers
		}
	}
	s := sheet{T: t, Title: withSubject(data.Heading, v.Subject)}
	if v.Message != "" {
		said := t.say(v.Message, v.RetryAfter)
		data.Says = &said
		s.Title = withSubject(said.Title, v.Subject)
	}
	s.Data = data
	if v.Wait {
		s.asks = connectSelf
	}
	retryAfter(w, v.RetryAfter)
	p.show(w, r, status, "step", s)
}

// heading is what the page is about, and what the person has to do.
func (t *text) heading(v Step) (heading, intro string) {
	switch {
	case v.Status == "password_change":
		return t.NewPasswordTitle, t.NewPasswordBody
	case v.Status == "enroll" && v.Selected == nil:
		return t.EnrollTitle, t.EnrollBody
	case v.Status == "enroll" && v.Selected.Type == "otp":
		return t.EnrollTitle, t.ScanBody
	case v.Selected == nil:
		return t.ChooseTitle, t.ChooseBody
	case v.Wait && v.Display != "":
		return t.PushTitle, t.NumberBody
	case v.Wait:
		return t.PushTitle, t.PushBody
	}
	return t.ConfirmTitle, t.enter(v.Selected)
}

func (t *text) choice(f Factor, enroll bool) choice {
	c := choice{Factor: f, Label: t.factors[f.Type]}
	if !enroll {
		return c
	}
	switch f.Type {
	case "sms", "voice":
		c.Target, c.Ask, c.Kind, c.Auto = "phone_number", t.PhoneNumber, "tel", "tel"
	case "email":
		c.Target, c.Ask, c.Kind, c.Auto = "email", t.EmailAddress, "email", "email"
	}
	return c
}

// Recovery shows recovery codes, which nobody can show again.
type Recovery struct {
	Codes []string
	Next  string
}

// Recovery shows a recovery code that came with a login.
func (p *Pages) Recovery(w http.ResponseWriter, r *http.Request, v Recovery) {
	t := p.textFor(r)
	p.show(w, r, http.StatusOK, "recovery", sheet{T: t, Title: t.RecoveryTitle, Data: v})
}
