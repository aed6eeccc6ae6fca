package page

import "net/http"

// Logout is the question before a logout: a GET ends no session. The form posts what is set of return_to.
type Logout struct {
	Action   string
	ReturnTo string // also where "stay logged in" leads; the start page if empty
	User     string // who is logged in, if that is known

	// Everywhere offers to end the person's other sessions, too. The form then posts everywhere ("true" or absent).
	Everywhere bool

	// FormOrigins are the origins besides our own that the answer to the form redirects to (the provider's). One that
	// is not named here, and not our own, does not get loaded. What is not a plain origin is left out.
	FormOrigins []string
}

// Logout asks whether to log out.
func (p *Pages) Logout(w http.ResponseWriter, r *http.Request, v Logout) {
	t := p.textFor(r)
	back := v.ReturnTo
	if back == "" {
		back = "/"
	}
	p.show(w, r, http.StatusOK, "logout", sheet{T: t, Title: t.LogOut, formOrigins: v.FormOrigins, Data: struct {
		Logout
		Back   string
		Hidden []field
	}{v, back, []field{{"return_to", v.ReturnTo}}}})
}

// Confirm is the question after a login that ended in another user than the browser had before. The form posts token
// and choice, "continue" or "cancel".
type Confirm struct {
	OldUser, NewUser string // as people know them; "" if unknown
	Action           string
	Token            string // whatever the login needs to go on
}

// Confirm asks whether to go on as somebody else.
func (p *Pages) Confirm(w http.ResponseWriter, r *http.Request, v Confirm) {
	t := p.textFor(r)
	p.show(w, r, http.StatusOK, "confirm", sheet{T: t, Title: t.OtherUser, Data: struct {
		Confirm
		Hidden []field
	}{v, []field{{"token", v.Token}}}})
}
