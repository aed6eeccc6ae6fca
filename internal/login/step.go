package login

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cloakroom/cloakroom/internal/dialect"
	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/page"
	"github.com/cloakroom/cloakroom/internal/web"
)

// StepPage serves GET /auth/login/step: what a login in progress waits for, for a person. It changes nothing.
func (h *Handler) StepPage(w http.ResponseWriter, r *http.Request) {
	f := h.Gate.Facts(r)
	if _, refusal := h.Gate.Decide(r.Context(), f, gate.Requirement{Session: gate.None, Pages: true, Action: !plainGet(f)}); refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	run, err := h.progresses().find(r.Context(), r, r.URL.Query().Get("transaction"))
	if problem := noProgress(err); problem != nil {
		h.refuse(w, r, problem)
		return
	}
	var said *web.Problem
	if r.URL.Query().Get("said") == page.Declined { // the page's script asked, and was told
		said = web.NewProblem(web.CodeAccessDenied, "")
	}
	h.stepPage(w, r, http.StatusOK, run, said)
}

// Step serves POST /auth/login/step: the next step of a login by form.
func (h *Handler) Step(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	if _, refusal := h.Gate.Decide(r.Context(), h.Gate.Facts(r), gate.Requirement{Session: gate.None, Action: true}); refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	fields, html, problem := readFields(w, r, stepMembers)
	if problem != nil {
		h.refuseStep(w, r, html, problem)
		return
	}
	ctx, cancel := detached(r)
	defer cancel()
	run, err := h.progresses().find(ctx, r, fields["transaction"])
	if problem := noProgress(err); problem != nil {
		h.refuseStep(w, r, html, problem)
		return
	}
	p, ok := h.pick(run.Provider, canPassword)
	if !ok || p.Client.Issuer() != run.Issuer {
		h.over(ctx, w, r, taken{run: run, html: html}, errors.New("the provider of this login is not configured any more"))
		return
	}
	if fields["action"] == "cancel" {
		h.cancel(ctx, w, r, run, html)
		return
	}
	h.act(ctx, w, r, taken{p: p, run: run, html: html, began: began, action: dialect.Action{
		Do: fields["action"], Factor: fields["factor"], Code: fields["code"], Password: fields["password"],
		Target: fields["phone_number"] + fields["email"],
	}})
}

// taken is a step that is being taken.
type taken struct {
	p      Provider
	run    *running
	action dialect.Action
	html   bool
	began  time.Time
}

// act counts the step, asks the provider, keeps what it said and answers.
func (h *Handler) act(ctx context.Context, w http.ResponseWriter, r *http.Request, t taken) {
	run, keep := t.run, h.progresses()
	early := false
	err := keep.take(ctx, run, func(p *progress) error {
		early = t.action.Do == dialect.DoPoll && time.Since(p.Asked) < p.State.Interval
		return p.count(t.action.Do)
	})
	switch {
	case errors.Is(err, errTooMany):
		h.audit(r, event.Audit{Kind: event.LimitHit, Provider: run.Provider, Reason: "per_login"})
		h.over(ctx, w, r, t, err)
		return
	case err != nil:
		h.refuseStep(w, r, t.html, noProgress(err))
		return
	}
	var x *oidc.Exchange
	if early { // the provider would say slow_down
		err = nil
	} else {
		d, speakErr := h.speak(ctx, t.p)
		if err = speakErr; err == nil {
			x, err = d.Act(ctx, &run.State, t.action)
			run.Asked = time.Now()
		}
	}
	if x != nil {
		h.finishForm(ctx, w, r, t, *x)
		return
	}
	if saveErr := keep.leave(ctx, run); saveErr != nil {
		h.refuseStep(w, r, t.html, noProgress(saveErr))
		return
	}
	if err != nil && !release(r, t.began) {
		return
	}
	h.next(ctx, w, r, t, err)
}

// count says what a step costs.
func (p *progress) count(do string) error {
	switch do {
	case dialect.DoSubmit:
		p.Codes++
	case dialect.DoChoose, dialect.DoResend, dialect.DoEnroll:
		p.Sends++
	}
	if p.Codes > mostCodes || p.Sends > mostSends {
		return errTooMany
	}
	return nil
}

// next answers a step after which the login is not done.
func (h *Handler) next(ctx context.Context, w http.ResponseWriter, r *http.Request, t taken, err error) {
	run := t.run
	if err == nil {
		if s := run.State; s.Status == dialect.Redirect || s.Status == dialect.PasswordChange && !s.Here {
			h.progresses().end(ctx, w, run)
			h.elsewhere(w, r, t.p, run.progress, t.html)
			return
		}
		if f, ok := run.State.Factor(); ok && t.action.Do != dialect.DoPoll {
			h.audit(r, event.Audit{Kind: event.LoginStep, Provider: run.Provider, Reason: string(run.State.Status), Detail: string(f.Type)})
		}
		h.waits(w, r, run, t.html, nil)
		return
	}
	if wrong, ok := errors.AsType[*dialect.ActionError](err); ok {
		h.waits(w, r, run, t.html, web.NewProblem(web.CodeInvalidRequest, wrong.Detail))
		return
	}
	reason := reasonOf(err)
	h.audit(r, event.Audit{Kind: event.LoginFailed, Provider: run.Provider, Reason: string(reason), Detail: t.action.Do})
	switch reason {
	case oidc.ReasonInvalidCredentials:
		h.waits(w, r, run, t.html, web.NewProblem(web.CodeInvalidCredentials, "The code is not right. Check it and try again.").Because(err))
	case oidc.ReasonDeclined:
		h.waits(w, r, run, t.html, web.NewProblem(web.CodeAccessDenied, "The login was refused on the other device. Choose how to go on.").Because(err))
	case oidc.ReasonRateLimited:
		h.waits(w, r, run, t.html, web.NewProblem(web.CodeTooManyAttempts, "Wait a while before you try again.").After(waitOf(err, time.Minute)).Because(err))
	case oidc.ReasonPasswordRejected:
		h.waits(w, r, run, t.html, web.NewProblem(web.CodeInvalidRequest, "The new password does not meet the rules. Choose another one.").Because(err))
	case oidc.ReasonUnavailable, oidc.ReasonConfig:
		h.waits(w, r, run, t.html, providerDown(err))
	case oidc.ReasonExpired:
		h.over(ctx, w, r, t, err)
	default:
		h.progresses().end(ctx, w, run)
		h.refuseStep(w, r, t.html, refusedFor(reason, err).Login(loginPath(run.ReturnTo)))
	}
}

func reasonOf(err error) oidc.Reason {
	if e, ok := errors.AsType[*oidc.Error](err); ok && e.Reason != "" {
		return e.Reason
	}
	return oidc.ReasonUnavailable
}

func waitOf(err error, least time.Duration) time.Duration {
	if e, ok := errors.AsType[*oidc.Error](err); ok {
		return max(e.RetryAfter, least)
	}
	return least
}

// finishForm turns the tokens of the last step into a session.
func (h *Handler) finishForm(ctx context.Context, w http.ResponseWriter, r *http.Request, t taken, x oidc.Exchange) {
	run := t.run
	h.progresses().end(ctx, w, run)
	if run.Session != "" && (x.Claims.Subject != run.Subject || x.Claims.Issuer != run.Issuer) {
		err := errors.Join(errors.New("the step-up ended in another person"), t.p.Client.Revoke(ctx, x.Tokens))
		h.refuseStep(w, r, t.html, web.NewProblem(web.CodeLoginFailed, "Log in again.").Login(loginPath(run.ReturnTo)).Because(err))
		return
	}
	h.Limits.refund(ctx, run.Who)
	done := attempt{returnTo: run.ReturnTo, remember: run.Remember, html: t.html}
	if run.Session == "" { // at a step-up the account is not the name that was typed in
		done.account = run.Who.Account
	}
	h.welcome(w, r, t.p, done, x)
}

// cancel forgets the login.
func (h *Handler) cancel(ctx context.Context, w http.ResponseWriter, r *http.Request, run *running, html bool) {
	h.progresses().end(ctx, w, run)
	if html {
		h.goTo(w, r, loginPath(run.ReturnTo), http.StatusSeeOther)
		return
	}
	web.WriteJSON(w, http.StatusOK, map[string]string{"status": "canceled", "login_url": loginPath(run.ReturnTo)})
}

// over ends a login that cannot go on.
func (h *Handler) over(ctx context.Context, w http.ResponseWriter, r *http.Request, t taken, err error) {
	run, html := t.run, t.html
	h.progresses().end(ctx, w, run)
	h.refuseStep(w, r, html, web.NewProblem(web.CodeLoginExpired, "Log in again, from the password on.").Login(loginPath(run.ReturnTo)).Because(err))
}

// noProgress is the problem of a login that cannot be found or kept.
func noProgress(err error) *web.Problem {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNoProgress):
		return web.NewProblem(web.CodeLoginExpired, "Log in again, from the password on.").Login("/auth/login").Because(err)
	case errors.Is(err, errBusy):
		return web.NewProblem(web.CodeTooManyAttempts, "Another step of this login is being taken. Try again in a moment.").After(time.Second).Because(err)
	}
	return web.NewProblem(web.CodeStoreUnavailable, "Try again in a moment.").After(5 * time.Second).Because(err)
}

// refuseStep answers without a login to show: a page for a form, JSON for a script.
func (h *Handler) refuseStep(w http.ResponseWriter, r *http.Request, html bool, p *web.Problem) {
	if html {
		h.Gate.Page(w, r, p)
		return
	}
	p.Write(w, r)
}
