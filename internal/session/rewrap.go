package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/store"
	"github.com/fxamacker/cbor/v2"
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
	body, err := cbor.Marshal(envelope{List: m.Ring.Seal(m.context(rec.ID.String(), "list"), plain), Key: key, Tokens: env.Tokens})
	if err != nil {
		return rec, false, fmt.Errorf("encoding a record: %w", err)
	}
	rec.Blob = append([]byte{envelopeVersion}, body...)
	rec.Head.Subject, rec.Head.SID = subject, sid
	return rec, true, nil
}

// KeysIn are the names of the keys that a record names.
func KeysIn(rec store.Record) []string {
	env, err := envelopeOf(rec)
	if err != nil {
		return nil
	}
	names := []string{seal.NameIn(env.List), seal.NameIn(env.Key), seal.NameOf(rec.Head.Subject), seal.NameOf(rec.Head.SID)}
	var list []string
	for _, n := range names {
		if n != "" {
			list = append(list, n)
		}
	}
	return list
}

// RewrapAll rewraps every record of this frontend that names an older key, so that such a key can be retired. It
// works beside everything else: a record that changes meanwhile was rewrapped by that change, or is met next time.
func (m *Manager) RewrapAll(ctx context.Context) error {
	done := 0
	for after := ""; ; {
		page, err := m.Store.Find(ctx, store.Query{After: after, Limit: 200})
		if err != nil {
			return &Unavailable{Err: err}
		}
		for _, rec := range page.Records {
			out, changed, err := m.Rewrap(rec)
			if err != nil || !changed {
				continue
			}
			if _, err := m.Store.Save(ctx, out); err == nil {
				done++
			} else if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
				return &Unavailable{Err: err}
			}
		}
		if after = page.Next; after == "" || ctx.Err() != nil {
			break
		}
	}
	if done > 0 {
		m.emit(event.Audit{Kind: event.KeysRewrapped, Detail: fmt.Sprintf("%d sessions are under the key that seals now", done)})
	}
	return ctx.Err()
}
