package session

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// A provider's logout may overtake the login that it is meant for: the session is being made while the logout
// arrives. So a logout leaves a mark before it looks for sessions, and a login looks for marks after it has saved
// its session: whichever comes second sees the other.

// markLife is how long a mark stays: longer than a login takes.
const markLife = 10 * time.Minute

// markOf is the record of a mark, by an index value. It holds a time only.
func markOf(index string) store.ID { return sha256.Sum256([]byte("cloakroom logout mark v1 " + index)) }

// ProviderLogout ends the sessions that a logout of the provider names: the one with this sid, or all of this
// subject whose ID token is not newer than the logout (issued, by the provider's clock). It returns how many.
func (m *Manager) ProviderLogout(ctx context.Context, who Who, issued time.Time) (int, error) {
	for _, q := range m.queries(who)[:min(1, len(m.queries(who)))] {
		if err := m.mark(ctx, markOf(q.Subject+q.SID), issued); err != nil {
			return 0, &Unavailable{Err: err}
		}
	}
	return m.endWhere(ctx, who, func(l listPart) bool {
		return who.SID != "" || l.Issued <= issued.Unix()
	}, ReasonProviderLogout)
}

// mark writes a mark; a newer one stays.
func (m *Manager) mark(ctx context.Context, id store.ID, issued time.Time) error {
	now := m.now()
	for range 10 {
		rec, err := m.Store.Load(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			rec = store.Record{ID: id, Head: store.Head{Created: now}}
		case err != nil:
			return err
		case !markTime(rec).Before(issued):
			return nil
		}
		rec.Head.LastActive, rec.Head.Expires = now, now.Add(markLife)
		rec.Blob = binary.BigEndian.AppendUint64([]byte{0}, uint64(max(0, issued.Unix()))) // no envelope begins with a zero byte
		if _, err = m.Store.Save(ctx, rec); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return store.ErrConflict
}

func markTime(rec store.Record) time.Time {
	if len(rec.Blob) != 9 {
		return time.Time{}
	}
	return time.Unix(int64(binary.BigEndian.Uint64(rec.Blob[1:])), 0) //nolint:gosec // as written
}

// stillLoggedIn ends a session that was just made if the provider has logged its person out meanwhile.
func (m *Manager) stillLoggedIn(ctx context.Context, l *Live) error {
	s := l.Session()
	over := func(who Who) (bool, error) {
		for _, q := range m.queries(who) {
			rec, err := m.Store.Load(ctx, markOf(q.Subject+q.SID))
			switch {
			case errors.Is(err, store.ErrNotFound):
			case err != nil:
				return false, err
			case who.SID != "" || !s.Issued.After(markTime(rec)):
				return true, nil
			}
		}
		return false, nil
	}
	for _, who := range []Who{{Provider: s.Provider, SID: s.SID}, {Provider: s.Provider, Subject: s.Subject}} {
		if who.SID == "" && who.Subject == "" || s.Issued.IsZero() {
			continue
		}
		out, err := over(who)
		if err == nil && !out {
			continue
		}
		if _, endErr := m.End(ctx, l, ReasonProviderLogout); endErr != nil || err != nil {
			return &Unavailable{Err: errors.Join(err, endErr)}
		}
		return ErrEnded
	}
	return nil
}
