package login

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/limit"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/page"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// grid is when failures are released: at multiples of it after the request came, so that the time of an answer
// does not tell an unknown user from a wrong password.
const grid = 250 * time.Millisecond

// done is the answer to a login by JSON.
type done struct {
	Status   string            `json:"status"`
	User     any               `json:"user"`
	Session  *gate.SessionView `json:"session"`
	ReturnTo string            `json:"return_to"`
}

// escalation is the step "go on at the hosted page" (DESIGN.md section 10).
type escalation struct {
	Status string `json:"status"` // redirect
	URL    string `json:"url"`
	Reason string `json:"reason"` // captcha | consent | unsupported_factor | provider_policy
}

// Submit serves POST /auth/login: the own-domain login.
func (h *Handler) Submit(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	pass, refusal := h.Gate.Decide(r.Context(), h.Gate.Facts(r), gate.Requirement{Session: gate.None, Action: true})
	if refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	h.Gate.Apply(w, pass)
	if _, ok := h.pick("", canPassword); !ok {
		h.refuse(w, r, web.NewProblem(web.CodeNotFound, "This app has no login by form. Its logins start at /auth/login/redirect."))
		return
	}
	a, problem := read(w, r)
	if problem != nil {
		h.no(w, r, a, problem)
		return
	}
	p, ok := h.pick(a.provider, canPassword)
	if !ok {
		h.no(w, r, a, web.NewProblem(web.CodeInvalidRequest, "There is no such provider with a login by form."))
		return
	}
	account, address := limit.Account(p.Config.Name, a.username), limit.Address(client(r))
	if wait, hit := h.limited(account, address); hit != "" {
		h.audit(r, event.Audit{Kind: event.LimitHit, Provider: p.Config.Name, Reason: hit})
		h.no(w, r, a, web.NewProblem(web.CodeTooManyAttempts, "Wait a while before you try again.").After(wait))
		return
	}
	ctx, cancel := detached(r)
	defer cancel()
	x, err := p.Client.Password(ctx, oidc.PasswordRequest{Username: a.username, Password: a.password, ClientAddress: client(r).String()})
	if err != nil {
		if release(r, began) {
			h.rejected(w, r, p, a, err)
		}
		return
	}
	h.PerAccount.Give(account)
	h.PerAddress.Give(address)
	h.welcome(w, r, p, a, x)
}

// limited counts the attempt. hit names the limit that was reached. The attempt is counted before the provider is
// asked and given back after a success, so that parallel guesses cannot slip past.
func (h *Handler) limited(account, address string) (wait time.Duration, hit string) {
	if ok, wait := h.PerAddress.Take(address); !ok {
		return wait, "per_address"
	}
	if ok, wait := h.PerAccount.Take(account); !ok {
		return wait, "per_account"
	}
	return 0, ""
}

func client(r *http.Request) netip.Addr {
	if info := web.InfoOf(r); info != nil {
		return info.Client
	}
	return netip.Addr{}
}

// welcome keeps the session and hands over the ticket. It is always a new one: a ticket that was in the browser
// before (fixed by somebody, or of an older session) opens nothing from now on.
func (h *Handler) welcome(w http.ResponseWriter, r *http.Request, p Provider, a attempt, x oidc.Exchange) {
	ctx, cancel := detached(r)
	defer cancel()
	login := from(r, session.Login{Provider: p.Config.Name, Method: "password", Exchange: x, Remember: a.remember})
	if carried := h.Transactions.Cookies.Read(r); carried.Tickets == 1 {
		if old, err := session.ParseTicket(carried.Ticket); err == nil {
			login.Replaces = &old
		}
	}
	ticket, live, err := h.Sessions.Create(ctx, login)
	if err != nil {
		h.no(w, r, a, notKept(err))
		return
	}
	h.audit(r, event.Audit{Kind: event.Login, Provider: p.Config.Name, Session: live.Session().Handle, Reason: "password"})
	h.handOver(w, ticket, a.remember)
	if a.html {
		h.goTo(w, r, a.returnTo, http.StatusSeeOther)
		return
	}
	view := gate.ViewOf(live)
	web.WriteJSON(w, http.StatusOK, done{Status: "done", User: view.User, Session: view.Session, ReturnTo: a.returnTo})
}

// rejected answers what the provider said no to. Unknown user and wrong password look the same, in time, too.
func (h *Handler) rejected(w http.ResponseWriter, r *http.Request, p Provider, a attempt, err error) {
	var e *oidc.Error
	reason := oidc.ReasonUnavailable
	if errors.As(err, &e) && e.Reason != "" {
		reason = e.Reason
	}
	h.audit(r, event.Audit{Kind: event.LoginFailed, Provider: p.Config.Name, Reason: string(reason)})
	switch reason {
	case oidc.ReasonInvalidCredentials:
		h.no(w, r, a, web.NewProblem(web.CodeInvalidCredentials, "Check both and try again.").Because(err))
	case oidc.ReasonAccountBlocked:
		h.no(w, r, a, web.NewProblem(web.CodeAccountBlocked, "Ask the operator of this site to unblock it.").Because(err))
	case oidc.ReasonPasswordBreached:
		h.no(w, r, a, web.NewProblem(web.CodePasswordBreached, "Choose a new password: the login service has sent you a message.").Because(err))
	case oidc.ReasonAccessDenied:
		h.no(w, r, a, web.NewProblem(web.CodeAccessDenied, "The login service does not let you in.").Because(err))
	case oidc.ReasonRateLimited:
		h.no(w, r, a, web.NewProblem(web.CodeTooManyAttempts, "Wait a while before you try again.").After(max(e.RetryAfter, time.Minute)).Because(err))
	case oidc.ReasonStepUp:
		h.escalate(w, r, p, a, err)
	default:
		h.no(w, r, a, providerDown(err))
	}
}

// escalate goes on at the hosted page with what the form cannot do; never a dead end while there is such a page.
func (h *Handler) escalate(w http.ResponseWriter, r *http.Request, p Provider, a attempt, err error) {
	if !canRedirect(p.Config) {
		h.no(w, r, a, web.NewProblem(web.CodeAccessDenied, "The login service asks for a step that this form cannot do.").Because(err))
		return
	}
	next := redirectPath(p.Config.Name, a.returnTo, a.username)
	if a.html {
		h.Pages.Leave(w, r, next) // a redirect would break off at the form's own policy
		return
	}
	web.WriteJSON(w, http.StatusAccepted, escalation{Status: "redirect", URL: next, Reason: "unsupported_factor"})
}

// release waits for the next multiple of the grid. false: the client went away.
func release(r *http.Request, began time.Time) bool {
	wait := grid - time.Since(began)%grid
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// no answers an attempt that did not succeed: the page again with the message, or the problem.
func (h *Handler) no(w http.ResponseWriter, r *http.Request, a attempt, p *web.Problem) {
	if !a.html {
		p.Write(w, r)
		return
	}
	p.Headers(w, r)
	h.show(w, r, p.Status, form{
		returnTo: a.returnTo, username: a.username, provider: a.provider, remember: a.remember,
		message: p.Code, wait: p.RetryAfter,
	})
}

// form is what the login page shows again after an attempt.
type form struct {
	returnTo, username, provider, message string
	wait                                  time.Duration
	remember                              bool
}

// Page serves GET /auth/login. With nothing but a hosted page to offer it goes straight there.
func (h *Handler) Page(w http.ResponseWriter, r *http.Request) {
	f := h.Gate.Facts(r)
	if _, refusal := h.Gate.Decide(r.Context(), f, gate.Requirement{Session: gate.None, Pages: true, Action: !plainGet(f)}); refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	returnTo, problem := returnToOf(r.URL.Query().Get("return_to"))
	if problem != nil {
		h.refuse(w, r, problem)
		return
	}
	_, byForm := h.pick("", canPassword)
	p, byRedirect := h.pick("", canRedirect)
	switch {
	case byRedirect && (!byForm || !h.Frontend.HasLoginPage()) && h.onlyRedirect() && startOf(f, r) == startHere:
		h.begin(w, r, ask{provider: p, returnTo: returnTo})
	case !h.Frontend.HasLoginPage() && !byRedirect:
		h.refuse(w, r, web.NewProblem(web.CodeNotFound, "This app shows its own login form."))
	default:
		h.show(w, r, http.StatusOK, form{returnTo: returnTo})
	}
}

// plainGet is a request of a client without Fetch metadata that only looks: curl, a probe, an old browser.
func plainGet(f gate.Facts) bool {
	return f.Site == "" && f.Mode == "" && f.Origin == ""
}

// onlyRedirect reports whether there is exactly one way to a hosted page, so that nothing is left to choose.
func (h *Handler) onlyRedirect() bool {
	n := 0
	for _, p := range h.Providers {
		if canRedirect(p.Config) {
			n++
		}
	}
	return n == 1
}

// show renders the login page.
func (h *Handler) show(w http.ResponseWriter, r *http.Request, status int, f form) {
	v := page.Login{
		Action: "/auth/login", ReturnTo: f.returnTo, Username: f.username, Provider: f.provider,
		Message: f.message, RetryAfter: f.wait, Remember: f.remember, Subject: hostOf(h.origin),
	}
	_, v.Form = h.pick("", canPassword)
	v.Form = v.Form && h.Frontend.HasLoginPage()
	for _, p := range h.Providers {
		if canRedirect(p.Config) {
			v.Providers = append(v.Providers, page.Button{
				Label: h.label(p), URL: redirectPath(h.named(p), f.returnTo, ""),
			})
		}
	}
	h.Pages.Login(w, r, status, v)
}

// label names a provider on its button, which the page words in the reader's language. A single one needs no name.
func (h *Handler) label(p Provider) string {
	if len(h.Providers) == 1 {
		return ""
	}
	return p.Config.Name
}

// named is the provider's name where there is a choice.
func (h *Handler) named(p Provider) string {
	if len(h.Providers) == 1 {
		return ""
	}
	return p.Config.Name
}

// hostOf is what people call the app: the origin without its scheme.
func hostOf(origin string) string {
	_, host, _ := strings.Cut(origin, "://")
	return host
}
