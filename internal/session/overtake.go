package session

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// A provider's logout may overtake the login that it is meant for: the session is being made while the logout
// arrives. So a logout leaves a mark before it looks for sessions, and a login looks for marks after it has saved
// its session: whichever comes second sees the other.

// Notice is a provider's signed word that somebody is logged out there.
type Notice struct {
	Who
	ID     string    // the provider's name of this notice (jti)
	Issued time.Time // by the provider's clock
	Until  time.Time // from then on it would not be believed any more
}

// markLife is how long a mark stays: longer than a login takes.
const markLife = 10 * time.Minute

// ProviderLogout ends the sessions that a notice names: those with its sid, or all of its subject, at every frontend
// of this process that is the same client at the same issuer, for a client has one address for such notices. It
// returns how many.
//
// Newer sessions stay: by subject, those whose ID token was made after the notice; by sid, those of which the provider
// says that the person logged in after the notice, for some providers give a number out again. So carrying a notice
// out twice ends no more than once, and one that failed half-way may come again. One that is done is remembered for
// as long as it would be believed (repeated).
func (m *Manager) ProviderLogout(ctx context.Context, n Notice) (ended int, repeated bool, err error) {
	p, ok := m.Providers[n.Provider]
	if !ok {
		return 0, false, fmt.Errorf("session: no provider %q", n.Provider)
	}
	done := markOf("done", p.Provider.Issuer(), p.ClientID, n.ID)
	switch _, err := m.Store.Load(ctx, done); {
	case err == nil:
		return 0, true, nil
	case !errors.Is(err, store.ErrNotFound):
		return 0, false, &Unavailable{Err: err}
	}
	if err := m.mark(ctx, m.marks(n.Who)[0], n.Issued, m.now().Add(markLife)); err != nil {
		return 0, false, &Unavailable{Err: err}
	}
	ended, err = m.endAtProvider(ctx, n.Who, func(l listPart) bool { return !l.newer(n) })
	if err != nil {
		return ended, false, err
	}
	until := m.here(n.Until)
	if soonest := m.now().Add(time.Minute); until.Before(soonest) {
		until = soonest
	}
	if err := m.mark(ctx, done, n.Issued, until); err != nil {
		return ended, false, &Unavailable{Err: err}
	}
	return ended, false, nil
}

// FrontChannelLogout ends the sessions with this sid, as ProviderLogout does. Nobody signed it: it leaves nothing in
// the store, so that strangers cannot fill it.
func (m *Manager) FrontChannelLogout(ctx context.Context, who Who) (ended int, err error) {
	if _, ok := m.Providers[who.Provider]; !ok || who.SID == "" {
		return 0, nil
	}
	return m.endAtProvider(ctx, who, func(listPart) bool { return true })
}

// endAtProvider ends the condemned sessions of who, at all frontends that are the same client at the same issuer.
func (m *Manager) endAtProvider(ctx context.Context, who Who, condemned func(listPart) bool) (total int, err error) {
	own := m.Providers[who.Provider]
	for _, other := range m.Feed.all() {
		for name, p := range other.Providers {
			if p.ClientID != own.ClientID || p.Provider.Issuer() != own.Provider.Issuer() {
				continue
			}
			who.Provider = name
			n, err := other.endWhere(ctx, who, condemned, ReasonProviderLogout)
			if total += n; err != nil {
				return total, err
			}
		}
	}
	return total, nil
}

// newer reports whether a session is certainly of a later login than a notice. Where the provider does not say when
// the person logged in, AuthTime is Created.
func (l listPart) newer(n Notice) bool {
	if n.SID != "" {
		return l.AuthTime != l.Created && l.AuthTime > n.Issued.Unix()
	}
	return l.Issued > n.Issued.Unix()
}

// markOf is the record of a mark: nobody else's id.
func markOf(parts ...string) store.ID {
	return sha256.Sum256(fmt.Appendf(nil, "cloakroom logout mark v1 %q", parts))
}

// marks are where a mark about who may be: one for each key of the ring, that of the first key first. A sid with a
// subject has marks of its own, for such a notice means only a session that has both.
func (m *Manager) marks(who Who) []store.ID {
	p := m.Providers[who.Provider]
	issuer := p.Provider.Issuer()
	sids := m.Ring.Indexes("sid", issuer, p.ClientID, who.SID)
	subjects := m.Ring.Indexes("subject", issuer, p.ClientID, who.Subject)
	ids := make([]store.ID, m.Ring.Keys())
	for i := range ids {
		switch {
		case who.Subject == "":
			ids[i] = markOf("sid", sids[i])
		case who.SID == "":
			ids[i] = markOf("subject", subjects[i])
		default:
			ids[i] = markOf("both", sids[i], subjects[i])
		}
	}
	return ids
}

// mark writes a mark; a newer one stays.
func (m *Manager) mark(ctx context.Context, id store.ID, issued, expires time.Time) error {
	for range 10 {
		rec, err := m.Store.Load(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			rec = store.Record{ID: id, Head: store.Head{Created: m.now()}}
		case err != nil:
			return err
		case !markTime(rec).Before(issued):
			return nil
		}
		rec.Head.LastActive, rec.Head.Expires = m.now(), expires
		rec.Blob = binary.BigEndian.AppendUint64([]byte{0}, uint64(max(0, issued.Unix()))) // no envelope begins with a zero byte
		_, err = m.Store.Save(ctx, rec)
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) { // not found: it ended meanwhile
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

// stillLoggedIn ends a session that was just made if the provider has logged its person out meanwhile. loggedIn is
// when the person logged in there, as the provider says; zero where it does not.
func (m *Manager) stillLoggedIn(ctx context.Context, l *Live, loggedIn time.Time) error {
	out, err := m.loggedOut(ctx, l.Session(), loggedIn)
	if err == nil && !out {
		return nil
	}
	if _, endErr := m.End(ctx, l, ReasonProviderLogout); endErr != nil || err != nil {
		return &Unavailable{Err: errors.Join(err, endErr)}
	}
	return ErrEnded
}

// loggedOut reports whether there is a mark about a session that is not of a later login.
func (m *Manager) loggedOut(ctx context.Context, s *Session, loggedIn time.Time) (bool, error) {
	bySubject, bySID := Who{Provider: s.Provider, Subject: s.Subject}, Who{Provider: s.Provider, SID: s.SID}
	var ids []store.ID
	if s.Subject != "" && !s.Issued.IsZero() {
		ids = m.marks(bySubject)
	}
	if out, err := m.marked(ctx, ids, s.Issued); out || err != nil || s.SID == "" {
		return out, err
	}
	both := bySID
	both.Subject = s.Subject
	return m.marked(ctx, append(m.marks(bySID), m.marks(both)...), loggedIn)
}

// marked reports whether one of these marks is not older than a time.
func (m *Manager) marked(ctx context.Context, ids []store.ID, since time.Time) (bool, error) {
	for _, id := range ids {
		rec, err := m.Store.Load(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return false, err
		case !since.After(markTime(rec)):
			return true, nil
		}
	}
	return false, nil
}
