package session

import (
	"context"
	"errors"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// waitTime is how long one request waits for a flight before it is told to come again.
const waitTime = 40 * time.Second

// Fresh returns an access token that is not over. Close to its end one refresh runs ahead while everyone goes on
// with the valid one; past its end callers wait for the one result.
//
// Errors: ErrEnded, ErrStepUp, *Unavailable. For a fresh token it takes no lock and allocates nothing.
func (m *Manager) Fresh(ctx context.Context, l *Live) (oidc.TokenSet, error) {
	v := l.view.Load()
	if l.over.Load() {
		return oidc.TokenSet{}, ErrEnded
	}
	if v.freshTil.IsZero() || m.now().Before(v.freshTil) {
		return v.tokens, nil
	}
	return m.freshen(ctx, l, false)
}

// renewOwn is Renew for the session's own token.
func (m *Manager) renewOwn(ctx context.Context, l *Live, rejected uint64) (oidc.AccessToken, bool, error) {
	if v := l.view.Load(); v.tokens.Generation > rejected {
		t, err := m.Fresh(ctx, l)
		return t.Own(), err == nil, err
	}
	l.mu.Lock()
	asked, wanted := l.state.forced && l.flight == nil, l.state.stepUp
	l.mu.Unlock()
	switch {
	case asked && wanted:
		return oidc.AccessToken{}, false, ErrStepUp
	case asked:
		return oidc.AccessToken{}, false, nil
	}
	t, err := m.freshen(ctx, l, true)
	if l.demandNow() != nil { // the token that is rejected lives on by the clock, and the provider wants the person
		return oidc.AccessToken{}, false, ErrStepUp
	}
	if _, ok := errors.AsType[*Unavailable](err); ok {
		return oidc.AccessToken{}, false, nil // the session stays; the upstream's own answer is the better one
	}
	return t.Own(), err == nil && t.Generation > rejected, err
}

// freshen sees to it that a refresh runs if the rules want one, and waits for it where there is no valid token.
func (m *Manager) freshen(ctx context.Context, l *Live, force bool) (oidc.TokenSet, error) {
	deadline := time.NewTimer(waitTime)
	defer deadline.Stop()
	for {
		t, f, err := m.want(l, force)
		if f == nil {
			return t, err
		}
		if err := await(ctx, deadline, f.done); err != nil {
			return oidc.TokenSet{}, err
		}
		if f.err != nil {
			return oidc.TokenSet{}, f.err
		}
		force = false
	}
}

// await waits for what is done once for all who ask. An error says that it is not done yet, and that the request has
// waited for long enough or is gone.
func await(ctx context.Context, deadline *time.Timer, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return &Unavailable{Err: ctx.Err()}
	case <-deadline.C:
		return &Unavailable{RetryAfter: 5 * time.Second, Err: errors.New("the provider takes long")}
	}
}

// want tells the rules that a token is wanted. It returns the token to use, or the flight to wait for, or why
// there is neither.
func (m *Manager) want(l *Live, force bool) (oidc.TokenSet, *flight, error) {
	w := m.when()
	now := w.now
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.phase == over || l.over.Load() {
		return oidc.TokenSet{}, nil, ErrEnded
	}
	at := m.begin(l, w, oidc.Target{}, force)
	switch {
	case l.flight != nil && l.state.phase != releasing && (force || !l.state.liveAt(now)):
		return oidc.TokenSet{}, l.flight, nil
	case l.state.liveAt(now):
		return l.open.tokens, nil, nil
	case l.state.stepUp:
		return oidc.TokenSet{}, nil, ErrStepUp
	case !l.state.canRefresh:
		return oidc.TokenSet{}, nil, ErrEnded
	}
	return oidc.TokenSet{}, nil, noneNow(at.Sub(now))
}

// begin tells the rules that a token is wanted, and starts a flight if they want one. It returns when the provider is
// asked again otherwise. l.mu is held.
func (m *Manager) begin(l *Live, w when, target oidc.Target, force bool) (at time.Time) {
	health := m.circuits[l.open.session.Provider].look()
	hold := health.hold(w.now)
	var effects []effect
	l.state, effects = step(l.state, needed{when: w, hold: hold, mended: health.mended, force: force, aside: target != oidc.Target{}})
	if !hold.IsZero() && l.flight == nil && !l.view.Load().degraded {
		l.show(true)
	}
	if len(effects) > 0 {
		l.flight = &flight{done: make(chan struct{}), target: target}
		f := l.flight
		m.work.Go(func() { m.fly(l, f, effects) })
	}
	if at = l.state.notBefore; health.mended.After(l.state.failedAt) {
		at = w.now
	}
	if hold.After(at) {
		at = hold
	}
	return at
}

// noneNow says that there is no token, and when to ask again.
func noneNow(after time.Duration) *Unavailable {
	return &Unavailable{RetryAfter: max(after, time.Second), Err: errors.New("the provider does not give a token now")}
}

// fly does what the rules say until they have nothing more to say. It is the only place that presents a refresh
// token, and there is one flight per session.
func (m *Manager) fly(l *Live, f *flight, todo []effect) {
	d := &driver{m: m, l: l, target: f.target, circuit: m.circuits[l.Session().Provider]}
	defer d.left()
	for len(todo) > 0 {
		e := todo[0]
		todo = todo[1:]
		if e.wait > 0 && !d.sleep(e) {
			break
		}
		next := d.do(e)
		if next == nil {
			continue
		}
		l.mu.Lock()
		var more []effect
		l.state, more = step(l.state, next)
		if len(more) > 0 && more[0].do == adopt { // at once: nobody may meet the new state with the old token set
			l.open = d.loaded
		}
		l.mu.Unlock()
		todo = append(todo, more...)
	}
	l.mu.Lock()
	f.err = d.err
	if l.state.phase == over && f.err == nil {
		f.err = ErrEnded
	}
	l.flight = nil
	l.show(d.degraded)
	missed := l.heard > l.open.record.Version
	l.mu.Unlock()
	if missed { // another process saved while this one was asking
		m.Cache.drop(l.id)
		m.Sync(context.Background(), l)
	}
	close(f.done)
}
