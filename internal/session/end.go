package session

import (
	"context"
	"errors"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/oidc"
)

const (
	// revokeTime bounds the revocation at the provider: a logout does not wait for one that is ill.
	revokeTime = 2 * time.Second
	// settleTime is how long an end waits for a running refresh, so that the newest token is revoked.
	settleTime = 2 * time.Second
)

// End ends a session: first its record, from which moment no ticket opens it, then its tokens at the provider.
// revoked says whether the provider confirmed. An error means that the record is still there and the session lives.
func (m *Manager) End(ctx context.Context, l *Live, reason string) (revoked bool, err error) {
	return m.end(ctx, l, reason, true)
}

// end ends a session; its tokens stay good at the provider unless they are to be revoked.
func (m *Manager) end(ctx context.Context, l *Live, reason string, revoke bool) (revoked bool, err error) {
	l.mu.Lock()
	running := l.flight
	l.mu.Unlock()
	mine, err := m.over(ctx, l, reason)
	if err != nil {
		return false, &Unavailable{Err: err}
	}
	if !mine {
		return false, nil
	}
	if running != nil {
		waitFor(running)
	}
	s := l.Session()
	l.mu.Lock()
	tokens := l.open.tokens
	l.mu.Unlock()
	revoked = revoke && m.revoke(ctx, s.Provider, tokens)
	m.emit(event.Audit{Kind: event.SessionEnded, Provider: s.Provider, Session: s.Handle, Reason: reason, Revoked: yesNo(revoked)})
	return revoked, nil
}

// over deletes the record of a session that is open here, and marks it over. mine: this call ended it, and is to
// account for that. The feed may bring the end back before the store has answered, so the reason is noted before.
func (m *Manager) over(ctx context.Context, l *Live, reason string) (mine bool, err error) {
	known := l.over.Load()
	l.ending.CompareAndSwap(nil, &reason)
	if err := m.Store.Delete(ctx, l.id); err != nil {
		l.ending.CompareAndSwap(&reason, nil)
		return false, err
	}
	m.Feed.ended(m, l.id)
	l.finish(reason)
	return !known && l.settled.CompareAndSwap(false, true), nil
}

func waitFor(f *flight) {
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C:
	}
}

// revoke tells the provider that nobody uses these tokens any more. The session is over whatever it answers.
func (m *Manager) revoke(ctx context.Context, provider string, t oidc.TokenSet) bool {
	p, ok := m.Providers[provider]
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTime)
	defer cancel()
	return p.Provider.Revoke(ctx, t) == nil && p.Provider.HasRevocation()
}

// EndHandle ends the session with this handle. One that is open in this process is revoked, too; the tokens of any
// other are destroyed with its record, for nobody can open them any more.
func (m *Manager) EndHandle(ctx context.Context, handle, reason string) error {
	id, ok := idOfHandle(handle)
	if !ok {
		return nil
	}
	if l := m.held(id); l != nil {
		_, err := m.End(ctx, l, reason)
		return err
	}
	e, err := m.Show(ctx, handle)
	switch {
	case errors.Is(err, ErrEnded):
		return nil
	case err != nil:
		return err
	}
	if err := m.Store.Delete(ctx, id); err != nil {
		return &Unavailable{Err: err}
	}
	m.Feed.ended(m, id)
	m.forget(id, reason)
	m.emit(event.Audit{Kind: event.SessionEnded, Provider: e.Session.Provider, Session: handle, Reason: reason, Revoked: "no"})
	return nil
}

// Tokens is the token set of a session, for id_token_hint at logout.
func (m *Manager) Tokens(l *Live) oidc.TokenSet { return l.view.Load().tokens }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
