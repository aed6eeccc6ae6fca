package account

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// leaving is a logout that goes on at the provider. It rests sealed in the browser, because the session that knew
// it is over.
type leaving struct {
	Provider string    `json:"p"`
	Hint     string    `json:"h,omitempty"` // the ID token: the one token that ever passes the browser, sealed
	SID      string    `json:"s,omitempty"`
	Started  time.Time `json:"t"`
}

const (
	purposeLogout = "logout"
	// leavingLife is how long the way out stays open.
	leavingLife = 2 * time.Minute
)

// begin prepares the way to the provider's logout and returns our address that goes on, or "" where there is
// nothing to end: no end-session endpoint, or a login by form, which left no session at the provider.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, s *session.Session, hint string) string {
	p := h.Providers[s.Provider]
	if p == nil || s.Method != "redirect" || p.EndSessionURL(oidc.Logout{IDTokenHint: hint}) == "" {
		return ""
	}
	id := web.NewID()
	l := leaving{Provider: s.Provider, Hint: hint, SID: s.SID, Started: time.Now().UTC()}
	h.Transactions.Room(w, r)
	err := h.Transactions.Put(w, id, purposeLogout, http.SameSiteLaxMode, l)
	if errors.Is(err, web.ErrTooLarge) {
		l.Hint = ""
		err = h.Transactions.Put(w, id, purposeLogout, http.SameSiteLaxMode, l)
	}
	if err != nil {
		return ""
	}
	return "/auth/logout/continue?id=" + id
}

// Continue serves GET /auth/logout/continue: once, within two minutes, for a navigation of the whole tab.
func (h *Handler) Continue(w http.ResponseWriter, r *http.Request) {
	f := h.Gate.Facts(r)
	_, refusal := h.Gate.Decide(r.Context(), f, gate.Requirement{Session: gate.None, Action: true, Pages: true})
	if refusal == nil && f.Mode != "" && !f.Navigation() {
		refusal = &gate.Refusal{Problem: web.NewProblem(web.CodeCrossOrigin, "Go to this address with the whole tab.")}
	}
	if refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	id := r.URL.Query().Get("id")
	var l leaving
	if !h.Transactions.Get(r, id, purposeLogout, &l) || time.Since(l.Started) > leavingLife {
		h.home(w, r)
		return
	}
	h.Transactions.Cookies.ClearTransaction(w, id)
	first, err := h.Store.Once(r.Context(), "logout:"+h.Origin+":"+id, l.Started.Add(2*leavingLife))
	p := h.Providers[l.Provider]
	if err != nil || !first || p == nil {
		h.home(w, r)
		return
	}
	target := p.EndSessionURL(oidc.Logout{IDTokenHint: l.Hint, LogoutHint: l.SID, PostLogoutRedirectURI: h.Origin + "/"})
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, target, http.StatusFound)
}

// home is where a logout ends that cannot go on: our session is over in any case.
func (h *Handler) home(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "same-origin")
	http.Redirect(w, r, "/", http.StatusFound)
}

func returnToOr(s, other string) string {
	if to, ok := web.ReturnTo(s); ok {
		return to
	}
	return other
}

func parseForm(raw []byte) (url.Values, error) { return url.ParseQuery(string(raw)) }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// origins is the origin of a URL as a list, empty for none.
func origins(raw string) []string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return nil
	}
	return []string{u.Scheme + "://" + u.Host}
}
