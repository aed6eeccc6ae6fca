package session

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// wrongClock is the provider as a process with a wrong clock sees it: what it notes of times is as wrong.
type wrongClock struct {
	*provider
	by time.Duration
}

func (p wrongClock) Refresh(ctx context.Context, old oidc.TokenSet, target oidc.Target, e oidc.Expect) (oidc.Exchange, error) {
	x, err := p.provider.Refresh(ctx, old, target, e)
	return p.noted(x), err
}

func (p wrongClock) noted(x oidc.Exchange) oidc.Exchange {
	x.Tokens.Obtained, x.Tokens.Expires = x.Tokens.Obtained.Add(p.by), x.Tokens.Expires.Add(p.by)
	return x
}

// skewed gives a replica a clock that is wrong by that much. The store's is right.
func skewed(t *testing.T, h *hub, p *provider, by time.Duration) *replica {
	t.Helper()
	r := join(t, h, p, func(o *Options) {
		clock := func() time.Time { return time.Now().Add(by) }
		o.Feed.clock, o.Feed.base = clock, clock()
		o.Idle = 10 * time.Minute
	})
	policy := r.Providers["main"]
	policy.Provider = wrongClock{p, by}
	r.Providers["main"] = policy
	return r
}

// Two processes whose clocks are two minutes apart: tokens of a minute are refreshed when they are to be, once, and both
// see the same end of idleness.
func TestClocksApart(t *testing.T) {
	fleet(t, 0, nil, func(t *testing.T, h *hub, _ []*replica) {
		p := &provider{life: time.Minute}
		fast, slow := skewed(t, h, p, time.Minute), skewed(t, h, p, -time.Minute)
		defer fast.leave()
		defer slow.leave()
		time.Sleep(300 * time.Millisecond)
		p.mu.Lock()
		x := wrongClock{p, time.Minute}.noted(p.next())
		p.mu.Unlock()
		ticket, _, err := fast.Create(t.Context(), Login{Provider: "main", Method: "redirect", Exchange: x})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for i := range 600 {
			time.Sleep(time.Second)
			at := []*replica{fast, slow}[i%2]
			l := wantLive(t, at, ticket, "in use")
			if _, err := at.Fresh(t.Context(), l); err != nil {
				t.Fatalf("second %d: %v", i, err)
			}
			at.Touch(l)
		}
		if p.spent() != 0 || p.asked() < 10 || p.asked() > 14 { // tokens of a minute, about ten seconds ahead
			t.Errorf("%d refreshes in ten minutes, %d spent tokens", p.asked(), p.spent())
		}
		for _, r := range []*replica{fast, slow} {
			l := wantLive(t, r, ticket, "still in use")
			if left := time.Until(l.IdleExpiresAt()); left < 9*time.Minute || left > 10*time.Minute+time.Second {
				t.Errorf("idle in %v", left)
			}
			if ends := l.ExpiresAt(); ends.Before(began) {
				t.Errorf("ends at %v", ends)
			}
		}
		time.Sleep(9*time.Minute + 30*time.Second)
		wantLive(t, slow, ticket, "before the end")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		wantEnded(t, slow, ticket, "idle")
		wantEnded(t, fast, ticket, "idle")
	})
}
