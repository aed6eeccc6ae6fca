package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/memstore"
)

// provider is a scripted provider with one-time refresh tokens; a used one that comes back revokes the family.
type provider struct {
	mu      sync.Mutex
	life    time.Duration
	delay   time.Duration
	current string
	dead    bool
	n       int
	calls   int
	targets []oidc.Target // what was asked for, at each refresh
	minted  func(subject string, target oidc.Target) (oidc.AccessToken, error)
	reused  int
	gone    []string // the refresh tokens that were revoked
	fault   func(call int) (oidc.Exchange, error, bool)
	change  func(*oidc.Exchange) error
}

func (p *provider) Issuer() string      { return "https://op.example" }
func (p *provider) HasRevocation() bool { return true }

func (p *provider) next() oidc.Exchange {
	p.n++
	p.current = fmt.Sprintf("refresh-%d", p.n)
	return oidc.Exchange{
		Tokens: oidc.TokenSet{
			Access: fmt.Sprintf("access-%d", p.n), TokenType: "Bearer", Refresh: p.current, ID: "id",
			Obtained: time.Now(), Expires: time.Now().Add(p.life),
		},
		Claims: oidc.Claims{Issuer: p.Issuer(), Subject: "alice", SID: "s1", User: map[string]json.RawMessage{"name": json.RawMessage(`"Alice"`)}},
	}
}

func (p *provider) Refresh(ctx context.Context, old oidc.TokenSet, target oidc.Target, _ oidc.Expect) (oidc.Exchange, error) {
	p.mu.Lock()
	p.calls++
	p.targets = append(p.targets, target)
	call, delay, fault := p.calls, p.delay, p.fault
	p.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return oidc.Exchange{}, &oidc.Error{Kind: oidc.Ambiguous, Err: ctx.Err()}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if fault != nil {
		if x, err, done := fault(call); done {
			return x, err
		}
	}
	if p.dead || old.Refresh != p.current {
		p.dead = true
		p.reused++
		return oidc.Exchange{}, &oidc.Error{Kind: oidc.Definitive, Code: "invalid_grant"}
	}
	x := p.next()
	if target != (oidc.Target{}) {
		x = p.asideOf(old, x, target)
	}
	if p.change != nil {
		return x, p.change(&x)
	}
	return x, nil
}

func (p *provider) Revoke(_ context.Context, t oidc.TokenSet) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = append(p.gone, t.Refresh)
	return nil
}

// revoked are the refresh tokens that were revoked so far.
func (p *provider) revoked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.gone)
}

// flaky is a store that can be made to fail.
type flaky struct {
	*memstore.Store
	down    atomic.Bool
	saves   atomic.Int64
	touches atomic.Int64
	loaded  func() // called when a record was read and is not handed back yet
}

func (f *flaky) Touch(ctx context.Context, touches []store.Touch) error {
	f.touches.Add(int64(len(touches)))
	return f.Store.Touch(ctx, touches)
}

var errDown = errors.New("the store is down")

func (f *flaky) Load(ctx context.Context, id store.ID) (store.Record, error) {
	if f.down.Load() {
		return store.Record{}, errDown
	}
	rec, err := f.Store.Load(ctx, id)
	if f.loaded != nil {
		f.loaded()
	}
	return rec, err
}

func (f *flaky) Save(ctx context.Context, r store.Record) (uint64, error) {
	if f.down.Load() {
		return 0, errDown
	}
	f.saves.Add(1)
	return f.Store.Save(ctx, r)
}

func (f *flaky) Delete(ctx context.Context, ids ...store.ID) error {
	if f.down.Load() {
		return errDown
	}
	return f.Store.Delete(ctx, ids...)
}

// fixture is a manager on fakes.
type fixture struct {
	*Manager
	t     testing.TB
	p     *provider
	st    *flaky
	mu    sync.Mutex
	audit []event.Audit
}

func newFixture(t testing.TB, change func(*Options)) *fixture {
	t.Helper()
	f := &fixture{t: t, p: &provider{life: time.Minute}, st: &flaky{Store: memstore.New()}}
	ring, err := seal.NewRing(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Frontend: "https://app.example", Store: f.st, Ring: ring, Cache: NewCache(1 << 20),
		Providers: map[string]ProviderPolicy{"main": {Provider: f.p, ClientID: "app"}},
		Idle:      24 * time.Hour, RememberIdle: 14 * 24 * time.Hour, Lifetime: 30 * 24 * time.Hour, UserTokenNeeded: true,
		Events: func(e event.Event) {
			if a, ok := e.(*event.Audit); ok {
				f.mu.Lock()
				f.audit = append(f.audit, *a)
				f.mu.Unlock()
			}
		},
	}
	if change != nil {
		change(&o)
	}
	f.Manager = f.manager(o)
	return f
}

func (f *fixture) manager(o Options) *Manager {
	f.t.Helper()
	if o.Feed == nil || o.Feed.cache != o.Cache || o.Feed.store != o.Store {
		o.Feed = NewFeed(o.Store, o.Cache, 0, o.Events)
	}
	m, err := NewManager(o)
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

func (f *fixture) login() (Ticket, *Live) {
	f.t.Helper()
	f.p.mu.Lock()
	x := f.p.next()
	f.p.mu.Unlock()
	ticket, live, err := f.Create(context.Background(), Login{Provider: "main", Method: "redirect", Exchange: x})
	if err != nil {
		f.t.Fatal(err)
	}
	return ticket, live
}

// reasons of the sessions that ended.
func (f *fixture) reasons() (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.audit {
		if a.Kind == event.SessionEnded {
			list = append(list, a.Reason)
		}
	}
	return list
}

// inBubble runs a test in fake time and closes the manager before the bubble ends.
func inBubble(t *testing.T, change func(*Options), test func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, change)
		test(t, f)
		if err := f.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestOneRefreshForAll(t *testing.T) {
	for name, canceled := range map[string]bool{"all wait": false, "half go away": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, f *fixture) {
				ticket, _ := f.login()
				f.p.delay = 3 * time.Second
				time.Sleep(61 * time.Second)
				var wait sync.WaitGroup
				var fine atomic.Int64
				for i := range 200 {
					wait.Go(func() {
						ctx, cancel := context.WithCancel(context.Background())
						defer cancel()
						if canceled && i%2 == 0 {
							time.AfterFunc(time.Second, cancel)
						}
						l, err := f.Lookup(ctx, ticket)
						if err != nil {
							t.Error(err)
							return
						}
						if tokens, err := f.Fresh(ctx, l); err == nil && tokens.Access == "access-2" {
							fine.Add(1)
						} else if !canceled || i%2 == 1 {
							t.Errorf("caller %d: %v", i, err)
						}
					})
				}
				wait.Wait()
				if want := int64(200); !canceled && fine.Load() != want || f.p.asked() != 1 || f.p.spent() != 0 {
					t.Errorf("%d fine, %d calls, %d reused", fine.Load(), f.p.asked(), f.p.spent())
				}
			})
		})
	}
}

func TestRefreshRunsAhead(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		_, l := f.login()
		f.p.delay = 2 * time.Second
		time.Sleep(52 * time.Second)
		began := time.Now()
		tokens, err := f.Fresh(t.Context(), l)
		if err != nil || tokens.Access != "access-1" || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		time.Sleep(3 * time.Second)
		if tokens, err = f.Fresh(t.Context(), l); err != nil || tokens.Access != "access-2" {
			t.Errorf("%v: not refreshed ahead", err)
		}
	})
}

func TestShortTokens(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		f.p.life = 2 * time.Second
		_, l := f.login()
		for i := range 100 {
			time.Sleep(700 * time.Millisecond)
			tokens, err := f.Fresh(t.Context(), l)
			if err != nil || !time.Now().Before(tokens.Expires) {
				t.Fatalf("call %d: %v, over by %v", i, err, time.Since(tokens.Expires))
			}
		}
		if f.p.asked() < 30 || f.p.asked() > 60 {
			t.Errorf("%d refreshes in 70 s of 2 s tokens", f.p.asked())
		}
	})
}

func TestProviderDownForTenMinutes(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		ticket, l := f.login()
		f.p.fault = func(int) (oidc.Exchange, error, bool) {
			return oidc.Exchange{}, &oidc.Error{Kind: oidc.Transient}, true
		}
		for range 600 {
			time.Sleep(time.Second)
			tokens, err := f.Fresh(t.Context(), l)
			var u *Unavailable
			if err != nil && (!errors.As(err, &u) || u.RetryAfter <= 0) || err == nil && !time.Now().Before(tokens.Expires) {
				t.Fatalf("%v", err)
			}
		}
		if !l.Degraded() {
			t.Error("not degraded")
		}
		if f.p.asked() > 60 {
			t.Errorf("%d attempts in ten minutes", f.p.asked())
		}
		f.p.mu.Lock()
		f.p.fault = nil
		f.p.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if _, err := f.Fresh(t.Context(), l); err != nil || l.Degraded() {
			t.Errorf("after recovery: %v, degraded %v", err, l.Degraded())
		}
		if _, err := f.Lookup(t.Context(), ticket); err != nil || len(f.reasons()) != 0 {
			t.Errorf("%v %v", err, f.reasons())
		}
	})
}

func TestAmbiguousAnswers(t *testing.T) {
	for _, tc := range []struct {
		reuse string
		calls int
		end   string
	}{
		{"none", 1, ReasonRefreshLost},
		{"unknown", 2, ""}, // no rotation was seen: as transient
		{"harmless", 2, ""},
		{"30s", 2, ""},
	} {
		t.Run(tc.reuse, func(t *testing.T) {
			reuse, err := ParseReuse(tc.reuse)
			if err != nil {
				t.Fatal(err)
			}
			inBubble(t, func(o *Options) {
				p := o.Providers["main"]
				p.Reuse = reuse
				o.Providers["main"] = p
			}, func(t *testing.T, f *fixture) {
				_, l := f.login()
				f.p.fault = func(call int) (oidc.Exchange, error, bool) {
					return oidc.Exchange{}, &oidc.Error{Kind: oidc.Ambiguous}, call == 1
				}
				time.Sleep(50 * time.Second)
				if tokens, err := f.Fresh(t.Context(), l); err != nil || tokens.Access != "access-1" {
					t.Errorf("the old token does not serve: %v", err)
				}
				time.Sleep(5 * time.Second)
				if _, err := f.Fresh(t.Context(), l); err != nil {
					t.Errorf("in its life: %v", err)
				}
				time.Sleep(10 * time.Second)
				_, err := f.Fresh(t.Context(), l)
				if tc.end != "" != errors.Is(err, ErrEnded) {
					t.Errorf("past its life: %v", err)
				}
				synctest.Wait()
				if f.p.asked() != tc.calls || tc.end != "" && (len(f.reasons()) != 1 || f.reasons()[0] != tc.end) {
					t.Errorf("%d calls, ended %v", f.p.asked(), f.reasons())
				}
			})
		})
	}
}

func TestRefusedOnceAndForAll(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		ticket, l := f.login()
		f.p.dead = true
		time.Sleep(61 * time.Second)
		for range 3 {
			if _, err := f.Fresh(t.Context(), l); !errors.Is(err, ErrEnded) {
				t.Errorf("%v", err)
			}
		}
		if _, err := f.Lookup(t.Context(), ticket); !errors.Is(err, ErrEnded) {
			t.Errorf("a zombie: %v", err)
		}
		select {
		case <-l.Done():
		default:
			t.Error("its streams live on")
		}
		if f.p.asked() != 1 || len(f.reasons()) != 1 || f.reasons()[0] != ReasonRefreshRejected {
			t.Errorf("%d calls, %v", f.p.asked(), f.reasons())
		}
	})
}

// The new token set is saved before anyone uses it, however long that takes, and is not lost meanwhile.
func TestStoreDownAtSave(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		ticket, l := f.login()
		f.p.delay = time.Second
		time.Sleep(52 * time.Second)
		if tokens, err := f.Fresh(t.Context(), l); err != nil || tokens.Access != "access-1" {
			t.Errorf("%v", err)
		}
		synctest.Wait() // the provider is asked
		f.st.down.Store(true)
		time.Sleep(5 * time.Second)
		if tokens, err := f.Fresh(t.Context(), l); err != nil || tokens.Access != "access-1" || f.p.asked() != 1 {
			t.Errorf("used before it was saved: %v, %d calls", err, f.p.asked())
		}
		time.Sleep(30 * time.Second)
		f.st.down.Store(false)
		time.Sleep(10 * time.Second)
		if tokens, err := f.Fresh(t.Context(), l); err != nil || tokens.Access != "access-2" {
			t.Errorf("%v", err)
		}
		again := f.manager(f.Options) // a restart
		l2, err := again.Lookup(t.Context(), ticket)
		if err != nil || again.Tokens(l2).Access != "access-2" || f.p.asked() != 1 {
			t.Errorf("%v, %d calls", err, f.p.asked())
		}
		if err := again.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// While the store cannot take the lease, nothing is presented: what came back could not be saved.
func TestStoreDownBeforeTheLease(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		_, l := f.login()
		time.Sleep(50 * time.Second)
		f.st.down.Store(true)
		for range 30 {
			time.Sleep(time.Second)
			tokens, err := f.Fresh(t.Context(), l)
			if err != nil && !isUnavailable(err) || err == nil && !time.Now().Before(tokens.Expires) {
				t.Fatal(err)
			}
		}
		if f.p.asked() != 0 {
			t.Errorf("%d calls", f.p.asked())
		}
		f.st.down.Store(false)
		time.Sleep(10 * time.Second)
		if tokens, err := f.Fresh(t.Context(), l); err != nil || tokens.Access != "access-2" || f.p.asked() != 1 {
			t.Errorf("%v, %d calls", err, f.p.asked())
		}
	})
}

func TestStoreDownIsNotLoggedOut(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		ticket, _ := f.login()
		f.Cache = NewCache(1 << 20)
		f.lives = nil
		f.st.down.Store(true)
		var u *Unavailable
		if _, err := f.Lookup(t.Context(), ticket); !errors.As(err, &u) {
			t.Errorf("%v", err)
		}
	})
}

func TestAnotherSubjectEndsTheSession(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		_, l := f.login()
		f.p.change = func(*oidc.Exchange) error { return &oidc.Error{Kind: oidc.Rejected, Code: "subject_changed"} }
		time.Sleep(61 * time.Second)
		if _, err := f.Fresh(t.Context(), l); !errors.Is(err, ErrEnded) {
			t.Errorf("%v", err)
		}
		if r := f.reasons(); len(r) == 0 || r[0] != ReasonSubjectChanged {
			t.Errorf("%v", r)
		}
		if f.st.saves.Load() != 3 || len(f.p.revoked()) == 0 || f.p.revoked()[0] != "refresh-2" {
			t.Errorf("%d saves, revoked %v", f.st.saves.Load(), f.p.revoked())
		}
	})
}

func TestLifetimes(t *testing.T) {
	const days = 4
	inBubble(t, func(o *Options) { o.Lifetime = days * 24 * time.Hour }, func(t *testing.T, f *fixture) {
		f.p.life = 1000 * time.Hour
		idle, _ := f.login()
		time.Sleep(24*time.Hour + 30*time.Minute)
		if l, err := f.Lookup(t.Context(), idle); err != nil {
			t.Errorf("within the slack of the idle end: %v", err)
		} else {
			f.Touch(l)
		}
		time.Sleep(25*time.Hour + 13*time.Minute)
		if _, err := f.Lookup(t.Context(), idle); !errors.Is(err, ErrEnded) {
			t.Errorf("idle: %v", err)
		}
		used, l := f.login()
		for range (days + 1) * 24 {
			time.Sleep(time.Hour)
			f.Touch(l)
		}
		if _, err := f.Lookup(t.Context(), used); !errors.Is(err, ErrEnded) {
			t.Errorf("lifetime: %v", err)
		}
	})
}

// Activity of one session is written at most once per twentieth of its idle timeout.
func TestTouchesAreCoalesced(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		_, l := f.login()
		for range 3 * 3600 {
			time.Sleep(time.Second)
			f.Touch(l)
		}
		if n := f.st.touches.Load(); n < 1 || n > 3 {
			t.Errorf("three hours of activity were written %d times", n)
		}
	})
}

func TestEndRevokesAndStaysEnded(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		ticket, l := f.login()
		f.p.delay = time.Second
		time.Sleep(61 * time.Second)
		var wait sync.WaitGroup
		wait.Go(func() { _, _ = f.Fresh(t.Context(), l) }) // a refresh is running
		time.Sleep(100 * time.Millisecond)
		if revoked, err := f.End(t.Context(), l, ReasonLogout); err != nil || !revoked {
			t.Errorf("%v %v", revoked, err)
		}
		wait.Wait()
		f.Touch(l)
		time.Sleep(5 * time.Second)
		if _, err := f.Lookup(t.Context(), ticket); !errors.Is(err, ErrEnded) {
			t.Errorf("came back: %v", err)
		}
		found := false
		for _, r := range f.p.revoked() {
			found = found || r == f.p.current
		}
		if !found {
			t.Errorf("the newest refresh token %q was not revoked: %v", f.p.current, f.p.revoked())
		}
		if page, err := f.st.Find(t.Context(), store.Query{}); err != nil || len(page.Records) != 0 {
			t.Errorf("%d records are left", len(page.Records))
		}
	})
}

// A session that ends while its record is on its way from the store is not kept by who was loading it.
func TestEndOvertakesALoad(t *testing.T) {
	for name, held := range map[string]bool{"by handle": false, "by its Live": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, f *fixture) {
				ticket, live := f.login()
				handle := live.Session().Handle
				o := f.Options
				o.Cache = NewCache(1 << 20)
				m := f.manager(o) // has nothing in memory
				var l *Live
				if held {
					var err error
					if l, err = m.Lookup(t.Context(), ticket); err != nil {
						t.Fatal(err)
					}
					m.Cache.drop(l.id)
				}
				var began atomic.Bool
				f.st.loaded = func() {
					if began.Swap(true) {
						return
					}
					var err error
					if held {
						_, err = m.End(t.Context(), l, ReasonLogout)
					} else {
						err = m.EndHandle(t.Context(), handle, ReasonLogout)
					}
					if err != nil {
						t.Error(err)
					}
				}
				for i := range 2 {
					if _, err := m.Lookup(t.Context(), ticket); !errors.Is(err, ErrEnded) {
						t.Errorf("lookup %d: %v", i, err)
					}
				}
				if err := m.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestRenew(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		_, l := f.login()
		tokens, ok, err := f.Renew(t.Context(), l, own, 1)
		if err != nil || !ok || tokens.Value != "access-2" {
			t.Errorf("%v %v", ok, err)
		}
		if tokens, ok, err = f.Renew(t.Context(), l, own, 1); err != nil || !ok || tokens.Value != "access-2" || f.p.asked() != 1 {
			t.Errorf("an older rejection: %v %v, %d calls", ok, err, f.p.asked())
		}
		f.p.fault = func(int) (oidc.Exchange, error, bool) {
			return oidc.Exchange{}, &oidc.Error{Kind: oidc.Transient}, true
		}
		for range 5 {
			if _, ok, err := f.Renew(t.Context(), l, own, 2); ok || err != nil {
				t.Errorf("%v %v", ok, err)
			}
		}
		if f.p.asked() != 2 {
			t.Errorf("an API drives the provider: %d calls", f.p.asked())
		}
	})
}

func TestReplacedSession(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		old, l := f.login()
		handle := l.Session().Handle
		if _, alive := f.Alive(t.Context(), handle); !alive {
			t.Error("not alive")
		}
		f.p.mu.Lock()
		x := f.p.next()
		f.p.mu.Unlock()
		if _, _, err := f.Create(t.Context(), Login{Provider: "main", Method: "redirect", Exchange: x, ReplacesHandle: handle}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Lookup(t.Context(), old); !errors.Is(err, ErrEnded) {
			t.Errorf("%v", err)
		}
		if _, alive := f.Alive(t.Context(), handle); alive {
			t.Error("alive")
		}
	})
}

func TestCorruptRecordLosesOneSession(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		ticket, l := f.login()
		other, _ := f.login()
		rec, err := f.st.Load(t.Context(), l.id)
		if err != nil {
			t.Fatal(err)
		}
		rec.Blob[len(rec.Blob)/2] ^= 1
		if _, err := f.st.Save(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		again := f.manager(Options{Frontend: f.Frontend, Store: f.st, Ring: f.Ring, Cache: NewCache(1 << 20), Providers: f.Providers, Idle: f.Idle, RememberIdle: f.RememberIdle, Lifetime: f.Lifetime, Events: f.Events})
		if _, err := again.Lookup(t.Context(), ticket); !errors.Is(err, ErrEnded) {
			t.Errorf("%v", err)
		}
		if _, err := again.Lookup(t.Context(), other); err != nil {
			t.Errorf("another session: %v", err)
		}
		if err := again.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A ticket of one frontend opens nothing at another, and neither does another ring.
func TestTicketsAreOfOneFrontend(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		ticket, l := f.login()
		o := f.Options
		o.Frontend = "https://other.example"
		other := f.manager(o)
		if _, err := other.Lookup(t.Context(), ticket); !errors.Is(err, ErrEnded) {
			t.Errorf("%v", err)
		}
		if _, alive := other.Alive(t.Context(), l.Session().Handle); alive {
			t.Error("a handle of another frontend")
		}
		if err := other.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	f := newFixture(t, nil)
	ticket, _ := f.login()
	ctx := context.Background()
	n := testing.AllocsPerRun(1000, func() {
		l, err := f.Lookup(ctx, ticket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Fresh(ctx, l); err != nil {
			t.Fatal(err)
		}
		f.Touch(l)
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
	if err := f.Close(ctx); err != nil {
		t.Error(err)
	}
}

func BenchmarkLookupFresh(b *testing.B) {
	f := newFixture(b, nil)
	f.p.life = time.Hour
	ticket, _ := f.login()
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l, err := f.Lookup(ctx, ticket)
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := f.Fresh(ctx, l); err != nil {
				b.Error(err)
				return
			}
			f.Touch(l)
		}
	})
}

func FuzzParseTicket(f *testing.F) {
	f.Add(NewTicket().Reveal())
	f.Add("")
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB")
	f.Fuzz(func(t *testing.T, s string) {
		ticket, err := ParseTicket(s)
		if err == nil && ticket.Reveal() != s {
			t.Fatalf("%q has another spelling", s)
		}
		if err != nil && len(s) == TicketLength && fmt.Sprint(ticket) != "[ticket]" {
			t.Fatal("printed")
		}
	})
}

func TestTicketCannotBePrinted(t *testing.T) {
	ticket := NewTicket()
	j, err := json.Marshal(ticket)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(ticket), fmt.Sprintf("%v %+v %#v %s %q %x", ticket, ticket, ticket, ticket, ticket, ticket), string(j), fmt.Sprint(&ticket)} {
		if len(s) > 200 || containsAny(s, ticket.Reveal()) {
			t.Errorf("printed: %s", s)
		}
	}
}

func containsAny(s, secret string) bool {
	for i := 0; i+8 <= len(secret); i++ {
		for k := 0; k+8 <= len(s); k++ {
			if s[k:k+8] == secret[i:i+8] {
				return true
			}
		}
	}
	return false
}

func FuzzRecord(f *testing.F) {
	fx := newFixture(f, nil)
	ticket, l := fx.login()
	rec, err := fx.st.Load(context.Background(), l.id)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rec.Blob)
	f.Add([]byte{})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, blob []byte) {
		r := rec
		r.Blob = blob
		if o, err := fx.decode(r, ticket); err == nil && o.tokens.Access != "access-1" {
			t.Fatal("opened to something else")
		}
	})
}
