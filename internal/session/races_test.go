package session

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

var (
	raceSeed  = flag.Uint64("race.seed", 0, "run this seed of TestAnEndedSessionNeverComesBack only")
	raceSeeds = flag.Uint64("race.seeds", 1000, "how many seeds TestAnEndedSessionNeverComesBack runs")
)

// dice are random numbers of one seed, for many goroutines.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (d *dice) below(n time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.rng.Int64N(int64(n)))
}

func (d *dice) chance(percent int) bool { return d.below(100) < time.Duration(percent) }

var errLost = errors.New("the answer is lost")

// unsteady makes a replica's store slow at random, and lose some answers of calls that were carried out.
func unsteady(p *port, d *dice) {
	p.before = func(string) { time.Sleep(d.below(20 * time.Millisecond)) }
	p.after = func(string) error {
		time.Sleep(d.below(20 * time.Millisecond))
		if d.chance(5) {
			return errLost
		}
		return nil
	}
}

// Touches, refreshes and every way to end a session race on two replicas over a store that is slow and loses answers.
// Once an end is acknowledged the session never serves again on either, and nothing writes its record back.
func TestAnEndedSessionNeverComesBack(t *testing.T) {
	first, last := uint64(1), *raceSeeds
	if *raceSeed != 0 {
		first, last = *raceSeed, *raceSeed
	}
	for seed := first; seed <= last && !t.Failed(); seed++ {
		fleet(t, 2, nil, func(t *testing.T, h *hub, r []*replica) {
			raceOnce(t, h, r, &dice{rng: rand.New(rand.NewPCG(seed, 0))})
		})
		if t.Failed() {
			t.Logf("replay: go test -run TestAnEndedSessionNeverComesBack -race.seed=%d ./internal/session", seed)
		}
	}
}

func raceOnce(t *testing.T, h *hub, r []*replica, d *dice) {
	ticket, live := r[0].login()
	wantLive(t, r[1], ticket, "second replica")
	time.Sleep(48*time.Second + d.below(16*time.Second)) // about when the token is refreshed
	r[0].p.delay = d.below(200 * time.Millisecond)
	for _, at := range r {
		unsteady(at.port, d)
	}
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for range 4 {
		for _, at := range r {
			work.Go(func() { use(ctx, at, ticket, d) })
		}
	}
	time.Sleep(d.below(400 * time.Millisecond))
	endSomehow(t, r[d.below(2)], live, d)
	time.Sleep(trustTime)
	for range 4 {
		time.Sleep(d.below(300 * time.Millisecond))
		for i, at := range r {
			switch l, err := at.lookup(ticket); {
			case err == nil && !l.over.Load():
				t.Errorf("replica %d serves an ended session", i)
			case err != nil && !errors.Is(err, ErrEnded) && !isUnavailable(err):
				t.Errorf("replica %d: %v", i, err)
			}
		}
	}
	stop()
	work.Wait()
	time.Sleep(time.Minute) // what is still to be written is written
	synctest.Wait()
	if _, err := h.store().Load(context.Background(), live.id); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("its record is left: %v", err)
	}
}

// use is a browser at one replica.
func use(ctx context.Context, at *replica, ticket Ticket, d *dice) {
	for ctx.Err() == nil {
		if l, err := at.Lookup(ctx, ticket); err == nil {
			l.touched.Store(0) // every touch is to be written
			at.Touch(l)
			_, _ = at.Fresh(ctx, l)
		}
		time.Sleep(time.Millisecond + d.below(100*time.Millisecond))
	}
}

// endSomehow ends the session in one of the ways there are, until the store has said yes.
func endSomehow(t *testing.T, at *replica, live *Live, d *dice) {
	t.Helper()
	ctx, who := context.Background(), Who{Provider: "main", Subject: "alice"}
	ways := []func() error{
		func() error {
			l := at.held(live.id)
			if l == nil {
				return at.EndHandle(ctx, live.Session().Handle, ReasonOperator)
			}
			_, err := at.End(ctx, l, ReasonLogout)
			return err
		},
		func() error { return at.EndHandle(ctx, live.Session().Handle, ReasonUser) },
		func() error { _, err := at.EndAll(ctx, who, "", ReasonEverywhere); return err },
		func() error { return providerLogout(at, who) },
		func() error { return providerLogout(at, Who{Provider: "main", SID: "s1"}) },
	}
	way := ways[d.below(time.Duration(len(ways)))]
	for range 100 {
		if way() == nil {
			return
		}
	}
	t.Error("no way to end it")
}

func providerLogout(at *replica, who Who) error {
	_, _, err := at.ProviderLogout(context.Background(), Notice{Who: who, ID: "notice", Issued: at.now(), Until: at.now().Add(time.Minute)})
	return err
}
