package session

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// withReuse sets what is known of the provider.
func withReuse(t *testing.T, text string) func(*Options) {
	t.Helper()
	reuse, err := ParseReuse(text)
	if err != nil {
		t.Fatal(err)
	}
	return func(o *Options) {
		p := o.Providers["main"]
		p.Reuse = reuse
		o.Providers["main"] = p
	}
}

// All replicas find the token over at once: one of them presents the refresh token, and all use what it brought.
func TestOneRefreshForAllReplicas(t *testing.T) {
	for _, delay := range []time.Duration{0, 3 * time.Second, 25 * time.Second} { // the last outlives two beats of the lease
		t.Run(delay.String(), func(t *testing.T) {
			fleet(t, 3, withReuse(t, "none"), func(t *testing.T, _ *hub, r []*replica) {
				ticket, _ := r[0].login()
				for _, at := range r {
					wantLive(t, at, ticket, "before")
				}
				r[0].p.delay = delay
				time.Sleep(61 * time.Second)
				var wait sync.WaitGroup
				for i := range 60 {
					wait.Go(func() {
						at := r[i%3]
						l, err := at.lookup(ticket)
						if err != nil {
							t.Error(err)
							return
						}
						if tokens, err := at.Fresh(t.Context(), l); err != nil || tokens.Access != "access-2" {
							t.Errorf("replica %d: %q, %v", i%3, tokens.Access, err)
						}
					})
				}
				wait.Wait()
				if r[0].p.asked() != 1 || r[0].p.spent() != 0 {
					t.Errorf("%d calls, %d spent tokens presented", r[0].p.asked(), r[0].p.spent())
				}
			})
		})
	}
}

// Tokens of a few seconds, three replicas, an hour: every refresh token is presented once.
func TestManyRefreshesOnReplicas(t *testing.T) {
	fleet(t, 3, withReuse(t, "none"), func(t *testing.T, _ *hub, r []*replica) {
		r[0].p.life, r[0].p.delay = 5*time.Second, 300*time.Millisecond
		ticket, _ := r[0].login()
		for i := range 3600 {
			time.Sleep(time.Second)
			at := r[i%3]
			tokens, err := at.Fresh(t.Context(), wantLive(t, at, ticket, "in use"))
			if err != nil || !time.Now().Before(tokens.Expires) {
				t.Fatalf("second %d: %v", i, err)
			}
		}
		if r[0].p.spent() != 0 || r[0].p.asked() > 1000 {
			t.Errorf("%d calls, %d spent tokens presented", r[0].p.asked(), r[0].p.spent())
		}
	})
}

// The replica that presented the token dies before it can save the answer. What the others may do is what may be done
// after an answer that never came.
func TestTheHolderDies(t *testing.T) {
	for _, tc := range []struct {
		reuse string
		lost  bool
	}{{"none", true}, {"30s", true}, {"2m", false}, {"harmless", false}, {"unknown", false}} {
		t.Run(tc.reuse, func(t *testing.T) {
			fleet(t, 2, withReuse(t, tc.reuse), func(t *testing.T, _ *hub, r []*replica) {
				ticket, l := r[0].login()
				other := wantLive(t, r[1], ticket, "second replica")
				p := r[0].p
				p.delay = 5 * time.Second
				p.fault = func(call int) (oidc.Exchange, error, bool) { // the first answer never comes, and nothing was spent
					return oidc.Exchange{}, &oidc.Error{Kind: oidc.Ambiguous}, call == 1
				}
				time.Sleep(55 * time.Second)
				if _, err := r[0].Fresh(t.Context(), l); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				r[0].port.down.Store(true) // dead to the others
				began := time.Now()
				for time.Since(began) < 4*time.Second { // its token still serves
					time.Sleep(time.Second)
					if _, err := r[1].Fresh(t.Context(), other); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(2 * time.Second)
				_, err := r[1].Fresh(t.Context(), other)
				for err != nil && !errors.Is(err, ErrEnded) && time.Since(began) < 3*leaseTime {
					_, err = r[1].Fresh(t.Context(), other)
				}
				if took := time.Since(began); took < leaseTime-10*time.Second {
					t.Errorf("taken over after %v", took)
				}
				if tc.lost != errors.Is(err, ErrEnded) || !tc.lost && err != nil {
					t.Errorf("%v", err)
				}
				if want := map[bool]int{true: 1, false: 2}[tc.lost]; p.asked() != want {
					t.Errorf("%d calls", p.asked())
				}
				if reasons := fmt.Sprint(r[1].reasons()); tc.lost && reasons != "["+ReasonRefreshLost+"]" {
					t.Errorf("%v", reasons)
				}
				r[0].port.down.Store(false)
			})
		})
	}
}

// A replica that gave up in doubt tells the others: nobody presents the token again.
func TestDoubtIsShared(t *testing.T) {
	fleet(t, 2, withReuse(t, "none"), func(t *testing.T, _ *hub, r []*replica) {
		ticket, l := r[0].login()
		p := r[0].p
		p.fault = func(int) (oidc.Exchange, error, bool) {
			return oidc.Exchange{}, &oidc.Error{Kind: oidc.Ambiguous}, true
		}
		time.Sleep(55 * time.Second)
		if _, err := r[0].Fresh(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			time.Sleep(time.Second)
			if _, err := r[1].Fresh(t.Context(), wantLive(t, r[1], ticket, "its life goes on")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		if _, err := r[1].Fresh(t.Context(), wantLive(t, r[1], ticket, "not told yet")); !errors.Is(err, ErrEnded) {
			t.Errorf("%v", err)
		}
		if p.asked() != 1 || fmt.Sprint(r[1].reasons()) != "["+ReasonRefreshLost+"]" {
			t.Errorf("%d calls, %v", p.asked(), r[1].reasons())
		}
	})
}

// A provider that is down: each replica tries for itself, and the lease goes back in between.
func TestTheLeaseGoesBack(t *testing.T) {
	fleet(t, 2, withReuse(t, "none"), func(t *testing.T, _ *hub, r []*replica) {
		ticket, _ := r[0].login()
		down := true
		r[0].p.fault = func(int) (oidc.Exchange, error, bool) {
			return oidc.Exchange{}, &oidc.Error{Kind: oidc.Transient}, down
		}
		for i := range 120 {
			time.Sleep(time.Second)
			at := r[i%2]
			if _, err := at.Fresh(t.Context(), wantLive(t, at, ticket, "in use")); err != nil && !isUnavailable(err) {
				t.Fatal(err)
			}
		}
		r[0].p.mu.Lock()
		down = false
		r[0].p.mu.Unlock()
		time.Sleep(2 * mostBackoff)
		for i, at := range r {
			if tokens, err := at.Fresh(t.Context(), wantLive(t, at, ticket, "it is back")); err != nil || tokens.Access != "access-2" {
				t.Errorf("replica %d: %v", i, err)
			}
		}
		if r[0].p.spent() != 0 {
			t.Error("a spent token was presented")
		}
	})
}
