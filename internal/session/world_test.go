package session

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// The simulation of sim_test.go drives the rules; this one drives the real Manager, in fake time: several replicas on one
// hub, several people with several tabs each, whose clients go away in the middle, a provider with one-time refresh tokens
// that is slow, loses answers and goes down, stores that do not answer, feeds that break, and processes that are killed.

var (
	worldSeed  = flag.Uint64("world.seed", 0, "run this seed of TestManagerInABadWorld only")
	worldSeeds = flag.Uint64("world.seeds", 30, "how many seeds TestManagerInABadWorld runs")
)

func TestManagerInABadWorld(t *testing.T) {
	first, last := uint64(1), *worldSeeds
	if *worldSeed != 0 {
		first, last = *worldSeed, *worldSeed
	}
	for seed := first; seed <= last && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) { badWorld(t, &dice{rng: rand.New(rand.NewPCG(seed, 1))}) })
		if t.Failed() {
			t.Logf("replay: go test ./internal/session -run TestManagerInABadWorld -world.seed=%d", seed)
		}
	}
}

const (
	worldReplicas = 3
	worldPeople   = 3
	worldTabs     = 4
	worldTime     = 5 * time.Minute // with faults
)

// world is what the tabs, the faults and the checks share.
type world struct {
	t     *testing.T
	d     *dice
	hub   *hub
	crowd *strictCrowd
	began time.Time

	mu       sync.Mutex
	replicas []*soldier
	gone     []*soldier
}

// person is somebody who is logged in.
type person struct {
	who    string
	ticket Ticket
}

// soldier is a replica that can be killed.
type soldier struct {
	*replica
	w *world

	mu   sync.Mutex
	dead bool
}

// strictCrowd is a provider that watches how often each refresh token is presented.
type strictCrowd struct {
	*crowd
	reuse Reuse
	d     *dice
	t     *testing.T

	mu    sync.Mutex
	shown map[string]int
	spent map[string]time.Time
	lost  map[string]bool // people of whose answers one did not arrive
	over  map[string]bool // people whose family is revoked
	ill   time.Time       // until then
	quiet bool
}

// asker is the provider as one process reaches it: what a dead one asked for reaches nobody.
type asker struct {
	*provider
	s *soldier
}

func (a asker) Refresh(ctx context.Context, old oidc.TokenSet, _ oidc.Target, _ oidc.Expect) (oidc.Exchange, error) {
	s, c := a.s, a.s.w.crowd
	who, _, _ := strings.Cut(old.Refresh, "/")
	x, err := c.answer(who, old)
	wait := c.d.below(100 * time.Millisecond)
	if c.d.chance(15) && !c.calm() {
		wait = c.d.below(29 * time.Second)
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		c.t.Errorf("a refresh was cancelled after less than %v: %v", flightTime, ctx.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		c.lose(who)
		return oidc.Exchange{}, &oidc.Error{Kind: oidc.Ambiguous}
	}
	return x, err
}

func (c *strictCrowd) calm() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.quiet
}

func (c *strictCrowd) hush(quiet bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet = quiet
}

func (c *strictCrowd) lose(who string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost[who] = true
}

// answer is what the provider makes of a token.
func (c *strictCrowd) answer(who string, old oidc.TokenSet) (oidc.Exchange, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fate := int(c.d.below(100))
	switch {
	case c.quiet:
		fate = 100
	case time.Now().Before(c.ill):
		fate = 0
	}
	if fate < 4 { // nothing was written
		return oidc.Exchange{}, &oidc.Error{Kind: oidc.Transient}
	}
	if c.shown[old.Refresh]++; c.shown[old.Refresh] > c.allowed() && !c.over[who] {
		c.t.Errorf("%s was presented %d times", old.Refresh, c.shown[old.Refresh])
	}
	if fate < 7 { // it did not arrive
		c.lost[who] = true
		return oidc.Exchange{}, &oidc.Error{Kind: oidc.Ambiguous}
	}
	at, was := c.spent[old.Refresh]
	if was && c.reuse.kind != reuseHarmless && time.Since(at) > c.reuse.window {
		c.t.Errorf("%s was presented %v after it was spent", old.Refresh, time.Since(at))
		c.over[who] = true
	}
	if !was {
		c.spent[old.Refresh] = time.Now()
	}
	if c.over[who] {
		return oidc.Exchange{}, &oidc.Error{Kind: oidc.Definitive, Code: "invalid_grant"}
	}
	c.crowd.mu.Lock()
	x := c.issue(who)
	c.crowd.mu.Unlock()
	if fate < 10 { // the answer is lost
		c.lost[who] = true
		return oidc.Exchange{}, &oidc.Error{Kind: oidc.Ambiguous}
	}
	return x, nil
}

// allowed is how often a token may be presented.
func (c *strictCrowd) allowed() int {
	switch c.reuse.kind {
	case reuseHarmless:
		return 1 << 30
	case reuseWindow:
		return 2
	}
	return 1
}

func badWorld(t *testing.T, d *dice) {
	w := &world{t: t, d: d, hub: newHub(), began: time.Now()}
	w.crowd = &strictCrowd{
		crowd: newCrowd(20 * time.Second), d: d, t: t, quiet: true, shown: map[string]int{}, spent: map[string]time.Time{}, lost: map[string]bool{}, over: map[string]bool{},
		reuse: []Reuse{{kind: reuseNone}, {kind: reuseHarmless}, {reuseWindow, 30 * time.Second}, {reuseWindow, 2 * time.Minute}}[d.below(4)],
	}
	for range worldReplicas {
		w.replicas = append(w.replicas, w.enlist())
	}
	time.Sleep(300 * time.Millisecond)
	var work sync.WaitGroup
	var people []person
	for range worldPeople {
		ticket, l, err := w.replicas[0].Create(t.Context(), Login{Provider: "main", Method: "redirect", Exchange: w.crowd.login()})
		if err != nil {
			t.Fatal(err)
		}
		p := person{l.Session().Subject, ticket}
		people = append(people, p)
		for range worldTabs {
			work.Go(func() { w.tab(p) })
		}
	}
	w.crowd.hush(false)
	work.Go(w.mischief)
	work.Wait()
	w.judge(people)
	for _, s := range append(w.replicas, w.gone...) {
		s.leave()
	}
}

func (w *world) enlist() *soldier {
	s := &soldier{w: w, replica: &replica{port: w.hub.connect(), done: make(chan struct{})}}
	s.port.before = func(string) { time.Sleep(w.d.below(20 * time.Millisecond)) }
	s.port.after = func(string) error {
		if time.Sleep(w.d.below(20 * time.Millisecond)); w.d.chance(5) && !w.crowd.calm() {
			return errLost
		}
		return nil
	}
	s.fixture = newFixture(w.t, func(o *Options) {
		o.Store = s.port
		o.Feed = NewFeed(s.port, o.Cache, 0, o.Events)
		o.Providers["main"] = ProviderPolicy{Provider: asker{w.crowd.provider, s}, Reuse: w.crowd.reuse, ClientID: "app"}
	})
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { defer close(s.done); s.Feed.Run(ctx) }()
	return s
}

func (w *world) pick() *soldier {
	n := w.d.below(worldReplicas)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.replicas[n]
}

// tab calls again and again; its client goes away in the middle of one request in four.
func (w *world) tab(p person) {
	for time.Since(w.began) < worldTime {
		time.Sleep(w.d.below(4 * time.Second))
		ctx, cancel := context.WithCancel(context.Background())
		if w.d.chance(25) {
			time.AfterFunc(w.d.below(time.Second), cancel)
		}
		w.call(ctx, w.pick(), p)
		cancel()
	}
}

// call is one request. It reports whether it was served.
func (w *world) call(ctx context.Context, s *soldier, p person) bool {
	l, err := s.Lookup(ctx, p.ticket)
	if err != nil {
		return false
	}
	tokens, err := s.Fresh(ctx, l)
	switch {
	case err != nil:
		return false
	case time.Since(tokens.Expires) > clockError:
		w.t.Errorf("a request of %s got a token that is over for %v", p.who, time.Since(tokens.Expires))
	}
	return true
}

// mischief does one bad thing after the other.
func (w *world) mischief() {
	for time.Since(w.began) < worldTime {
		time.Sleep(w.d.below(15 * time.Second))
		s, long := w.pick(), w.d.below(20*time.Second)
		switch w.d.below(7) {
		case 0:
			w.kill(s)
		case 1:
			w.excuse(s)
			s.port.down.Store(true)
			time.Sleep(long)
			s.port.down.Store(s.isDead())
			w.excuse(s)
		case 2:
			w.excuse(s)
			s.port.hangs.Store(true)
			time.Sleep(long)
			s.port.hangs.Store(false)
			w.excuse(s)
		case 3:
			s.port.mute.Store(true)
			time.Sleep(long)
			s.port.mute.Store(false)
		default:
			w.crowd.mu.Lock()
			w.crowd.ill = time.Now().Add(2 * long)
			w.crowd.mu.Unlock()
		}
	}
	w.crowd.hush(true)
}

func (s *soldier) isDead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// kill is kill -9: the others hear nothing more of it, and a new process takes its place.
func (w *world) kill(s *soldier) {
	w.excuse(s)
	s.mu.Lock()
	s.dead = true
	s.mu.Unlock()
	s.port.down.Store(true)
	next := w.enlist()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, other := range w.replicas {
		if other == s {
			w.replicas[i] = next
		}
	}
	w.gone = append(w.gone, s)
}

// excuse notes whose refresh this replica is at: others may come to take it for dead.
func (w *world) excuse(s *soldier) {
	s.Manager.mu.Lock()
	defer s.Manager.mu.Unlock()
	for _, p := range s.lives {
		l := p.Value()
		if l == nil {
			continue
		}
		l.mu.Lock()
		if l.flight != nil {
			w.crowd.lose(l.Session().Subject)
		}
		l.mu.Unlock()
	}
}

// judge looks at how it ended: every session is served by every replica again, unless the provider ended it, or an answer
// was lost that nobody may ask for again.
func (w *world) judge(people []person) {
	time.Sleep(leaseTime + flightTime + time.Minute)
	for _, p := range people {
		for n, s := range w.replicas {
			served := false
			for range 60 {
				if served = w.call(context.Background(), s, p); served {
					break
				}
				time.Sleep(time.Second)
			}
			_, err := s.Lookup(context.Background(), p.ticket)
			w.crowd.mu.Lock()
			excused := w.crowd.lost[p.who] && w.crowd.reuse.kind != reuseHarmless
			w.crowd.mu.Unlock()
			switch {
			case !served && !errors.Is(err, ErrEnded):
				w.t.Errorf("%s is not served by replica %d: %v", p.who, n, err)
			case !served && !excused:
				w.t.Errorf("%s was logged out: %v", p.who, w.reasons())
			}
		}
	}
	for _, reason := range w.reasons() {
		if reason == ReasonRefreshRejected {
			w.t.Error("the provider refused a token")
		}
	}
}

func (w *world) reasons() (list []string) {
	for _, s := range append(slices.Clone(w.gone), w.replicas...) {
		list = append(list, s.reasons()...)
	}
	return list
}
