package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

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
	Device   string // what the browser says it is
	Address  string // the client's address
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
	ticket, now := NewTicket(), m.now()
	id := ticket.idOf(m.Frontend)
	c := n.Exchange.Claims
	o := &opened{
		record:      store.Record{ID: id, Head: store.Head{Created: now, LastActive: now}},
		providerEnd: c.SessionExpiry, tokens: m.dated(n.Exchange.Tokens, oidc.TokenSet{}),
		session: &Session{
			Handle: handleOf(id), Frontend: m.Frontend, Provider: n.Provider, Issuer: c.Issuer, Subject: c.Subject,
			SID: c.SID, Method: n.Method, User: c.User, ACR: c.ACR, AMR: c.AMR, Created: now, AuthTime: c.AuthTime,
			Remember: n.Remember, ClientID: p.ClientID, Device: n.Device, Address: n.Address, Issued: c.IssuedAt,
		},
	}
	if o.session.AuthTime.IsZero() {
		o.session.AuthTime = now
	}
	o.tokens.Generation = 1
	rand.Read(o.key[:])
	o.sealedKey = m.sealKey(ticket, id, o.key)
	if err := m.encode(o); err != nil {
		return Ticket{}, nil, err
	}
	live, err := m.store(ctx, o)
	if errors.Is(err, ErrEnded) {
		return Ticket{}, nil, err
	}
	if err != nil {
		return Ticket{}, nil, &Unavailable{Err: errors.Join(err, p.Provider.Revoke(ctx, o.tokens))}
	}
	if err := m.stillLoggedIn(ctx, live, c.AuthTime); err != nil {
		return Ticket{}, nil, err
	}
	m.replace(ctx, n)
	return ticket, live, nil
}

// store saves a new session and opens it here. It counts as loading meanwhile: somebody may end all sessions of this
// person before the store's answer is here, and ErrEnded says so.
func (m *Manager) store(ctx context.Context, o *opened) (*Live, error) {
	id, c := o.record.ID, &loading{done: make(chan struct{})}
	m.mu.Lock()
	m.loading[id] = c
	m.mu.Unlock()
	defer close(c.done)
	version, err := m.Store.Save(ctx, o.record)
	if err != nil {
		return m.settle(id, c, nil, err)
	}
	o.record.Version = version
	m.Feed.saved(m, o)
	return m.settle(id, c, m.keep(o), nil)
}

// replace ends the browser's older session. That it cannot be ended now is no reason to refuse the new one.
//
// The tokens of the same person at the same provider are not revoked but destroyed with their record: some providers
// take back the whole grant of a person and a client with one refresh token (Auth0, by a setting of the tenant), and
// with it the tokens that have just come. After a step-up they even are of one family.
func (m *Manager) replace(ctx context.Context, n Login) {
	old, err := m.older(ctx, n)
	switch {
	case old != nil:
		s, c := old.Session(), n.Exchange.Claims
		_, err = m.end(ctx, old, ReasonReplaced, s.Issuer != c.Issuer || s.Subject != c.Subject)
	case err == nil && n.ReplacesHandle != "":
		err = m.EndHandle(ctx, n.ReplacesHandle, ReasonReplaced)
	}
	if err != nil && !errors.Is(err, ErrEnded) {
		m.emit(event.Audit{Kind: event.SessionEnded, Reason: ReasonReplaced, Detail: "not ended: " + err.Error()})
	}
}

// older is the session that a login replaces, if it is open in this process or its ticket is at hand.
func (m *Manager) older(ctx context.Context, n Login) (*Live, error) {
	if n.Replaces != nil {
		return m.Lookup(ctx, *n.Replaces)
	}
	if id, ok := idOfHandle(n.ReplacesHandle); ok {
		return m.held(id), nil
	}
	return nil, nil //nolint:nilnil // there is none
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
