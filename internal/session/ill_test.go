package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/oidc"
)

// crowd is a provider of many people, with one-time refresh tokens; a spent one that comes back ends that person's
// family. It notes when it was asked.
type crowd struct {
	*provider
	mu      sync.Mutex
	life    time.Duration
	delay   time.Duration
	down    error // what it answers while it is ill
	people  int
	current map[string]string // person -> refresh token
	issued  int
	reused  int
	asked   []time.Time
}

func newCrowd(life time.Duration) *crowd {
	return &crowd{provider: &provider{}, life: life, current: map[string]string{}}
}

// issue is a new token set for a person. c.mu is held.
func (c *crowd) issue(who string) oidc.Exchange {
	c.issued++
	c.current[who] = fmt.Sprintf("%s/%d", who, c.issued)
	now := time.Now()
	return oidc.Exchange{
		Tokens: oidc.TokenSet{Access: fmt.Sprint("access-", c.issued), TokenType: "Bearer", Refresh: c.current[who], ID: "id", Obtained: now, Expires: now.Add(c.life)},
		Claims: oidc.Claims{Issuer: c.Issuer(), Subject: who},
	}
}

func (c *crowd) login() oidc.Exchange {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.people++
	return c.issue(fmt.Sprint("person-", c.people))
}

func (c *crowd) Refresh(ctx context.Context, old oidc.TokenSet, _ oidc.Target, _ oidc.Expect) (oidc.Exchange, error) {
	c.mu.Lock()
	c.asked = append(c.asked, time.Now())
	down, delay := c.down, c.delay
	c.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return oidc.Exchange{}, &oidc.Error{Kind: oidc.Ambiguous, Err: ctx.Err()}
	}
	if down != nil {
		return oidc.Exchange{}, down
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	who, _, _ := strings.Cut(old.Refresh, "/")
	if c.current[who] != old.Refresh {
		c.reused++
		delete(c.current, who)
		return oidc.Exchange{}, &oidc.Error{Kind: oidc.Definitive, Code: "invalid_grant"}
	}
	return c.issue(who), nil
}

// busiest is the most requests in any second.
func busiest(asked []time.Time) (most int) {
	for i, from := 0, 0; i < len(asked); i++ {
		for asked[i].Sub(asked[from]) >= time.Second {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// many makes a manager with so many sessions, all of whose tokens end at the same time.
func many(t *testing.T, c *crowd, n int, r config.Rate) (*fixture, []*Live) {
	t.Helper()
	f := newFixture(t, func(o *Options) {
		o.Cache = NewCache(1 << 30)
		o.Providers["main"] = ProviderPolicy{Provider: c, Reuse: Reuse{kind: reuseNone}, Rate: r, ClientID: "app"}
	})
	lives := make([]*Live, n)
	for i := range lives {
		_, l, err := f.Create(t.Context(), Login{Provider: "main", Method: "redirect", Exchange: c.login()})
		if err != nil {
			t.Fatal(err)
		}
		lives[i] = l
	}
	return f, lives
}

// calls counts how requests fared.
type calls struct {
	mu               sync.Mutex
	ok, later, ended int
	longest          time.Duration
}

func (c *calls) note(took time.Duration, tokens oidc.TokenSet, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.longest = max(c.longest, took)
	u, unavailable := errors.AsType[*Unavailable](err)
	switch {
	case err == nil && time.Now().Before(tokens.Expires):
		c.ok++
	case unavailable && u.RetryAfter > 0:
		c.later++
	default:
		c.ended++
	}
}

// Ten thousand sessions find their tokens over in the same moment: the provider is asked at the rate that is set, nobody
// is logged out, and whose turn is too far off hears when to come again.
func TestManySessionsDueAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10_000
		c := newCrowd(5 * time.Minute)
		c.delay = 50 * time.Millisecond
		f, lives := many(t, c, n, config.Rate{Burst: 100, Per: time.Second})
		time.Sleep(5*time.Minute + time.Second)
		var all calls
		var wait sync.WaitGroup
		for _, l := range lives {
			wait.Go(func() {
				for {
					began := time.Now()
					tokens, err := f.Fresh(t.Context(), l)
					all.note(time.Since(began), tokens, err)
					u, later := errors.AsType[*Unavailable](err)
					if !later {
						return
					}
					time.Sleep(u.RetryAfter)
				}
			})
		}
		wait.Wait()
		if most := busiest(c.asked); most > 100 || most < 80 || len(c.asked) != n || c.reused != 0 {
			t.Errorf("%d requests, %d in the busiest second, %d spent tokens", len(c.asked), most, c.reused)
		}
		if all.ok != n || all.ended != 0 || all.longest > waitTime {
			t.Errorf("%+v", &all)
		}
		if took := c.asked[n-1].Sub(c.asked[0]); took > 130*time.Second {
			t.Errorf("all had their tokens after %v", took)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Refreshing ahead never keeps those waiting whose tokens are over.
func TestWhoseTokenIsOverGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(5 * time.Minute)
		f, early := many(t, c, 10, config.Rate{Burst: 10, Per: time.Second})
		time.Sleep(56 * time.Second)
		late := make([]*Live, 2000)
		for i := range late {
			_, l, err := f.Create(t.Context(), Login{Provider: "main", Method: "redirect", Exchange: c.login()})
			if err != nil {
				t.Fatal(err)
			}
			late[i] = l
		}
		time.Sleep(5*time.Minute - 55*time.Second) // the early ones are over, the late ones have 55 seconds
		for _, l := range late {
			if _, err := f.Fresh(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		began := time.Now()
		var wait sync.WaitGroup
		for _, l := range early {
			wait.Go(func() {
				if _, err := f.Fresh(t.Context(), l); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("they waited %v", took)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A provider is down for ten minutes, with tokens of five: nobody is logged out, requests hear 503 only once their token
// is over, the provider is hardly asked, and when it is back everybody is served within one step of the backoff and at
// the rate that is set.
func TestManyAndAProviderThatIsIll(t *testing.T) {
	for name, ill := range map[string]error{
		"refuses connections": &oidc.Error{Kind: oidc.Transient},
		"says 503 and when":   &oidc.Error{Kind: oidc.Transient, Status: 503, RetryAfter: 20 * time.Second},
		"our own fault":       &oidc.Error{Kind: oidc.Misconfigured, Status: 401, Code: "invalid_client"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { downForTenMinutes(t, ill) })
		})
	}
}

func downForTenMinutes(t *testing.T, ill error) {
	const n, most = 1000, 50
	c := newCrowd(5 * time.Minute)
	f, lives := many(t, c, n, config.Rate{Burst: most, Per: time.Second})
	began := time.Now()
	c.down = ill
	var back, served time.Time
	open := map[*Live]bool{}
	for _, l := range lives {
		open[l] = true
	}
	for time.Since(began) < 13*time.Minute && served.IsZero() {
		time.Sleep(time.Second)
		if back.IsZero() && time.Since(began) > 11*time.Minute {
			c.mu.Lock()
			c.down, c.asked = nil, nil
			c.mu.Unlock()
			back = time.Now()
		}
		var round calls
		var mu sync.Mutex
		var wait sync.WaitGroup
		for i, l := range lives {
			if back.IsZero() && (i+int(time.Since(began)/time.Second))%10 != 0 {
				continue
			}
			wait.Go(func() {
				tokens, err := f.Fresh(t.Context(), l)
				round.note(0, tokens, err)
				if err == nil && !back.IsZero() {
					mu.Lock()
					delete(open, l)
					mu.Unlock()
				}
			})
		}
		wait.Wait()
		since := time.Since(began)
		switch {
		case round.ended > 0:
			t.Fatalf("after %v: %+v", since, &round)
		case since < 5*time.Minute && round.later > 0:
			t.Fatalf("503 after %v, with tokens that live", since)
		case since > 5*time.Minute+turnTime && back.IsZero() && round.ok > 0:
			t.Fatalf("served after %v, with a token that is over", since)
		}
		if since > 4*time.Minute+30*time.Second && back.IsZero() && !lives[0].Degraded() && !lives[n-1].Degraded() {
			t.Fatalf("nobody is told after %v", since)
		}
		if back.IsZero() && since > 10*time.Minute && len(c.asked) > 400 {
			t.Fatalf("%d requests to a provider that is down", len(c.asked))
		}
		if len(open) == 0 {
			served = time.Now()
		}
	}
	if served.IsZero() || served.Sub(back) > mostBackoff*5/4+n/most*time.Second*5/4+time.Second {
		t.Fatalf("%d are not served %v after it is back", len(open), time.Since(back))
	}
	if first := c.asked[0].Sub(back); first > mostBackoff*5/4 {
		t.Errorf("asked again after %v", first)
	}
	if rate := busiest(c.asked); rate > most || c.reused != 0 || len(c.asked) != n {
		t.Errorf("%d requests, %d in the busiest second, %d spent tokens", len(c.asked), rate, c.reused)
	}
	if lives[0].Degraded() || lives[n-1].Degraded() {
		t.Error("degraded, and well")
	}
	kinds := map[string]int{}
	f.mu.Lock()
	for _, a := range f.audit {
		kinds[a.Kind]++
	}
	f.mu.Unlock()
	if kinds[event.ProviderIll] != 1 || kinds[event.ProviderWell] != 1 || kinds[event.SessionEnded] != 0 {
		t.Errorf("%v", kinds)
	}
	t.Logf("asked again %v after it was back, all served after %v, %d requests in the busiest second", c.asked[0].Sub(back), served.Sub(back), busiest(c.asked))
	if err := f.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
