package session

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// minted keeps one access token that may be had again at any time: our client's own, or one that the session's was
// exchanged for. Nothing is spent by asking, so there is neither lease nor record: each process has its own.
type minted struct {
	manager  *Manager
	provider string
	target   oidc.Target
	ask      func(context.Context) (oidc.AccessToken, error)
	current  atomic.Pointer[furtherToken]

	mu        sync.Mutex // guards what follows
	flight    *minting
	forced    uint64 // the newest generation that was renewed before its time
	failures  int
	notBefore time.Time
	err       error // of the last try
}

// minting is a token that is being asked for.
type minting struct {
	done chan struct{}
	err  error
}

// errNothingNewer says that a rejected token was renewed before, and that one more would be no better.
var errNothingNewer = errors.New("session: nothing newer")

// unsaidLife is how long a token is used whose life the provider does not say.
const unsaidLife = 5 * time.Minute

// get returns a token that is not over. Close to its end it is renewed ahead.
func (g *minted) get(ctx context.Context) (oidc.AccessToken, error) {
	if t := g.current.Load(); t != nil && t.freshAt(g.manager.now()) {
		return t.token, nil
	}
	return g.wait(ctx, 0)
}

// newer returns a token of a later generation than one that an upstream rejected; it is asked for once per generation.
func (g *minted) newer(ctx context.Context, rejected uint64) (oidc.AccessToken, error) {
	if t := g.current.Load(); t != nil && t.token.Generation > rejected && t.freshAt(g.manager.now()) {
		return t.token, nil
	}
	g.mu.Lock()
	again := g.forced >= rejected && g.flight == nil
	g.forced = max(g.forced, rejected)
	g.mu.Unlock()
	if again {
		return oidc.AccessToken{}, errNothingNewer
	}
	return g.wait(ctx, rejected)
}

// settle: the token of this generation is not renewed before its time.
func (g *minted) settle(generation uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forced = max(g.forced, generation)
}

// wait sees to it that a token is asked for, and waits where there is none that is good.
func (g *minted) wait(ctx context.Context, than uint64) (oidc.AccessToken, error) {
	deadline := time.NewTimer(waitTime)
	defer deadline.Stop()
	for {
		t, f, err := g.want(than)
		if f == nil {
			return t, err
		}
		if err := await(ctx, deadline, f.done); err != nil {
			return oidc.AccessToken{}, err
		}
		if f.err != nil {
			return oidc.AccessToken{}, f.err
		}
	}
}

func (g *minted) want(than uint64) (oidc.AccessToken, *minting, error) {
	now := g.manager.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.current.Load()
	has := t != nil && t.token.Generation > than
	if has && t.freshAt(now) {
		return t.token, nil, nil
	}
	hold := g.manager.circuits[g.provider].look().hold(now)
	if g.flight == nil && !now.Before(g.notBefore) && hold.IsZero() {
		g.flight = &minting{done: make(chan struct{})}
		f := g.flight
		g.manager.work.Go(func() { g.fly(f) })
	}
	switch {
	case has && t.liveAt(now):
		return t.token, nil, nil
	case g.flight != nil:
		return oidc.AccessToken{}, g.flight, nil
	case now.Before(g.notBefore):
		return oidc.AccessToken{}, nil, later(g.err, g.notBefore.Sub(now))
	}
	return oidc.AccessToken{}, nil, later(errors.New("the provider is left alone for a while"), hold.Sub(now))
}

// later is why there is no token now, with when to ask again.
func later(err error, after time.Duration) error {
	if errors.Is(err, ErrDenied) || errors.Is(err, ErrStepUp) || errors.Is(err, ErrEnded) {
		return err
	}
	return &Unavailable{RetryAfter: max(after, time.Second), Err: err}
}

// fly asks the provider once, within its rate. It is nobody's request: clients that go away cancel nothing.
func (g *minted) fly(f *minting) {
	ctx, cancel := context.WithTimeout(context.Background(), flightTime)
	defer cancel()
	err := g.turn(ctx)
	var t oidc.AccessToken
	if err == nil {
		t, err = g.ask(ctx)
	}
	if oe, ok := errors.AsType[*oidc.Error](err); ok && says(oe) {
		err = errors.Join(noOf(oe), oe)
	}
	m := g.manager
	w := m.when()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flight = nil
	if f.err = err; err != nil {
		g.failures++
		g.err, g.notBefore = err, w.now.Add(backoff(g.failures, w.jitter))
		f.err = later(err, g.notBefore.Sub(w.now))
	} else {
		g.failures, g.notBefore = 0, time.Time{}
		if t.Obtained, t.Expires = m.here(t.Obtained), m.here(t.Expires); t.Expires.IsZero() {
			t.Expires = t.Obtained.Add(unsaidLife)
		}
		if old := g.current.Load(); old != nil {
			t.Generation = old.token.Generation
		}
		t.Generation++
		g.current.Store(new(further(t, w)))
	}
	close(f.done)
}

// turn waits for a turn at the provider.
func (g *minted) turn(ctx context.Context) error {
	c := g.manager.circuits[g.provider]
	if c == nil {
		return ErrDenied // it is not configured any more
	}
	if err := c.pace.Wait(ctx); err != nil {
		return &Unavailable{Err: err}
	}
	return nil
}

// mints are the minted tokens of one session, or of our client. Finding one takes no lock.
type mints struct {
	list atomic.Pointer[[]*minted]
	mu   sync.Mutex
}

func (s *mints) find(target oidc.Target) *minted {
	if list := s.list.Load(); list != nil {
		for _, g := range *list {
			if g.target == target {
				return g
			}
		}
	}
	return nil
}

// of is the one of a target; there are as many as routes.
func (s *mints) of(target oidc.Target, make func() *minted) *minted {
	if g := s.find(target); g != nil {
		return g
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.find(target); g != nil {
		return g
	}
	g := make()
	var list []*minted
	if old := s.list.Load(); old != nil {
		list = append(list, *old...)
	}
	list = append(list, g)
	s.list.Store(&list)
	return g
}

// client is the token of our client at the provider that gives it one.
func (m *Manager) client(target oidc.Target) *minted {
	return m.own.of(target, func() *minted {
		return &minted{manager: m, provider: m.ClientOf, target: target, ask: func(ctx context.Context) (oidc.AccessToken, error) {
			return m.Providers[m.ClientOf].Provider.ClientToken(ctx, target)
		}}
	})
}

// exchange is what the session's own access token is exchanged for.
func (l *Live) exchange(target oidc.Target) *minted {
	return l.exchanges.of(target, func() *minted {
		m, provider := l.manager, l.Session().Provider
		return &minted{manager: m, provider: provider, target: target, ask: func(ctx context.Context) (oidc.AccessToken, error) {
			set, err := m.Fresh(ctx, l)
			if err != nil {
				return oidc.AccessToken{}, err
			}
			subject, p := set.Own(), m.Providers[provider].Provider
			t, err := p.ExchangeToken(ctx, subject.Value, target)
			if newer, ok := m.afterItsEnd(ctx, l, subject, err); ok {
				subject = newer
				t, err = p.ExchangeToken(ctx, subject.Value, target)
			}
			if err == nil && t.Expires.IsZero() { // it lives no longer than what it was made of
				t.Expires = subject.Expires
			}
			return t, err
		}}
	})
}

// rounding is how much sooner than expires_in says a token may end: the times in a JWT are whole seconds (RFC 7519
// section 2), rounded down by most.
const rounding = time.Second

// afterItsEnd tells a no to a target from a no to a token that is about to end, which a provider with a clock of its own
// takes for over. It returns the next token to try with.
func (m *Manager) afterItsEnd(ctx context.Context, l *Live, subject oidc.AccessToken, err error) (oidc.AccessToken, bool) {
	oe, ok := errors.AsType[*oidc.Error](err)
	if !ok || !says(oe) {
		return subject, false
	}
	v := l.view.Load()
	fresh := v.freshTil.IsZero() || m.now().Add(rounding).Before(v.freshTil)
	if fresh && v.own.Generation == subject.Generation {
		return subject, false
	}
	newer, ok, _ := m.renewOwn(ctx, l, subject.Generation)
	return newer, ok
}
