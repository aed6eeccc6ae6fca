package session

import (
	"errors"

	"github.com/cloakroom/cloakroom/store"
)

// ErrNotOurs says that a record belongs to another frontend, or to keys that are not here.
var ErrNotOurs = errors.New("session: not a record of this frontend")

// Rewrap puts the outer layer of a record under the key that seals now, with the indexes. What the ticket protects
// stays as it is, so no ticket is needed. changed is false where nothing names another key.
func (m *Manager) Rewrap(rec store.Record) (out store.Record, changed bool, err error) {
	env, err := envelopeOf(rec)
	if err != nil {
		return rec, false, ErrNotOurs
	}
	list, err := m.decodeList(rec, env)
	if err != nil {
		return rec, false, ErrNotOurs
	}
	subject, sid := m.Ring.Index("subject", list.Issuer, list.ClientID, list.Subject), ""
	if list.SID != "" {
		sid = m.Ring.Index("sid", list.Issuer, list.ClientID, list.SID)
	}
	if m.Ring.Current(env.List) && m.Ring.Current(env.Key) && rec.Head.Subject == subject && rec.Head.SID == sid {
		return rec, false, nil
	}
	plain, err := m.Ring.Open(m.context(rec.ID.String(), "list"), env.List)
	if err != nil {
		return rec, false, ErrNotOurs
	}
	key, err := m.rewrapKey(rec.ID, env.Key)
	if err != nil {
		return rec, false, err
	}
	sealed := envelope{List: m.Ring.Seal(m.context(rec.ID.String(), "list"), plain), Key: key, Tokens: env.Tokens}
	if rec.Blob, err = sealed.with(env.lease()); err != nil {
		return rec, false, err
	}
	rec.Head.Subject, rec.Head.SID = subject, sid
	return rec, true, nil
}
