package gate

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// StepUp is what a login must have been, in the words of OpenID Connect (acr_values, max_age) and RFC 9470.
type StepUp struct {
	ACRValues string        // any of them, apart by spaces; "" = any login
	MaxAge    time.Duration // how long ago at most
	Now       bool          // max_age=0: it must be a new one
}

// met reports whether a session's login was such.
func (s StepUp) met(live *session.Session) bool {
	switch {
	case s.Now:
		return false
	case s.MaxAge > 0 && time.Since(live.AuthTime) > s.MaxAge:
		return false
	case s.ACRValues != "" && s.ACRValues != live.ACR:
		return slices.Contains(strings.Fields(s.ACRValues), live.ACR)
	}
	return true
}

// stepView is the problem's member step: what the app has to do, as one typed answer.
type stepView struct {
	Status    string `json:"status"` // redirect: go to url; step_up: POST /auth/login {"step_up": true}
	URL       string `json:"url,omitempty"`
	ACRValues string `json:"acr_values,omitempty"`
	MaxAge    *int   `json:"max_age,omitempty"`
}

// StepUp refuses a request whose session is fine and whose login was not strong or fresh enough. The session stays.
func (g *Gate) StepUp(f Facts, s StepUp) *Refusal {
	q := url.Values{}
	step := stepView{Status: "redirect", ACRValues: s.ACRValues}
	if s.ACRValues != "" {
		q.Set("acr_values", s.ACRValues)
	}
	if s.Now || s.MaxAge > 0 {
		seconds := int(s.MaxAge / time.Second)
		step.MaxAge = &seconds
		q.Set("max_age", strconv.Itoa(seconds))
	}
	step.URL = "/auth/login?" + q.Encode()
	problem := web.NewProblem(web.CodeStepUpRequired, "This needs a fresher or stronger login. Log in again at login_url; add return_to to come back.").Login(step.URL)
	problem.Step = step
	if !f.Navigation() {
		return &Refusal{Problem: problem}
	}
	if target, ok := web.ReturnTo(f.URL.RequestURI()); ok {
		q.Set("return_to", target)
	}
	return &Refusal{Problem: problem, Login: "/auth/login?" + q.Encode()}
}

// Wanted refuses a request whose session is fine and whose provider wants to see the person before it refreshes.
func (g *Gate) Wanted(f Facts) *Refusal {
	refusal := g.noSession(f, web.CodeStepUpRequired, "The provider wants to see you again before it goes on. Log in again.")
	refusal.Problem.Step = stepView{Status: "step_up"}
	return refusal
}
