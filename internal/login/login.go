// Package login takes a person from "not logged in" to a session: the page and the form on the app's own domain,
// the provider's hosted page (authorization code with PKCE), and silent login. A login in progress is a
// transaction, sealed in a cookie of the browser that began it and spent once.
//
// The walk: start(provider, return_to) -> transaction -> provider -> callback -> exchange -> finish -> ticket.
package login

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/page"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
	"github.com/cloakroom/cloakroom/store"
)

// callTime bounds one conversation with the provider while a person waits for it.
const callTime = 30 * time.Second

// Provider is one provider of the frontend: what was configured, and the client that speaks to it.
type Provider struct {
	Config config.Provider
	Client *oidc.Provider
}

// Options make a Handler. All of them belong to one frontend.
type Options struct {
	Frontend     config.Frontend
	Providers    []Provider
	Sessions     *session.Manager
	Gate         *gate.Gate
	Transactions web.Transactions
	Store        store.Store
	Pages        *page.Pages
	Limits       Limits // shared by all frontends
	Human        *Human // nil = no challenge is configured
	Events       event.Sink
}

// Handler serves the /auth/login and /auth/callback addresses of one frontend.
type Handler struct {
	Options
	origin string

	mu      sync.Mutex
	results map[string]*result // callbacks that run or just ran, by transaction id
}

// New makes a handler.
func New(o Options) *Handler {
	return &Handler{Options: o, origin: o.Frontend.URL, results: map[string]*result{}}
}

// pick returns the provider of this name, or the first one that can do what is asked when name is "".
func (h *Handler) pick(name string, can func(config.Provider) bool) (Provider, bool) {
	for _, p := range h.Providers {
		if (name == "" || name == p.Config.Name) && can(p.Config) {
			return p, true
		}
	}
	return Provider{}, false
}

func canPassword(p config.Provider) bool { return p.PasswordLogin }
func canRedirect(p config.Provider) bool { return p.HasRedirectLogin() }

// redirectURI is what is registered at the provider. With several providers each has its own, so that the answer
// of one cannot be passed off as another's (RFC 9700 section 4.4).
func (h *Handler) redirectURI(p Provider) string {
	if len(h.Providers) == 1 {
		return h.origin + "/auth/callback"
	}
	return h.origin + "/auth/callback/" + p.Config.Name
}

// current returns the browser's live session, if the request shows one.
func (h *Handler) current(r *http.Request) *session.Live {
	pass, _ := h.Gate.Decide(r.Context(), h.Gate.Facts(r),
		gate.Requirement{Session: gate.Optional, Pages: true, Quiet: true})
	return pass.Live
}

// hosted is what our own address that starts a hosted login says.
type hosted struct{ provider, returnTo, loginHint, acrValues, maxAge string }

func (t hosted) path() string {
	q := url.Values{}
	if t.returnTo == "/" {
		t.returnTo = ""
	}
	for name, value := range map[string]string{
		"provider": t.provider, "return_to": t.returnTo, "login_hint": t.loginHint, "acr_values": t.acrValues, "max_age": t.maxAge,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(q) == 0 {
		return "/auth/login/redirect"
	}
	return "/auth/login/redirect?" + q.Encode()
}

// refuse answers with a problem: a page for a person on the way to one, JSON for a script.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, p *web.Problem) {
	h.Gate.Refuse(w, r, &gate.Refusal{Problem: p})
}

// detached lets a conversation with the provider end although the browser went away: its answer may be spent.
func detached(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), callTime)
}

func (h *Handler) audit(r *http.Request, a event.Audit) {
	a.Time, a.Frontend = time.Now(), h.origin
	if info := web.InfoOf(r); info != nil {
		a.RequestID, a.Client = info.ID, info.Client.String()
	}
	h.Events.Emit(&a)
}

// handOver gives the browser its ticket. Without "remember me" the cookie ends with the browser.
func (h *Handler) handOver(w http.ResponseWriter, ticket session.Ticket, remember bool) {
	var age time.Duration
	if remember {
		age = h.Frontend.Session.Lifetime.Std()
	}
	h.Transactions.Cookies.SetTicket(w, ticket.Reveal(), age)
}

// from is a login with what its request says of where it comes from, for the person's own list of sessions. It is
// the request that brings the credentials or the code: the browser that will hold the ticket.
func from(r *http.Request, n session.Login) session.Login {
	n.Device = web.DeviceOf(r)
	if info := web.InfoOf(r); info != nil && info.Client.IsValid() {
		n.Address = info.Client.String()
	}
	return n
}
