package account

import (
	"net/http"
	"net/url"

	"github.com/cloakroom/cloakroom/internal/page"
	"github.com/cloakroom/cloakroom/internal/session"
)

// showSessions is the list for a person, without JavaScript.
func (h *Handler) showSessions(w http.ResponseWriter, r *http.Request, l *session.Live, entries []session.Entry, next string) {
	v := page.Sessions{Action: sessionsPath, LogoutURL: "/auth/logout", HomeURL: "/"}
	if r.URL.Query().Get("after") != "" {
		v.FirstURL = sessionsPath
	}
	if next != "" {
		q := url.Values{"after": {next}}
		if limit := r.URL.Query().Get("limit"); limit != "" {
			q.Set("limit", limit)
		}
		v.NextURL = sessionsPath + "?" + q.Encode()
	}
	for _, e := range entries {
		s := e.Session
		row := page.Session{
			ID: s.Handle, Device: s.Device, Address: s.Address, LoggedIn: s.Created, LastActive: e.LastActive,
			Current: s.Handle == l.Session().Handle,
		}
		if len(h.Providers) > 1 {
			row.Provider = s.Provider
		}
		v.List = append(v.List, row)
	}
	h.Pages.Sessions(w, r, v)
}
