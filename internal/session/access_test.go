package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

var (
	own    = Need{Kind: User}
	orders = Need{Kind: User, Target: oidc.Target{Audience: "https://orders.example"}}
	stock  = Need{Kind: User, Target: oidc.Target{Audience: "https://stock.example", Scope: "read"}}
)

// asideOf is what a refresh for a target brings. p.mu is held.
func (p *provider) asideOf(old oidc.TokenSet, x oidc.Exchange, target oidc.Target) oidc.Exchange {
	got := x.Tokens.Own()
	got.Target, got.Value = target, fmt.Sprintf("%s-%d", target.Audience, p.n)
	x.Tokens.Generation = old.Generation + 1
	x.Tokens = oidc.Aside(old, x.Tokens, got)
	return x
}

// asked is how often the provider was asked.
func (p *provider) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// spent is how often a token came that was used before.
func (p *provider) spent() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reused
}

// set changes what the provider does.
func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *provider) mint(subject string, target oidc.Target) (oidc.AccessToken, error) {
	p.mu.Lock()
	p.calls++
	p.targets = append(p.targets, target)
	call, delay, minted := p.calls, p.delay, p.minted
	p.mu.Unlock()
	time.Sleep(delay)
	if minted != nil {
		return minted(subject, target)
	}
	return oidc.AccessToken{
		Target: target, Value: fmt.Sprintf("%s of %s %d", target.Audience, subject, call), Obtained: time.Now(), Expires: time.Now().Add(p.life),
	}, nil
}

func (p *provider) ExchangeToken(_ context.Context, subject string, target oidc.Target) (oidc.AccessToken, error) {
	return p.mint(subject, target)
}

func (p *provider) ClientToken(_ context.Context, target oidc.Target) (oidc.AccessToken, error) {
	return p.mint("the client", target)
}

func (f *fixture) access(l *Live, need Need) string {
	f.t.Helper()
	t, err := f.Access(context.Background(), l, need)
	if err != nil {
		f.t.Errorf("%v: %v", need, err)
	}
	return t.Value
}

// TestOneRefreshForEachTarget: whatever asks for whatever at the same time, the refresh token is presented once for
// each target, one after the other, and each gets its own.
func TestOneRefreshForEachTarget(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		ticket, _ := f.login()
		f.p.set(func() { f.p.delay = 3 * time.Second })
		var wait sync.WaitGroup
		var wrong atomic.Int64
		for i := range 200 {
			need := []Need{own, orders, stock}[i%3]
			wait.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%2 == 0 {
					time.AfterFunc(time.Second, cancel) // half of them go away
				}
				l, err := f.Lookup(ctx, ticket)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := f.Access(ctx, l, need)
				if err == nil && (got.Target != need.Target || got.Value == "") || err != nil && i%2 == 1 {
					wrong.Add(1)
				}
			})
		}
		wait.Wait()
		if wrong.Load() != 0 || f.p.asked() != 2 || f.p.spent() != 0 {
			t.Errorf("%d got what they did not ask for, %d token requests, %d times a spent token", wrong.Load(), f.p.asked(), f.p.spent())
		}
		l, _ := f.Lookup(t.Context(), ticket)
		if f.access(l, own) != "access-1" || f.p.asked() != 2 {
			t.Error("the session's own token did not stay")
		}
		time.Sleep(50 * time.Second) // its own one is due: the others stay
		f.access(l, own)
		synctest.Wait()
		time.Sleep(5 * time.Second)
		if got := f.p.targets[2]; f.p.asked() != 3 || got != (oidc.Target{}) {
			t.Errorf("%d token requests, the last for %v", f.p.asked(), got)
		}
		if f.access(l, own) != "access-4" {
			t.Error("the session's own token was not renewed")
		}
	})
}

// TestTargetsAreKept: a token for another target is in the record, so that neither a restart nor another process asks
// again; a refresh of one process is taken over by the other even where the session's own token stayed.
func TestTargetsAreKept(t *testing.T) {
	fleet(t, 2, nil, func(t *testing.T, _ *hub, r []*replica) {
		p, f := r[0].p, r[0].fixture
		p.set(func() { p.life = 10 * time.Minute })
		ticket, l := r[0].login()
		there := wantLive(t, r[1], ticket, "there")
		first := f.access(l, orders)
		time.Sleep(2 * time.Second)
		got, err := r[1].Access(t.Context(), there, orders)
		if err != nil || got.Value != first || p.asked() != 1 {
			t.Errorf("the other process: %v, the same %v, %d token requests", err, got.Value == first, p.asked())
		}
		// Both at once, for different targets: one presents after the other.
		p.set(func() { p.delay = 3 * time.Second })
		third := Need{Kind: User, Target: oidc.Target{Scope: "third"}}
		var wait sync.WaitGroup
		wait.Go(func() {
			if _, err := r[0].Access(t.Context(), l, stock); err != nil {
				t.Error(err)
			}
		})
		wait.Go(func() {
			if _, err := r[1].Access(t.Context(), there, third); err != nil {
				t.Error(err)
			}
		})
		wait.Wait()
		if p.spent() != 0 || p.asked() != 3 {
			t.Errorf("%d token requests, %d times a spent token", p.asked(), p.spent())
		}
	})
}

// TestTargetAhead: close to its end a target's token is renewed in the background.
func TestTargetAhead(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		_, l := f.login()
		first := f.access(l, orders)
		time.Sleep(52 * time.Second)
		f.p.set(func() { f.p.delay = 3 * time.Second })
		began := time.Now()
		if f.access(l, orders) != first || time.Since(began) != 0 {
			t.Error("a token that lives was not given at once")
		}
		time.Sleep(4 * time.Second)
		if f.access(l, orders) == first || f.p.asked() != 2 {
			t.Errorf("not renewed ahead: %d token requests", f.p.asked())
		}
	})
}

// TestTargetDenied: a no to one target ends nothing, and is not asked for with every request.
func TestTargetDenied(t *testing.T) {
	for _, c := range []struct {
		kind oidc.Kind
		want error
	}{{oidc.Misconfigured, ErrDenied}, {oidc.Definitive, ErrDenied}, {oidc.StepUp, ErrStepUp}} {
		inBubble(t, nil, func(t *testing.T, f *fixture) {
			_, l := f.login()
			f.p.set(func() {
				f.p.fault = func(int) (oidc.Exchange, error, bool) { return oidc.Exchange{}, &oidc.Error{Kind: c.kind}, true }
			})
			for range 50 {
				if _, err := f.Access(t.Context(), l, orders); !errors.Is(err, c.want) {
					t.Fatalf("%v: %v", c.kind, err)
				}
				if f.access(l, own) != "access-1" {
					t.Error("the session's own token is gone")
				}
				time.Sleep(100 * time.Millisecond)
			}
			if f.p.asked() < 2 || f.p.asked() > 4 || l.Degraded() {
				t.Errorf("asked %d times in 5 s; degraded: %v", f.p.asked(), l.Degraded())
			}
			f.p.set(func() { f.p.fault = nil })
			time.Sleep(time.Minute)
			if f.access(l, orders) == "" || f.access(l, own) == "access-1" {
				t.Error("it did not go on")
			}
			if len(f.reasons()) != 0 {
				t.Errorf("ended: %v", f.reasons())
			}
		})
	}
}

// TestTargetOfADeadFamily: a refresh token that is really over is found out when the session's own token is due.
func TestTargetOfADeadFamily(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		_, l := f.login()
		f.p.set(func() { f.p.dead = true })
		if _, err := f.Access(t.Context(), l, orders); !errors.Is(err, ErrDenied) {
			t.Errorf("%v", err)
		}
		time.Sleep(61 * time.Second)
		if _, err := f.Access(t.Context(), l, own); !errors.Is(err, ErrEnded) || len(f.reasons()) != 1 || f.reasons()[0] != ReasonRefreshRejected {
			t.Errorf("%v, %v", err, f.reasons())
		}
		if _, err := f.Access(t.Context(), l, orders); !errors.Is(err, ErrEnded) {
			t.Errorf("%v", err)
		}
	})
}

// TestTargetOfAnIllProvider: trouble is no no.
func TestTargetOfAnIllProvider(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		_, l := f.login()
		f.p.set(func() {
			f.p.fault = func(int) (oidc.Exchange, error, bool) {
				return oidc.Exchange{}, &oidc.Error{Kind: oidc.Transient}, true
			}
		})
		_, err := f.Access(t.Context(), l, orders)
		if u, ok := errors.AsType[*Unavailable](err); !ok || u.RetryAfter < time.Second {
			t.Errorf("%v", err)
		}
		f.p.set(func() { f.p.fault = nil })
		time.Sleep(2 * time.Second)
		if f.access(l, orders) == "" {
			t.Error("not served again")
		}
	})
	inBubble(t, nil, func(t *testing.T, f *fixture) { // without a refresh token there is only the login's
		f.p.mu.Lock()
		x := f.p.next()
		x.Tokens.Refresh = ""
		f.p.mu.Unlock()
		_, l, err := f.Create(t.Context(), Login{Provider: "main", Method: "redirect", Exchange: x})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Access(t.Context(), l, orders); !errors.Is(err, ErrDenied) || f.p.asked() != 0 {
			t.Errorf("%v, %d token requests", err, f.p.asked())
		}
	})
}

// TestTargetLost: an answer that did not come for a target is as grave as any other: the refresh token may be spent.
func TestTargetLost(t *testing.T) {
	inBubble(t, func(o *Options) {
		p := o.Providers["main"]
		p.Reuse = Reuse{kind: reuseNone}
		o.Providers["main"] = p
	}, func(t *testing.T, f *fixture) {
		_, l := f.login()
		f.p.set(func() {
			f.p.fault = func(int) (oidc.Exchange, error, bool) {
				return oidc.Exchange{}, &oidc.Error{Kind: oidc.Ambiguous}, true
			}
		})
		if _, err := f.Access(t.Context(), l, orders); !isUnavailable(err) {
			t.Errorf("%v", err)
		}
		f.p.set(func() { f.p.fault = nil })
		time.Sleep(30 * time.Second)
		if _, err := f.Access(t.Context(), l, orders); !isUnavailable(err) || f.access(l, own) != "access-1" {
			t.Errorf("%v; the session's own token serves out its life", err)
		}
		time.Sleep(31 * time.Second)
		if _, err := f.Access(t.Context(), l, own); !errors.Is(err, ErrEnded) || f.p.asked() != 1 || f.reasons()[0] != ReasonRefreshLost {
			t.Errorf("%v, %d token requests, %v", err, f.p.asked(), f.reasons())
		}
	})
}

// TestRenewTargets: what an upstream rejects is renewed once per generation, whatever kind it is.
func TestRenewTargets(t *testing.T) {
	for name, need := range map[string]Need{
		"user": orders, "exchange": {Kind: Exchange, Target: orders.Target}, "client": {Kind: Client, Target: orders.Target},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(o *Options) { o.ClientOf = "main" }, func(t *testing.T, f *fixture) {
				f.p.set(func() { f.p.life = time.Hour })
				_, l := f.login()
				first, err := f.Access(t.Context(), l, need)
				if err != nil {
					t.Fatal(err)
				}
				second, ok, err := f.Renew(t.Context(), l, need, first.Generation)
				if err != nil || !ok || second.Value == first.Value || second.Generation <= first.Generation {
					t.Fatalf("%v %v", ok, err)
				}
				if again, ok, err := f.Renew(t.Context(), l, need, first.Generation); err != nil || !ok || again.Value != second.Value || f.p.asked() != 2 {
					t.Errorf("an older rejection: %v %v, %d token requests", ok, err, f.p.asked())
				}
				f.Rejected(l, need, second.Generation)
				for range 5 {
					if _, ok, err := f.Renew(t.Context(), l, need, second.Generation); ok || err != nil {
						t.Errorf("%v %v", ok, err)
					}
				}
				if f.p.asked() != 2 {
					t.Errorf("an API drives the provider: %d token requests", f.p.asked())
				}
				if f.access(l, need) != second.Value {
					t.Error("the current token is not used any more")
				}
			})
		})
	}
}

// TestMinted: tokens that may be had again are asked for once by all who need them, renewed ahead, and left alone for a
// while after a no.
func TestMinted(t *testing.T) {
	for name, need := range map[string]Need{
		"exchange": {Kind: Exchange, Target: orders.Target}, "client": {Kind: Client, Target: orders.Target},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(o *Options) { o.ClientOf = "main" }, func(t *testing.T, f *fixture) {
				f.p.set(func() { f.p.delay = time.Second })
				_, l := f.login()
				var wait sync.WaitGroup
				for range 100 {
					wait.Go(func() { f.access(l, need) })
				}
				wait.Wait()
				first := f.access(l, need)
				if f.p.asked() != 1 || first == "" {
					t.Errorf("%d token requests", f.p.asked())
				}
				time.Sleep(52 * time.Second)
				began := time.Now()
				if f.access(l, need) != first || time.Since(began) != 0 {
					t.Error("a token that lives was not given at once")
				}
				time.Sleep(15 * time.Second)
				if f.access(l, need) == first {
					t.Error("not renewed ahead")
				}
				f.p.set(func() {
					f.p.minted = func(string, oidc.Target) (oidc.AccessToken, error) {
						return oidc.AccessToken{}, &oidc.Error{Kind: oidc.Definitive}
					}
				})
				time.Sleep(2 * time.Minute)
				before := f.p.asked()
				for range 50 {
					if _, err := f.Access(t.Context(), l, need); !errors.Is(err, ErrDenied) {
						t.Fatalf("%v", err)
					}
				}
				if n := f.p.asked() - before; n > 2 { // one of them may be the session's own refresh
					t.Errorf("asked %d times at once after a no", n)
				}
				f.p.set(func() { f.p.minted = nil })
				time.Sleep(5 * time.Second)
				if f.access(l, need) == "" {
					t.Error("not served again")
				}
			})
		})
	}
}

// TestExchangeOfATokenThatEnds: a provider takes a token for over a little before we do, also one second before it is
// due. The next one is tried then, and nobody hears of it. A no to a token that lives is a no.
func TestExchangeOfATokenThatEnds(t *testing.T) {
	for name, c := range map[string]struct {
		before time.Duration // its end, or if below zero the time when it is due
		want   string
	}{
		"at its end":          {time.Second, "of access-2"},
		"just before its due": {-rounding / 2, "of access-2"},
		"long before":         {30 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, f *fixture) {
				_, l := f.login()
				v := l.view.Load()
				at := v.tokens.Expires.Add(-c.before)
				if c.before < 0 {
					at = v.freshTil.Add(c.before)
				}
				time.Sleep(time.Until(at))
				f.p.set(func() {
					f.p.delay = 100 * time.Millisecond
					f.p.minted = func(subject string, target oidc.Target) (oidc.AccessToken, error) {
						if subject == "access-1" {
							return oidc.AccessToken{}, &oidc.Error{Kind: oidc.Misconfigured, Code: "invalid_request"}
						}
						return oidc.AccessToken{Target: target, Value: "of " + subject, Obtained: time.Now(), Expires: time.Now().Add(time.Minute)}, nil
					}
				})
				got, err := f.Access(t.Context(), l, Need{Kind: Exchange, Target: orders.Target})
				if got.Value != c.want || (c.want == "") != errors.Is(err, ErrDenied) {
					t.Errorf("got %q, %v", got.Value, err)
				}
				if c.want == "" && f.p.asked() != 1 {
					t.Errorf("asked %d times", f.p.asked())
				}
			})
		})
	}
}

// TestAccessOfACachedSessionIsFree: a token that is fresh costs no allocation, whatever kind it is.
func TestAccessOfACachedSessionIsFree(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.ClientOf = "main" })
	defer f.Close(context.Background())
	f.p.set(func() { f.p.life = time.Hour })
	_, l := f.login()
	for _, need := range []Need{own, orders, {Kind: Exchange, Target: orders.Target}, {Kind: Client, Target: stock.Target}} {
		f.access(l, need)
		ctx := t.Context()
		if n := testing.AllocsPerRun(100, func() { _, _ = f.Access(ctx, l, need) }); n != 0 {
			t.Errorf("%v: %v allocations", need, n)
		}
	}
}
