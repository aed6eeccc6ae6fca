package login

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/dialect"
	"github.com/cloakroom/cloakroom/internal/page"
	"github.com/cloakroom/cloakroom/internal/web"
)

// stepPath is where a login by form goes on.
const stepPath = "/auth/login/step"

// stepView is what a login waits for, as JSON: a union told apart by status (DESIGN.md section 10). Nothing of what the
// provider gave us for the next step is in it.
type stepView struct {
	Status      dialect.Status `json:"status"`
	Transaction string         `json:"transaction,omitempty"`
	Factors     []factorView   `json:"factors,omitempty"`
	Selected    *selectedView  `json:"selected,omitempty"`
	OTP         *otpView       `json:"otp,omitempty"`
	Recovery    []string       `json:"recovery_codes,omitempty"`
	Here        bool           `json:"here,omitempty"` // the new password can be sent here
	URL         string         `json:"url,omitempty"`
	Reason      string         `json:"reason,omitempty"`
	Expires     *time.Time     `json:"expires_at,omitempty"`
}

type factorView struct {
	ID   string       `json:"id"`
	Type dialect.Type `json:"type"`
	Name string       `json:"name"`
}

type selectedView struct {
	ID       string       `json:"id"`
	Type     dialect.Type `json:"type"`
	Input    string       `json:"input"` // code | wait
	Display  string       `json:"display_code,omitempty"`
	Interval int          `json:"interval,omitempty"` // seconds between two polls
	Resend   bool         `json:"resend,omitempty"`
}

type otpView struct {
	Secret string `json:"secret,omitempty"`
	URI    string `json:"uri,omitempty"`
	QR     string `json:"qr_svg,omitempty"`
}

// viewOf is a login in progress as JSON.
func viewOf(run *running) stepView {
	s := run.State
	expires := run.expires().UTC()
	v := stepView{Status: s.Status, Transaction: run.id, Recovery: s.RecoveryCodes, Here: s.Here, Expires: &expires, Factors: []factorView{}}
	for _, f := range s.Factors {
		v.Factors = append(v.Factors, factorView{f.ID, f.Type, f.Name})
	}
	if f, ok := s.Factor(); ok {
		v.Selected = &selectedView{f.ID, f.Type, s.Input, s.Display, web.Seconds(s.Interval), s.Resend}
	}
	if s.Status == dialect.Enroll && (s.Secret != "" || s.URI != "") {
		v.OTP = &otpView{Secret: s.Secret, URI: s.URI}
		v.OTP.QR, _ = page.QR(s.URI) // without a picture the secret can be typed in
	}
	return v
}

// expires is when a login is over: ten minutes after it began, or when the provider's patience ends.
func (p progress) expires() time.Time {
	end := p.Started.Add(web.TransactionLife)
	if s := p.State.Expires; !s.IsZero() && s.Before(end) {
		return s
	}
	return end
}

// waits answers with what the login waits for. problem says what was wrong with the step before, nil for nothing.
func (h *Handler) waits(w http.ResponseWriter, r *http.Request, run *running, html bool, problem *web.Problem) {
	switch {
	case html && problem != nil:
		problem.Headers(w, r)
		h.stepPage(w, r, problem.Status, run, problem)
	case html:
		h.goTo(w, r, stepPath+"?transaction="+run.id, http.StatusSeeOther)
	case problem != nil:
		problem.Step = viewOf(run)
		problem.Write(w, r)
	default:
		web.WriteJSON(w, http.StatusAccepted, viewOf(run))
	}
}

// stepPage shows a login in progress to a person.
func (h *Handler) stepPage(w http.ResponseWriter, r *http.Request, status int, run *running, problem *web.Problem) {
	s := run.State
	v := page.Step{
		Action: stepPath, Transaction: run.id, Status: string(s.Status), Subject: hostOf(h.origin), ReturnTo: run.ReturnTo,
		Display: s.Display, Wait: s.Input == dialect.Wait, Interval: s.Interval, Resend: s.Resend,
		Secret: spaced(s.Secret), URI: s.URI, RecoveryCodes: s.RecoveryCodes, Left: time.Until(run.expires()),
	}
	for _, f := range s.Factors {
		v.Factors = append(v.Factors, page.Factor{ID: f.ID, Type: string(f.Type), Name: f.Name})
	}
	if i := slices.IndexFunc(s.Factors, func(f dialect.Factor) bool { return f.ID == s.Selected }); i >= 0 {
		v.Selected = &v.Factors[i]
	}
	if problem != nil {
		v.Message, v.RetryAfter = messageOf(problem), problem.RetryAfter
	}
	h.Pages.Step(w, r, status, v)
}

// messageOf is what a page says of a step that went wrong: the same codes mean something else than at the password.
func messageOf(p *web.Problem) string {
	switch p.Code {
	case web.CodeInvalidCredentials:
		return page.WrongCode
	case web.CodeAccessDenied:
		return page.Declined
	case web.CodeInvalidRequest:
		return page.StepUnclear
	}
	return p.Code
}

// spaced writes a secret in groups of four, as people read it.
func spaced(secret string) string {
	var b strings.Builder
	for i, r := range secret {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}
