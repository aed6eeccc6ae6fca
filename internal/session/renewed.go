package session

import (
	"bytes"
	"encoding/json"
	"maps"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// renewedSession is the session with what a refreshed ID token says anew. What that leaves out keeps its old value:
// many providers put fewer claims into it.
func renewedSession(s *Session, end time.Time, c oidc.Claims) (*Session, time.Time) {
	if !c.SessionExpiry.IsZero() {
		end = c.SessionExpiry
	}
	user := maps.Clone(s.User)
	changed := false
	for name, value := range c.User {
		if !bytes.Equal(user[name], value) {
			if user == nil {
				user = map[string]json.RawMessage{}
			}
			user[name], changed = value, true
		}
	}
	if !changed {
		return s, end
	}
	renewed := *s
	renewed.User = user
	return &renewed, end
}

// dated puts the times of a new token set into the store's clock.
func (m *Manager) dated(t oidc.TokenSet) oidc.TokenSet {
	t.Obtained, t.Expires = m.here(t.Obtained), m.here(t.Expires)
	t.RefreshEnd = m.here(t.RefreshEnd)
	return t
}
