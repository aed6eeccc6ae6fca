package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/store"
)

// Login is a login that succeeded.
type Login struct {
	Provider string // its name
	Method   string // password | redirect
	Exchange oidc.Exchange
	Remember bool
	// Replaces is the older session of the same browser, by its ticket or its handle; it is ended.
	Replaces       *Ticket
	ReplacesHandle string
}

// Create makes a session and its ticket, always a new one. The browser's older session is ended after the new one
// is saved, so that a store that fails leaves the person as they were.
func (m *Manager) Create(ctx context.Context, n Login) (Ticket, *Live, error) {
	p, ok := m.Providers[n.Provider]
	if !ok {
		return Ticket{}, nil, fmt.Errorf("session: no provider %q", n.Provider)
	}
	ticket, now := NewTicket(), time.Now()
	id := ticket.idOf(m.Frontend)
	c := n.Exchange.Claims
	o := &opened{
		record:      store.Record{ID: id, Head: store.Head{Created: now, LastActive: now}},
		providerEnd: c.SessionExpiry, tokens: n.Exchange.Tokens,
		session: &Session{
			Handle: handleOf(id), Frontend: m.Frontend, Provider: n.Provider, Issuer: c.Issuer, Subject: c.Subject,
			SID: c.SID, Method: n.Method, User: c.User, ACR: c.ACR, AMR: c.AMR, Created: now, AuthTime: c.AuthTime,
			Remember: n.Remember,
		},
	}
	if o.session.AuthTime.IsZero() {
		o.session.AuthTime = now
	}
	o.tokens.Generation = 1
	rand.Read(o.key[:])
	o.sealedKey = m.sealKey(ticket, id, o.key)
	m.setHead(o, p.ClientID)
	if err := m.encode(o); err != nil {
		return Ticket{}, nil, err
	}
	version, err := m.Store.Save(ctx, o.record)
	if err != nil {
		return Ticket{}, nil, &Unavailable{Err: errors.Join(err, p.Provider.Revoke(ctx, o.tokens))}
	}
	o.record.Version = version
	live := m.keep(o)
	m.Cache.put(id, live)
	m.replace(ctx, n)
	return ticket, live, nil
}

// setHead fills what the store reads.
func (m *Manager) setHead(o *opened, clientID string) {
	s, h := o.session, &o.record.Head
	idle := m.Idle
	if s.Remember {
		idle = m.RememberIdle
	}
	h.Idle = idle + idle/20
	h.Expires, _ = m.endOf(o)
	h.Subject = m.Ring.Index("subject", s.Issuer, clientID, s.Subject)
	if s.SID != "" {
		h.SID = m.Ring.Index("sid", s.Issuer, clientID, s.SID)
	}
}

// replace ends the browser's older session. That it cannot be ended now is no reason to refuse the new one.
func (m *Manager) replace(ctx context.Context, n Login) {
	var err error
	switch {
	case n.Replaces != nil:
		var old *Live
		if old, err = m.Lookup(ctx, *n.Replaces); err == nil {
			_, err = m.End(ctx, old, ReasonReplaced)
		}
	case n.ReplacesHandle != "":
		err = m.EndHandle(ctx, n.ReplacesHandle, ReasonReplaced)
	}
	if err != nil && !errors.Is(err, ErrEnded) {
		m.emit(event.Audit{Kind: event.SessionEnded, Reason: ReasonReplaced, Detail: "not ended: " + err.Error()})
	}
}

// Alive returns the session with this handle, if it lives.
func (m *Manager) Alive(ctx context.Context, handle string) (*Session, bool) {
	id, ok := idOfHandle(handle)
	if !ok {
		return nil, false
	}
	rec, err := m.Store.Load(ctx, id)
	if err != nil {
		return nil, false
	}
	env, err := envelopeOf(rec)
	if err != nil {
		return nil, false
	}
	list, err := m.decodeList(rec, env)
	if err != nil {
		return nil, false // of another frontend, or not readable
	}
	return list.session(m.Frontend), true
}
