package session

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// The simulation drives step, and nothing else of this package, for several processes and one session: a seeded queue
// of events, a model store and a model provider, with every fault. A seed is the same run, byte for byte, each time.

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run this seed of TestSimulation only, with its trace")
	simSeeds = flag.Uint64("sim.seeds", 4000, "how many seeds TestSimulation runs")
)

// TestSimulation checks after every step what must never happen, and at the end that the session is served again.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		bad, trace := newSim(*simSeed, true).run()
		t.Log(trace)
		if bad != "" {
			t.Fatal(bad)
		}
		return
	}
	for seed := uint64(1); seed <= *simSeeds; seed++ {
		if bad, _ := newSim(seed, false).run(); bad != "" {
			_, trace := newSim(seed, true).run()
			t.Fatalf("seed %d: %s\n%s\nreplay: go test -run TestSimulation -sim.seed=%d ./internal/session", seed, bad, trace, seed)
		}
	}
}

func TestSimulationReplays(t *testing.T) {
	for seed := uint64(1); seed <= 50; seed++ {
		_, one := newSim(seed, true).run()
		if _, two := newSim(seed, true).run(); one != two || len(one) < 100 {
			t.Fatalf("seed %d: two runs differ", seed)
		}
	}
}

const (
	simReplicas = 3
	simFaulty   = 10 * time.Minute // of faults
	simQuiet    = 5 * time.Minute  // without, after which the session must be served
	simLife     = 40 * time.Second // of an access token
)

// sim is one world.
type sim struct {
	rng      *rand.Rand
	now      time.Duration
	queue    simQueue
	order    int
	replicas []*simReplica
	store    simRecord
	before   []simRecord // older states of the store, for a failover
	provider simProvider
	reuse    Reuse
	lost     bool // an answer of the provider was lost, or its asker died or stood still
	forgot   bool // the store forgot a write
	quiet    bool // no more faults
	trace    *strings.Builder
	bad      string
}

// simRecord is what the store has of the session.
type simRecord struct {
	record
	refresh int // the refresh token
	gone    bool
}

// simReplica is one process.
type simReplica struct {
	n       int
	life    int // counts restarts: what an earlier life began comes back to nobody
	dead    bool
	offset  time.Duration // of its monotonic clock
	s       state
	open    simRecord // as it was read or saved last
	loaded  simRecord // as it was read last
	pending simRecord // the answer that is not saved yet
	asked   bool      // it has an answer in hand
	busy    bool      // a flight runs
}

// simProvider gives one-time refresh tokens, and ends the family when a spent one comes back outside of its window.
type simProvider struct {
	next   int
	spent  map[int]time.Duration // refresh token -> when it was used first
	shown  map[int]int           // how often it was presented
	family bool                  // still good
}

type simEvent struct {
	at    time.Duration
	order int
	do    func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

func newSim(seed uint64, traced bool) *sim {
	w := &sim{rng: rand.New(rand.NewPCG(seed, 7))}
	if traced {
		w.trace = &strings.Builder{}
	}
	w.reuse = []Reuse{{}, {kind: reuseNone}, {kind: reuseHarmless}, {reuseWindow, 30 * time.Second}, {reuseWindow, 2 * time.Minute}}[w.rng.IntN(5)]
	w.provider = simProvider{next: 1, spent: map[int]time.Duration{}, shown: map[int]int{}, family: true}
	w.store = simRecord{refresh: 1, record: record{
		version: 1, generation: 1, expires: w.wall().Add(simLife), lead: simLife / 5, canRefresh: true, rotates: true,
	}}
	for n := range simReplicas {
		r := &simReplica{n: n, offset: time.Duration(1+w.rng.IntN(1000)) * time.Minute}
		w.replicas = append(w.replicas, r)
		w.start(r)
	}
	return w
}

// wall is the store's clock, by which ends are judged.
func (w *sim) wall() time.Time { return t0.Add(w.now) }

func (w *sim) when(r *simReplica) when {
	return when{now: w.wall(), mono: w.now + r.offset, jitter: w.rng.Float64()}
}

func (w *sim) logf(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%10.3f  %s\n", w.now.Seconds(), fmt.Sprintf(format, args...))
	}
}

func (w *sim) failf(format string, args ...any) {
	if w.bad == "" {
		w.bad = fmt.Sprintf(format, args...)
		w.logf("BAD: %s", w.bad)
	}
}

func (w *sim) after(d time.Duration, do func()) {
	w.order++
	heap.Push(&w.queue, simEvent{w.now + d, w.order, do})
}

func (w *sim) chance(percent int) bool { return !w.quiet && w.rng.IntN(100) < percent }

func (w *sim) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d))) }

func (w *sim) run() (bad, trace string) {
	for range 4 {
		w.after(0, w.tab)
	}
	w.after(w.upTo(time.Minute), w.mischief)
	w.after(simFaulty, func() { w.quiet = true; w.logf("no more faults") })
	for len(w.queue) > 0 && w.bad == "" && w.now < simFaulty+simQuiet {
		e := heap.Pop(&w.queue).(simEvent)
		w.now = e.at
		e.do()
	}
	if w.bad == "" {
		w.judge()
	}
	if w.trace != nil {
		trace = w.trace.String()
	}
	return w.bad, trace
}

// judge looks at the end: the session was ended by somebody who may, or it is served. A tab may not have asked for a
// while.
func (w *sim) judge() {
	if over := w.wall().Sub(w.store.expires); !w.store.gone && over > 20*time.Second {
		w.failf("the session lives, and its token is over since %v", over)
	}
}

// tab is a browser's tab: it calls through any replica, again and again.
func (w *sim) tab() {
	r := w.replicas[w.rng.IntN(simReplicas)]
	if !r.dead && r.s.phase != over {
		if w.store.gone && !r.busy { // the feed has told, or the load has
			r.s.phase = over
		} else {
			w.look(r)
			w.feed(r, needed{when: w.when(r), force: w.chance(1)})
		}
	}
	w.after(100*time.Millisecond+w.upTo(12*time.Second), w.tab)
}

// look is what a request does before: with the feed, the record that is open is the newest; while a flight runs it
// sees to that itself.
func (w *sim) look(r *simReplica) {
	if r.busy || r.open == w.store {
		return
	}
	switch {
	case w.store.refresh == r.open.refresh && w.store.generation == r.open.generation:
		r.s = r.s.observe(w.store.lease, w.store.version, w.when(r))
	case w.store.generation < r.open.generation:
		return // a failover took it back: what is open is newer, and is being written again
	default:
		r.s = r.s.use(w.store.record, w.when(r))
	}
	r.open = w.store
}

// mischief happens now and then: a process dies, or the store fails over to a copy that lacks the last writes.
func (w *sim) mischief() {
	if w.quiet {
		return
	}
	r := w.replicas[w.rng.IntN(simReplicas)]
	switch w.rng.IntN(8) {
	case 0, 1:
		w.kill(r)
	case 2:
		w.failover()
	case 3:
		if w.rng.IntN(10) == 0 {
			w.logf("logout")
			w.store.gone = true
			for _, r := range w.replicas {
				w.feed(r, ended{w.when(r)})
			}
		}
	}
	w.after(w.upTo(time.Minute), w.mischief)
}

func (w *sim) kill(r *simReplica) {
	if r.dead {
		return
	}
	w.logf("%d dies in phase %d", r.n, r.s.phase)
	if r.busy || w.store.lease.Owner == r.s.owner {
		w.lost = true
	}
	r.dead, r.busy, r.asked, r.life = true, false, false, r.life+1
	w.after(time.Second+w.upTo(time.Minute), func() { w.start(r) })
}

func (w *sim) start(r *simReplica) {
	r.dead, r.open = false, w.store
	r.s = state{reuse: w.reuse, lessee: lessee{owner: fmt.Sprintf("%d.%d", r.n, r.life)}}.use(w.store.record, w.when(r))
	if w.store.gone {
		r.s.phase = over
	}
	w.logf("%d starts", r.n)
}

// failover puts back an older state. Who wrote a newer token set writes it again (Feed.repair).
func (w *sim) failover() {
	if len(w.before) == 0 || w.store.gone {
		return
	}
	newest, old := w.store, w.before[max(0, len(w.before)-1-w.rng.IntN(3))]
	old.gone = false
	w.logf("failover from version %d (token set %d) to %d (%d)", newest.version, newest.generation, old.version, old.generation)
	w.store, w.before, w.forgot = old, nil, true
	for _, r := range w.replicas {
		if !r.dead && !r.busy && r.open.generation > w.store.generation {
			r.open.version = w.store.version + 1
			w.store = r.open
			w.store.lease = lease{}
			r.s = r.s.observe(lease{}, w.store.version, w.when(r))
			w.logf("%d writes token set %d again", r.n, w.store.generation)
		}
	}
	if w.store.generation < newest.generation || w.store.lease.Presenting {
		w.lost = true // its writer is dead or busy; or a lease that was given back is there again
	}
}

// feed gives an event to a replica's rules and begins what they want.
func (w *sim) feed(r *simReplica, e stepEvent) {
	was := r.s.phase
	var effects []effect
	r.s, effects = step(r.s, e)
	if r.s.phase != was || len(effects) > 0 {
		w.logf("%d %T: phase %d -> %d, %d effects", r.n, e, was, r.s.phase, len(effects))
	}
	r.busy = r.s.phase != idle && r.s.phase != over
	if len(effects) > 0 && effects[0].do == adopt {
		r.asked, r.open = false, r.loaded
	}
	if r.asked && (r.s.phase == idle || r.s.phase == leasing) {
		w.failf("replica %d dropped a token set that reached it", r.n)
	}
	for _, e := range effects {
		if e.do == publish && r.open.generation != r.s.generation {
			w.failf("replica %d uses token set %d, saved is %d", r.n, r.s.generation, r.open.generation)
		}
		w.begin(r, e)
	}
}

// begin carries an effect out some time later, and brings its event back some time after that, unless the process dies.
func (w *sim) begin(r *simReplica, e effect) {
	life := r.life
	then := func(d time.Duration, do func()) {
		w.after(d, func() {
			if r.life == life && !r.dead {
				do()
			}
		})
	}
	pause := w.upTo(20 * time.Millisecond)
	if w.chance(1) {
		pause = w.upTo(90 * time.Second) // a process that stands still, past its lease: to others it is dead
		w.lost = w.lost || pause > leaseTime/2
	}
	answer := func(ev func() stepEvent) { then(w.upTo(20*time.Millisecond), func() { w.feed(r, ev()) }) }
	then(e.wait+pause, func() { w.carryOut(r, e, answer) })
}

func (w *sim) carryOut(r *simReplica, e effect, answer func(func() stepEvent)) {
	switch e.do {
	case take, release:
		began := w.when(r).mono
		next := r.open
		next.lease = e.lease
		w.write(r, next, answer, func(version uint64) stepEvent {
			if e.do == release {
				return released{w.when(r)}
			}
			return leased{when: w.when(r), lease: e.lease, version: version, began: began}
		})
	case save:
		next := r.pending
		next.version = r.open.version
		w.write(r, next, answer, func(uint64) stepEvent {
			r.asked = false
			return saved{w.when(r), r.open.record}
		})
	case load:
		w.load(r, answer)
	case present:
		w.present(r, e.until, answer)
	case adopt, publish: // done with their event
	case revoke:
		r.asked = false
	case end:
		w.end(r, e.reason)
	}
}

// write is compare-and-swap. Its answer may be lost, or never have been given.
func (w *sim) write(r *simReplica, next simRecord, answer func(func() stepEvent), done func(version uint64) stepEvent) {
	switch {
	case w.chance(4):
		w.logf("%d: the store does not answer", r.n)
		answer(func() stepEvent { return unsaved{when: w.when(r), why: unavailable} })
	case w.store.gone:
		answer(func() stepEvent { return unsaved{when: w.when(r), why: gone} })
	case w.store.version != next.version:
		answer(func() stepEvent { return unsaved{when: w.when(r), why: conflict} })
	default:
		w.before = append(w.before, w.store)
		next.version++
		w.store = next
		w.logf("%d writes version %d: token set %d, lease %+v", r.n, next.version, next.generation, next.lease)
		if w.chance(3) {
			w.logf("%d: the answer is lost", r.n)
			answer(func() stepEvent { return unsaved{when: w.when(r), why: unavailable} })
			return
		}
		r.open = next
		answer(func() stepEvent { return done(next.version) })
	}
}

func (w *sim) load(r *simReplica, answer func(func() stepEvent)) {
	if w.chance(5) {
		answer(func() stepEvent { return reread{when: w.when(r), failed: true} })
		return
	}
	got := w.store
	answer(func() stepEvent {
		if got.gone {
			return reread{when: w.when(r), gone: true}
		}
		r.loaded = got
		switch {
		case got.generation == r.open.generation:
			r.open = got
		case got.generation < r.open.generation:
			r.open.version = got.version
		}
		return reread{when: w.when(r), record: got.record}
	})
}

// present asks the provider.
func (w *sim) present(r *simReplica, until time.Duration, answer func(func() stepEvent)) {
	token, p := r.open.refresh, &w.provider
	if w.when(r).mono > until {
		answer(func() stepEvent { return failed{when: w.when(r), outcome: transient} })
		return
	}
	fault := w.rng.IntN(100)
	if w.quiet {
		fault = 99
	}
	if fault < 8 { // down before anything was written
		answer(func() stepEvent { return failed{when: w.when(r), outcome: transient} })
		return
	}
	p.shown[token]++
	w.logf("%d presents %d, time %d", r.n, token, p.shown[token])
	if fault < 12 { // the request did not arrive, and nobody can tell
		w.lost = true
		answer(func() stepEvent { return failed{when: w.when(r), outcome: ambiguous} })
		return
	}
	first, was := p.spent[token]
	rotates := w.reuse.kind != reuseHarmless
	switch {
	case !p.family || rotates && was && w.now-first > w.reuse.window:
		if p.family && !w.forgot {
			w.failf("a spent refresh token %d was presented by %d", token, r.n)
		}
		p.family = false
		answer(func() stepEvent { return failed{when: w.when(r), outcome: definitive} })
		return
	case !was:
		p.spent[token] = w.now
	}
	fresh := token
	if rotates {
		p.next++
		fresh = p.next
	}
	got := simRecord{refresh: fresh, record: record{
		generation: r.open.generation + 1, expires: w.wall().Add(simLife), lead: simLife / 5, canRefresh: true, rotates: rotates,
	}}
	if fault < 16 { // the answer is lost
		w.lost = true
		w.logf("%d: the provider's answer is lost", r.n)
		answer(func() stepEvent { return failed{when: w.when(r), outcome: ambiguous} })
		return
	}
	answer(func() stepEvent {
		r.pending, r.asked = got, true
		return answered{when: w.when(r), rotated: rotates}
	})
}

func (w *sim) end(r *simReplica, reason string) {
	w.logf("%d ends it: %s", r.n, reason)
	switch {
	case reason == ReasonRefreshLost && !w.lost:
		w.failf("ended as lost, and nothing was lost")
	case reason == ReasonRefreshRejected && w.provider.family:
		w.failf("ended as refused, and the provider did not refuse")
	case reason == ReasonEndedElsewhere && !w.store.gone:
		w.failf("ended as ended elsewhere, and nobody did")
	}
	w.store.gone = true
}
