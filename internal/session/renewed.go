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

// dated puts the times of a new token set into the store's clock. What it keeps of the old one is there already.
func (m *Manager) dated(t, old oidc.TokenSet) oidc.TokenSet {
	if !t.Obtained.Equal(old.Obtained) {
		t.Obtained, t.Expires = m.here(t.Obtained).Truncate(time.Millisecond), m.here(t.Expires).Truncate(time.Millisecond) // as a record has them
	}
	if !t.RefreshEnd.Equal(old.RefreshEnd) {
		t.RefreshEnd = m.here(t.RefreshEnd)
	}
	for i, a := range t.Further {
		if a.Generation == t.Generation {
			t.Further[i].Obtained, t.Further[i].Expires = m.here(a.Obtained), m.here(a.Expires)
		}
	}
	return t
}
