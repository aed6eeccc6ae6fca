package gate

import (
	"encoding/json"
	"time"

	"github.com/cloakroom/cloakroom/internal/session"
)

// View is what a browser is told of its session, in GET /auth/session and after a login (DESIGN.md section 5).
type View struct {
	Authenticated bool                       `json:"authenticated"`
	User          map[string]json.RawMessage `json:"user,omitempty"`
	Session       *SessionView               `json:"session,omitempty"`
	Degraded      bool                       `json:"degraded,omitempty"`
	LoginURL      string                     `json:"login_url,omitempty"`
}

// SessionView is the session's part of a View. Times are RFC 3339, UTC.
type SessionView struct {
	ID            string    `json:"id"`
	CreatedAt     time.Time `json:"created_at"`
	AuthTime      time.Time `json:"auth_time"`
	ExpiresAt     time.Time `json:"expires_at"`
	IdleExpiresAt time.Time `json:"idle_expires_at"`
	ACR           string    `json:"acr"`
	AMR           []string  `json:"amr"`
	Provider      string    `json:"provider"`
	Current       bool      `json:"current"`
	DeviceBound   bool      `json:"device_bound"`
}

// ViewOf describes a session to the browser that has it; nil is "not logged in".
func ViewOf(l *session.Live) View {
	if l == nil {
		return View{LoginURL: "/auth/login"}
	}
	s := l.Session()
	amr := s.AMR
	if amr == nil {
		amr = []string{}
	}
	user := s.User
	if user == nil {
		user = map[string]json.RawMessage{}
	}
	return View{
		Authenticated: true,
		User:          user,
		Degraded:      l.Degraded(),
		Session: &SessionView{
			ID: s.Handle, CreatedAt: whole(s.Created), AuthTime: whole(s.AuthTime),
			ExpiresAt: whole(l.ExpiresAt()), IdleExpiresAt: whole(l.IdleExpiresAt()),
			ACR: s.ACR, AMR: amr, Provider: s.Provider, Current: true,
		},
	}
}

func whole(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// NameOf is what a person recognises themselves by: the first claim that says it, cut to 60 characters.
func NameOf(s *session.Session) string {
	for _, claim := range []string{"name", "preferred_username", "email", "sub"} {
		var v string
		if json.Unmarshal(s.User[claim], &v) == nil && v != "" {
			if r := []rune(v); len(r) > 60 {
				v = string(r[:60])
			}
			return v
		}
	}
	return ""
}
