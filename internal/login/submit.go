package login

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/dialect"
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
	Recovery []string          `json:"recovery_codes,omitempty"` // a new one, shown once: the last was used
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
	a, problem := read(w, r)
	if problem != nil {
		h.no(w, r, a, problem)
		return
	}
	if a.stepUp {
		h.stepUp(w, r, a)
		return
	}
	p, ok := h.pick(a.provider, canPassword)
	if hosted, hasPage := h.pick(a.provider, canRedirect); !ok && hasPage { // the app's code need not know
		h.elsewhere(w, r, hosted, progress{ReturnTo: a.returnTo, State: dialect.State{
			Status: dialect.Redirect, Reason: dialect.ProviderPolicy, Account: a.username,
		}}, a.html)
		return
	}
	if !ok {
		h.no(w, r, a, web.NewProblem(web.CodeInvalidRequest, "There is no such provider with a login by form."))
		return
	}
	who := h.attemptOf(r, p, a)
	if problem := h.bounded(r, &who, a.challenge); problem != nil {
		h.no(w, r, a, problem)
		return
	}
	ctx, cancel := detached(r)
	defer cancel()
	x, state, err := h.password(ctx, r, p, a)
	switch {
	case err != nil:
		if release(r, began) {
			h.rejected(w, r, p, a, err)
		}
	case x != nil:
		h.Limits.refund(ctx, who)
		a.account = who.Account
		h.welcome(w, r, p, a, *x)
	default:
		h.goOn(ctx, w, r, taken{p: p, html: a.html, run: &running{progress: progress{
			Provider: p.Config.Name, Issuer: p.Client.Issuer(), ReturnTo: a.returnTo, Remember: a.remember, Started: time.Now().UTC(),
			State: *state, Who: who,
		}}})
	}
}

// attemptOf is who tries to log in, as the limits see it.
func (h *Handler) attemptOf(r *http.Request, p Provider, a attempt) attemptOf {
	who := attemptOf{
		Provider: p.Config.Name, Address: limit.Address(client(r)),
		Account: limit.Account(h.origin+" "+p.Config.Name, a.username),
	}
	if d := h.deviceOf(r); h.knows(r.Context(), d, who.Account) {
		who.Device = d.ID
	}
	return who
}

// password shows the password to the provider.
func (h *Handler) password(ctx context.Context, r *http.Request, p Provider, a attempt) (*oidc.Exchange, *dialect.State, error) {
	d, err := h.speak(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	return d.Begin(ctx, dialect.Credentials{
		Username: a.username, Password: a.password, OTP: a.otp, Client: client(r).String(),
		RedirectURI: h.redirectURI(p), State: web.NewID(),
	})
}

// speak is how a provider does a login by form: at its challenge endpoint where it has one, unless the configuration
// says otherwise, else in the dialect of its profile.
func (h *Handler) speak(ctx context.Context, p Provider) (dialect.Dialect, error) {
	if p.Config.PasswordMethod == "grant" {
		return dialect.New(p.Client, false), nil
	}
	e, err := p.Client.Endpoints(ctx)
	if err != nil {
		return nil, err
	}
	if p.Config.PasswordMethod == "challenge" && e.Challenge == "" {
		return nil, &oidc.Error{Kind: oidc.Misconfigured, Act: "discovery", Code: "no_challenge_endpoint", Reason: oidc.ReasonConfig}
	}
	return dialect.New(p.Client, e.Challenge != ""), nil
}

// goOn keeps a login whose password was right and says what it waits for.
func (h *Handler) goOn(ctx context.Context, w http.ResponseWriter, r *http.Request, t taken) {
	p, v, html := t.p, t.run.progress, t.html
	if s := v.State; s.Status == dialect.Redirect || s.Status == dialect.PasswordChange && !s.Here {
		h.elsewhere(w, r, p, v, html)
		return
	}
	run, err := h.progresses().begin(ctx, w, r, v)
	if err != nil {
		h.refuseStep(w, r, html, noProgress(err))
		return
	}
	h.audit(r, event.Audit{Kind: event.LoginStep, Provider: p.Config.Name, Reason: string(v.State.Status)})
	h.waits(w, r, run, html, nil)
}

func (h *Handler) progresses() progresses { return progresses{h.Transactions, h.Store} }

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
	if a.account != "" {
		h.remember(w, r, a.account, x.Claims)
	}
	var recovery []string
	if code := x.RecoveryCode.Reveal(); code != "" {
		recovery = []string{code}
	}
	if a.html && recovery != nil {
		h.Pages.Recovery(w, r, page.Recovery{Codes: recovery, Next: a.returnTo})
		return
	}
	if a.html {
		h.goTo(w, r, a.returnTo, http.StatusSeeOther)
		return
	}
	view := gate.ViewOf(live)
	web.WriteJSON(w, http.StatusOK, done{Status: "done", User: view.User, Session: view.Session, ReturnTo: a.returnTo, Recovery: recovery})
}

// rejected answers what the provider said no to. Unknown user and wrong password look the same, in time, too.
func (h *Handler) rejected(w http.ResponseWriter, r *http.Request, p Provider, a attempt, err error) {
	reason := reasonOf(err)
	h.audit(r, event.Audit{Kind: event.LoginFailed, Provider: p.Config.Name, Reason: string(reason)})
	h.no(w, r, a, refusedFor(reason, err))
}

// refusedFor is the problem of a login that the provider refused.
func refusedFor(reason oidc.Reason, err error) *web.Problem {
	switch reason {
	case oidc.ReasonInvalidCredentials:
		return web.NewProblem(web.CodeInvalidCredentials, "Check both and try again.").Because(err)
	case oidc.ReasonAccountBlocked:
		return web.NewProblem(web.CodeAccountBlocked, "Ask the operator of this site to unblock it.").Because(err)
	case oidc.ReasonPasswordBreached:
		return web.NewProblem(web.CodePasswordBreached, "Choose a new password: the login service has sent you a message.").Because(err)
	case oidc.ReasonAccessDenied, oidc.ReasonDeclined:
		return web.NewProblem(web.CodeAccessDenied, "The login service does not let you in.").Because(err)
	case oidc.ReasonRateLimited:
		return web.NewProblem(web.CodeTooManyAttempts, "Wait a while before you try again.").After(waitOf(err, time.Minute)).Because(err)
	}
	return providerDown(err)
}

// elsewhere goes on at the hosted page with what the form cannot do; never a dead end while there is such a page.
func (h *Handler) elsewhere(w http.ResponseWriter, r *http.Request, p Provider, v progress, html bool) {
	s := v.State
	h.audit(r, event.Audit{Kind: event.LoginStep, Provider: p.Config.Name, Reason: string(s.Status), Detail: s.Reason})
	if !canRedirect(p.Config) {
		h.refuseStep(w, r, html, web.NewProblem(web.CodeAccessDenied, "The login service asks for a step that this form cannot do.").Login(loginPath(v.ReturnTo)))
		return
	}
	next := hosted{provider: h.named(p), returnTo: v.ReturnTo, loginHint: s.Account}.path()
	if s.RequestID != "" {
		if path, ok := h.pushed(w, r, p, v); ok {
			next = path
		}
	}
	if html {
		h.Pages.Leave(w, r, next) // a redirect would break off at the form's own policy
		return
	}
	web.WriteJSON(w, http.StatusAccepted, stepView{Status: s.Status, URL: next, Reason: s.Reason})
}

// pushed keeps a login that goes on at the provider's page by request_uri (OAuth 2.0 for First-Party Applications,
// draft 04, section 5.2.2.1.1): the code will be for the verifier and the nonce that the challenge began with.
func (h *Handler) pushed(w http.ResponseWriter, r *http.Request, p Provider, v progress) (string, bool) {
	s := v.State
	tx := transaction{
		ID: s.State, Provider: p.Config.Name, Issuer: p.Client.Issuer(), Nonce: s.Nonce, Verifier: s.Verifier,
		ReturnTo: v.ReturnTo, Started: time.Now().UTC(), Pushed: s.RequestID, PushedEnds: s.Expires, Hint: s.Account,
	}
	h.Transactions.Room(w, r)
	if !web.ValidID(tx.ID) || h.Transactions.Put(w, tx.ID, purposeLogin, http.SameSiteLaxMode, tx) != nil {
		return "", false
	}
	return "/auth/login/redirect?transaction=" + tx.ID, true
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
	acrValues, maxAge                     string // what the login is to be, for the hosted page
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
	wanted := form{returnTo: returnTo, acrValues: r.URL.Query().Get("acr_values"), maxAge: r.URL.Query().Get("max_age")}
	if problem == nil {
		problem = checkWanted(wanted.acrValues, wanted.maxAge)
	}
	if problem != nil {
		h.refuse(w, r, problem)
		return
	}
	_, byForm := h.pick("", canPassword)
	p, byRedirect := h.pick("", canRedirect)
	noForm := !byForm || !h.Frontend.HasLoginPage() || wanted.acrValues != "" // a password alone reaches no other class
	switch {
	case byRedirect && noForm && h.onlyRedirect() && startOf(f, r) == startHere:
		h.begin(w, r, ask{provider: p, returnTo: returnTo, acrValues: wanted.acrValues, maxAge: wanted.maxAge})
	case !h.Frontend.HasLoginPage() && !byRedirect:
		h.refuse(w, r, web.NewProblem(web.CodeNotFound, "This app shows its own login form."))
	default:
		h.show(w, r, http.StatusOK, wanted)
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
	byForm, ok := h.pick(f.provider, canPassword)
	if !ok {
		byForm, ok = h.pick("", canPassword)
	}
	v.OneTimeCode = ok && byForm.Config.Profile == "keycloak" // it takes the code with the password, or not at all
	v.Form = ok && h.Frontend.HasLoginPage()
	for _, p := range h.Providers {
		if canRedirect(p.Config) {
			v.Providers = append(v.Providers, page.Button{
				Label: h.label(p), URL: hosted{provider: h.named(p), returnTo: f.returnTo, acrValues: f.acrValues, maxAge: f.maxAge}.path(),
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
