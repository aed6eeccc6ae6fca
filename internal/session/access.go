package session

import (
	"context"
	"errors"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// Need is which access token a request needs.
type Need struct {
	Kind   Kind
	Target oidc.Target
}

// Own reports whether it is the session's own token, as the login brought it.
func (n Need) Own() bool { return n.Kind == User && n.Target == oidc.Target{} }

// Kind is how an access token comes about.
type Kind int

// The answers of a route's `token` setting.
const (
	NoToken  Kind = iota
	User          // the session's own, or for a target one that its refresh token brings
	Exchange      // the session's own, exchanged (RFC 8693)
	Client        // our client's own, for no person
)

// Access returns an access token that is not over. Close to its end it is renewed ahead, while everyone goes on with
// the valid one.
//
// Errors: ErrEnded, ErrStepUp, ErrDenied, *Unavailable. For a fresh token it takes no lock and allocates nothing.
func (m *Manager) Access(ctx context.Context, l *Live, need Need) (oidc.AccessToken, error) {
	switch {
	case need.Kind == Client:
		return m.client(need.Target).get(ctx)
	case l.over.Load():
		return oidc.AccessToken{}, ErrEnded
	case need.Kind == Exchange:
		return l.exchange(need.Target).get(ctx)
	}
	v := l.view.Load()
	if need.Target == (oidc.Target{}) {
		if v.freshTil.IsZero() || m.now().Before(v.freshTil) {
			return v.own, nil
		}
		tokens, err := m.freshen(ctx, l, false)
		return tokens.Own(), err
	}
	for i := range v.further {
		if f := &v.further[i]; f.token.Target == need.Target && f.freshAt(m.now()) {
			return f.token, nil
		}
	}
	return m.freshenAside(ctx, l, need.Target, 0)
}

// Renew is asked after an upstream said invalid_token about the token of this generation. It returns the current
// token if that is a newer one, else gets another, at most once per generation. false: there is nothing newer to try.
// ErrStepUp: the provider wants the person back before it gives one.
func (m *Manager) Renew(ctx context.Context, l *Live, need Need, rejected uint64) (t oidc.AccessToken, ok bool, err error) {
	switch {
	case need.Kind == Client:
		t, err = m.client(need.Target).newer(ctx, rejected)
	case need.Kind == Exchange:
		t, err = l.exchange(need.Target).newer(ctx, rejected)
	case need.Target == (oidc.Target{}):
		return m.renewOwn(ctx, l, rejected)
	default:
		if !l.mayForce(need.Target, rejected) {
			return t, false, nil
		}
		t, err = m.freshenAside(ctx, l, need.Target, rejected)
	}
	if errors.Is(err, ErrStepUp) {
		return t, false, err
	}
	return t, err == nil && t.Generation > rejected, nil // the upstream's own answer is better than why there is none
}

// Rejected is told that a renewed token of this generation was rejected, too: another one does not help, so the
// upstream's answers pass through for this generation.
func (m *Manager) Rejected(l *Live, need Need, generation uint64) {
	switch {
	case need.Kind == Client:
		m.client(need.Target).settle(generation)
	case need.Kind == Exchange:
		l.exchange(need.Target).settle(generation)
	case need.Target != (oidc.Target{}):
		l.mu.Lock()
		defer l.mu.Unlock()
		l.asideOf(need.Target).forced = generation
	default:
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.state.generation == generation {
			l.state.forced = true
		}
	}
}

// aside is what is known of a target besides its token. Live.mu guards it.
type aside struct {
	forced    uint64    // the newest generation that an upstream's invalid_token had renewed
	refusals  int       // in a row
	notBefore time.Time // not asked again before
	refusal   error     // ErrDenied or ErrStepUp
}

// asideOf is what is known of a target. l.mu is held.
func (l *Live) asideOf(target oidc.Target) *aside {
	if l.asides == nil {
		l.asides = map[oidc.Target]*aside{}
	}
	a := l.asides[target]
	if a == nil {
		a = &aside{}
		l.asides[target] = a
	}
	return a
}

// mayForce reports whether a token that an upstream rejected may be renewed before its time: once per generation.
func (l *Live) mayForce(target oidc.Target, rejected uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.asideOf(target)
	t, _ := l.open.tokens.For(target)
	if t.Generation <= rejected && a.forced >= rejected {
		return false
	}
	a.forced = max(a.forced, rejected)
	return true
}

// says reports whether a provider has said no to a target, which says nothing of the session: whoever may not use one
// API goes on with the others, and a refresh token that is really over shows when the session's own token is due.
func says(e *oidc.Error) bool {
	return e.Kind == oidc.Definitive || e.Kind == oidc.StepUp || e.Kind == oidc.Misconfigured
}

// deny notes a provider's no, so that it is not asked with every request.
func (l *Live) deny(target oidc.Target, e *oidc.Error, w when) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.asideOf(target)
	a.refusals++
	a.notBefore, a.refusal = w.now.Add(backoff(a.refusals, w.jitter)), noOf(e)
}

// noOf is what a provider's no means to who asked.
func noOf(e *oidc.Error) error {
	if e.Kind == oidc.StepUp {
		return ErrStepUp
	}
	return ErrDenied
}

// freshenAside sees to it that the session has a token for a target, newer than the generation that is given, and waits
// for it where there is none that is good. The refresh token is presented for it, so it goes the way of every refresh:
// one flight per session, and for several targets one after the other.
func (m *Manager) freshenAside(ctx context.Context, l *Live, target oidc.Target, than uint64) (oidc.AccessToken, error) {
	deadline := time.NewTimer(waitTime)
	defer deadline.Stop()
	for {
		t, f, err := m.wantAside(l, target, than)
		if f == nil {
			return t, err
		}
		if err := await(ctx, deadline, f.done); err != nil {
			return oidc.AccessToken{}, err
		}
		if f.err != nil && (f.target == target || errors.Is(f.err, ErrEnded)) {
			return oidc.AccessToken{}, f.err
		}
	}
}

// wantAside is want for a target.
func (m *Manager) wantAside(l *Live, target oidc.Target, than uint64) (oidc.AccessToken, *flight, error) {
	w := m.when()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.phase == over || l.over.Load() {
		return oidc.AccessToken{}, nil, ErrEnded
	}
	var current furtherToken
	for _, f := range l.view.Load().further {
		if f.token.Target == target && f.token.Generation > than {
			current = f
		}
	}
	a, live := l.asideOf(target), current.token.Value != "" && current.liveAt(w.now)
	switch {
	case current.token.Value != "" && current.freshAt(w.now):
		a.refusals = 0
		return current.token, nil, nil
	case w.now.Before(a.notBefore) && live:
		return current.token, nil, nil
	case w.now.Before(a.notBefore):
		return oidc.AccessToken{}, nil, a.refusal
	}
	at := m.begin(l, w, target, false)
	switch {
	case live:
		return current.token, nil, nil
	case l.flight != nil && l.state.phase != releasing:
		return oidc.AccessToken{}, l.flight, nil
	case !l.state.canRefresh:
		return oidc.AccessToken{}, nil, ErrDenied // without a refresh token there is no other token than the login's
	case l.state.stepUp:
		return oidc.AccessToken{}, nil, ErrStepUp
	}
	return oidc.AccessToken{}, nil, noneNow(at.Sub(w.now))
}
