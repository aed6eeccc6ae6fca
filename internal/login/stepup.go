package login

import (
	"errors"
	"net/http"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/dialect"
	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/limit"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// stepUp answers POST /auth/login with "step_up": the session stays, and shows the second factor that its provider
// wants to see before it refreshes. The password is not asked for again where the provider does not want it.
func (h *Handler) stepUp(w http.ResponseWriter, r *http.Request, a attempt) {
	pass, refusal := h.Gate.Decide(r.Context(), h.Gate.Facts(r), gate.Requirement{Session: gate.Required, Action: true})
	if refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	live := pass.Live
	s := live.Session()
	p, ok := h.pick(s.Provider, func(c config.Provider) bool { return canPassword(c) || canRedirect(c) })
	if !ok {
		h.no(w, r, a, web.NewProblem(web.CodeLoginFailed, "The provider of this session is not configured any more. Log in again.").Login("/auth/login"))
		return
	}
	who := attemptOf{Provider: p.Config.Name, Account: limit.Account("step-up "+s.Issuer, s.Subject), Address: limit.Address(client(r))}
	if problem := h.bounded(r, &who, a.challenge); problem != nil {
		h.no(w, r, a, problem)
		return
	}
	ctx, cancel := detached(r)
	defer cancel()
	demand, err := h.Sessions.Demand(ctx, live)
	var unavailable *session.Unavailable
	switch {
	case errors.As(err, &unavailable):
		h.no(w, r, a, web.NewProblem(web.CodeProviderUnavailable, "Try again in a moment.").After(max(unavailable.RetryAfter, time.Second)).Because(err))
		return
	case err != nil:
		h.no(w, r, a, web.NewProblem(web.CodeSessionEnded, "Log in again.").Login(loginPath(a.returnTo)).Because(err))
		return
	case demand == nil: // the provider wants nothing: the session is as good as new
		h.Limits.refund(ctx, who)
		h.already(w, r, a, live)
		return
	}
	d, err := h.speak(ctx, p)
	var state *dialect.State
	if err == nil {
		state, err = d.Resume(ctx, demand, dialect.Credentials{
			Username: gate.NameOf(s), Client: client(r).String(), RedirectURI: h.redirectURI(p), State: web.NewID(),
		})
	}
	if err != nil {
		h.rejected(w, r, p, a, err)
		return
	}
	h.goOn(ctx, w, r, taken{p: p, html: a.html, run: &running{progress: progress{
		Provider: p.Config.Name, Issuer: s.Issuer, ReturnTo: a.returnTo, Remember: s.Remember, Started: time.Now().UTC(),
		State: *state, Who: who, Session: s.Handle, Subject: s.Subject,
	}}})
}

// already answers with the session that is there.
func (h *Handler) already(w http.ResponseWriter, r *http.Request, a attempt, live *session.Live) {
	if a.html {
		h.goTo(w, r, a.returnTo, http.StatusSeeOther)
		return
	}
	view := gate.ViewOf(live)
	web.WriteJSON(w, http.StatusOK, done{Status: "done", User: view.User, Session: view.Session, ReturnTo: a.returnTo})
}
