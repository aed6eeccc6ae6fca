package session

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/cloakroom/cloakroom/config"
)

// The simulation drives step, and the breaker, and nothing else of this package, for several processes and sessions: a
// seeded queue of events, a model store with a change feed, and a model provider, with every fault. A seed is the same
// run, byte for byte, each time. What the processes do is here, store and provider are in sim_parts_test.go.

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run this seed of TestSimulation only, with its trace")
	simSeeds = flag.Uint64("sim.seeds", 200, "how many seeds TestSimulation runs")
	simWorld = flag.String("sim.world", "small", "the world of TestSimulation: small or large")
)

// simShape is a world's size.
type simShape struct {
	replicas, sessions, tabs int
	life                     time.Duration // of an access token
	faulty                   time.Duration // with faults
	quiet                    time.Duration // without, after which every session must be served
	gap                      time.Duration // at most, between a tab's requests
	mishap                   time.Duration // at most, between faults
}

var simShapes = map[string]simShape{
	"small": {3, 3, 4, 40 * time.Second, 13*time.Minute + 20*time.Second, 5 * time.Minute, 12 * time.Second, 40 * time.Second},
	"large": {3, 1000, 2, 5 * time.Minute, 24 * time.Hour, 30 * time.Minute, 4 * time.Minute, 10 * time.Minute},
}

// TestSimulation checks after every step what must never happen, and at the end that the sessions are served again.
func TestSimulation(t *testing.T) {
	shape, ok := simShapes[*simWorld]
	if !ok {
		t.Fatalf("-sim.world=%s: small or large", *simWorld)
	}
	if *simSeed != 0 {
		w := newSim(*simSeed, shape, true)
		bad := w.run()
		t.Log(w.trace.String())
		if bad != "" {
			t.Fatal(bad)
		}
		return
	}
	seen := map[string]int{}
	for seed := uint64(1); seed <= *simSeeds; seed++ {
		w := newSim(seed, shape, false)
		if bad := w.run(); bad != "" {
			again := newSim(seed, shape, true)
			again.run()
			t.Fatalf("seed %d: %s\n%s\nreplay: go test ./internal/session -run 'TestSimulation$' -sim.world=%s -sim.seed=%d", seed, bad, again.excerpt(), *simWorld, seed)
		}
		for what, n := range w.seen {
			seen[what] += n
		}
	}
	t.Logf("%v", seen)
	for _, what := range []string{"presented", "for a target", "denied", "again in the window", "taken over", "lost", "refused", "dropped by a failover", "waited", "503"} {
		if *simSeeds >= 1000 && seen[what] == 0 {
			t.Errorf("%q never happened: the simulation proves less than it says", what)
		}
	}
}

func TestSimulationReplays(t *testing.T) {
	for seed := uint64(1); seed <= 30; seed++ {
		one, two := newSim(seed, simShapes["small"], true), newSim(seed, simShapes["small"], true)
		one.run()
		if two.run(); one.trace.String() != two.trace.String() || one.trace.Len() < 1000 {
			t.Fatalf("seed %d: two runs differ", seed)
		}
	}
}

// sim is one world.
type sim struct {
	simShape
	rng      *rand.Rand
	now      time.Duration
	queue    simQueue
	order    int
	replicas []*simReplica
	store    simStore
	provider simProvider
	reuse    Reuse
	quietly  bool // no more faults
	trace    *strings.Builder
	seen     map[string]int
	bad      string
}

// simReplica is one process.
type simReplica struct {
	n       int
	life    int // counts restarts: what an earlier life began comes back to nobody
	dead    bool
	paused  time.Duration // stands still until then
	cut     time.Duration // from the store until then
	deaf    time.Duration // its feed is dead until then
	heard   time.Duration // when the feed last proved itself
	base    time.Duration // of its monotonic clock
	drift   float64       // and how fast that goes
	skew    time.Duration // of its wall clock
	offset  time.Duration // to the store's clock, as it was measured
	pace    *rate.Limiter
	breaker breaker
	views   []*simView
}

// simView is one session that is open in one process.
type simView struct {
	s       state
	session *simSession
	open    simRecord // as it was read or saved last
	loaded  simRecord // as it was read last
	pending simRecord // the answer that is not saved yet
	asked   bool      // there is an answer that is not saved
	marked  bool      // it marked the session as over
	stale   bool      // the feed told of a change
	probe   bool
	turn    bool   // its turn at the provider is known
	aside   bool   // the flight asks for a token for another target
	wake    func() // cuts the wait of a flight short
}

func (v *simView) busy() bool { return v.s.phase != idle && v.s.phase != over }

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
	old[len(old)-1] = simEvent{}
	*q = old[:len(old)-1]
	return e
}

func newSim(seed uint64, shape simShape, traced bool) *sim {
	w := &sim{simShape: shape, rng: rand.New(rand.NewPCG(seed, 7)), seen: map[string]int{}}
	if traced {
		w.trace = &strings.Builder{}
	}
	w.reuse = []Reuse{{}, {kind: reuseNone}, {kind: reuseHarmless}, {reuseWindow, 30 * time.Second}, {reuseWindow, 2 * time.Minute}}[w.rng.IntN(5)]
	w.provider.lenient = w.rng.IntN(2) == 0
	for n := range shape.sessions {
		w.store.sessions = append(w.store.sessions, w.newSession(n))
	}
	for n := range shape.replicas {
		r := &simReplica{n: n}
		w.replicas = append(w.replicas, r)
		w.start(r)
	}
	return w
}

// wall is the store's clock, by which ends are judged.
func (w *sim) wall() time.Time { return t0.Add(w.now) }

// clockError is how wrong a replica's idea of the store's clock may be.
const clockError = 20 * time.Millisecond

func (w *sim) when(r *simReplica) when {
	return when{
		now:    w.wall().Add(r.skew + r.offset),
		mono:   r.base + time.Duration(float64(w.now)*r.drift),
		jitter: w.rng.Float64(),
	}
}

func (w *sim) logf(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%10.3f  %s\n", w.now.Seconds(), fmt.Sprintf(format, args...))
	}
}

// excerpt is the end of the trace.
func (w *sim) excerpt() string {
	const most = 200
	lines := strings.Split(w.trace.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
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

func (w *sim) chance(percent int) bool { return !w.quietly && w.rng.IntN(100) < percent }

func (w *sim) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d))) }

func (w *sim) run() (bad string) {
	for n := range w.sessions {
		for range w.tabs {
			w.after(w.upTo(w.gap), func() { w.tab(n) })
		}
	}
	w.after(w.upTo(w.mishap), w.mischief)
	w.after(w.faulty, func() { w.quietly = true; w.logf("no more faults") })
	for len(w.queue) > 0 && w.bad == "" && w.now < w.faulty+w.quiet {
		e := heap.Pop(&w.queue).(simEvent)
		w.now = e.at
		e.do()
	}
	for _, s := range w.store.sessions {
		if w.bad == "" && !s.over() && w.now-s.served > time.Minute+3*w.gap {
			w.failf("session %d lives, and was not served for %v", s.n, w.now-s.served)
		}
	}
	return w.bad
}

// tab is a browser's tab: it calls through any replica, again and again. Who was logged out logs in again.
func (w *sim) tab(n int) {
	r := w.replicas[w.rng.IntN(w.simShape.replicas)]
	s := w.store.sessions[n]
	switch {
	case s.over() && w.now-s.goneAt > 5*time.Second:
		w.login(n)
	case !r.dead && w.now >= r.paused:
		w.request(r, r.views[n])
	}
	w.after(100*time.Millisecond+w.upTo(w.gap), func() { w.tab(n) })
}

// login is a new session in the place of one that is over.
func (w *sim) login(n int) {
	s := w.newSession(n)
	s.served = w.now
	w.store.sessions[n] = s
	w.seen["sessions"]++
	w.logf("a new session %d", n)
	for _, r := range w.replicas {
		if !r.dead {
			r.views[n] = w.open(r, s)
		}
	}
}

// open is a session as a process opens it.
func (w *sim) open(r *simReplica, s *simSession) *simView {
	v := &simView{session: s, open: s.simRecord}
	v.s = state{reuse: w.reuse, lessee: lessee{owner: fmt.Sprintf("%d.%d", r.n, r.life)}}.use(s.record, w.when(r))
	if s.over() {
		v.s.phase = over
	}
	return v
}

// request is one call of the app: the session is looked up, and a token is asked for.
func (w *sim) request(r *simReplica, v *simView) {
	if v.s.phase == over || !w.lookup(r, v) {
		return
	}
	at := w.when(r)
	need := needed{when: at, hold: r.breaker.hold(at.now), mended: r.breaker.mended, force: w.chance(1)}
	if w.rng.IntN(3) == 0 && at.now.After(v.open.aside) { // this route has a target of its own
		need.force, need.aside = false, true
	}
	if !v.busy() {
		v.aside = need.aside
	}
	w.feed(r, v, need)
	switch {
	case v.s.phase == over:
	case !v.s.liveAt(at.now):
		w.seen["503"]++
	default:
		w.serve(r, v)
	}
}

// serve checks what a request gets.
func (w *sim) serve(r *simReplica, v *simView) {
	v.session.served = w.now
	switch over := w.wall().Sub(v.open.expires); {
	case over > clockError:
		w.failf("replica %d uses a token of session %d that is over for %v", r.n, v.session.n, over)
	case v.session.gone && w.now-v.session.goneAt > trustTime+100*time.Millisecond:
		w.failf("replica %d serves session %d, which ended %v ago", r.n, v.session.n, w.now-v.session.goneAt)
	case v.asked && v.s.generation == v.pending.generation:
		w.failf("replica %d uses a token set of session %d that is not saved", r.n, v.session.n)
	}
}

// lookup is Manager.Lookup: while the feed proves itself the session that is open is the newest, otherwise the store is
// asked. false: there is no answer, or no session.
func (w *sim) lookup(r *simReplica, v *simView) bool {
	if w.now >= r.deaf {
		r.heard = w.now
	}
	if !v.stale && w.now-r.heard <= trustTime {
		return true
	}
	if w.unreachable(r) {
		return false
	}
	v.stale = false
	if v.session.over() {
		w.feed(r, v, ended{w.when(r)})
		return false
	}
	w.look(r, v)
	return true
}

// look takes over what is in the store; while a flight runs it sees to that itself.
func (w *sim) look(r *simReplica, v *simView) {
	stored := v.session.simRecord
	if v.busy() || v.open == stored {
		return
	}
	switch {
	case stored.access == v.open.access && stored.generation == v.open.generation:
		v.s = v.s.observe(stored.lease, stored.version, w.when(r))
	case stored.generation < v.open.generation:
		return // a failover took it back: what is open is newer, and is being written again
	default:
		v.s = v.s.use(stored.record, w.when(r))
	}
	v.open = stored
}

// mischief happens now and then.
func (w *sim) mischief() {
	if w.quietly {
		return
	}
	r := w.replicas[w.rng.IntN(len(w.replicas))]
	s := w.store.sessions[w.rng.IntN(len(w.store.sessions))]
	switch w.rng.IntN(12) {
	case 0, 1:
		w.kill(r)
	case 2, 3:
		w.failover()
	case 4:
		r.paused = max(r.paused, w.now+w.upTo(4*time.Minute)) // what waits for its end is queued for that time
		w.logf("%d stands still until %v", r.n, r.paused)
		w.excuse(r)
	case 5:
		r.cut = w.now + w.upTo(90*time.Second)
		r.deaf = max(r.deaf, r.cut)
		w.logf("%d is cut off from the store until %v", r.n, r.cut)
		w.after(r.deaf-w.now, func() { w.begun(r) })
		w.excuse(r)
	case 6:
		r.deaf = w.now + w.upTo(time.Minute)
		w.logf("the feed of %d is dead until %v", r.n, r.deaf)
		w.after(r.deaf-w.now, func() { w.begun(r) })
	case 7:
		w.store.down = w.now + w.upTo(time.Minute)
		w.logf("the store is down until %v", w.store.down)
		for _, r := range w.replicas {
			r.deaf = max(r.deaf, w.store.down)
			w.excuse(r)
			w.after(r.deaf-w.now, func() { w.begun(r) })
		}
	case 8, 9:
		w.provider.ill, w.provider.how = w.now+w.upTo(3*time.Minute), w.rng.IntN(4)
		w.logf("the provider is ill until %v, way %d", w.provider.ill, w.provider.how)
	case 10: // a key rotation, or whatever else writes the record
		if !s.gone {
			s.version++
			w.logf("session %d is rewritten as version %d", s.n, s.version)
			w.tell(s, nil)
		}
	case 11:
		if w.rng.IntN(5) == 0 && !s.gone {
			w.logf("logout of session %d", s.n)
			w.gone(s, nil)
		}
	}
	w.after(w.upTo(w.mishap), w.mischief)
}

// excuse notes that what this process is doing may be lost: it may not be able to say so in time.
func (w *sim) excuse(r *simReplica) {
	for _, v := range r.views {
		if v.busy() || v.session.lease.Owner == v.s.owner {
			v.session.lost = true
		}
	}
}

func (w *sim) kill(r *simReplica) {
	if r.dead {
		return
	}
	w.logf("%d dies", r.n)
	w.excuse(r)
	r.dead, r.life = true, r.life+1
	w.after(time.Second+w.upTo(time.Minute), func() { w.start(r) })
}

func (w *sim) start(r *simReplica) {
	*r = simReplica{
		n: r.n, life: r.life, heard: w.now, base: time.Duration(1+w.rng.IntN(1000)) * time.Minute, drift: 0.999 + 0.002*w.rng.Float64(),
		skew: w.upTo(2*time.Minute) - time.Minute, pace: pacer(config.Rate{Burst: 50, Per: time.Second}), cut: r.cut, deaf: r.deaf,
	}
	r.offset = -r.skew + w.upTo(2*clockError) - clockError
	for _, s := range w.store.sessions {
		r.views = append(r.views, w.open(r, s))
	}
	w.logf("%d starts", r.n)
}

// feed gives an event to a session's rules and begins what they want.
func (w *sim) feed(r *simReplica, v *simView, e stepEvent) {
	was := v.s.phase
	var effects []effect
	v.s, effects = step(v.s, e)
	if v.s.phase != was || len(effects) > 0 {
		w.logf("%d session %d %T: phase %d -> %d, %d effects", r.n, v.session.n, e, was, v.s.phase, len(effects))
	}
	if len(effects) > 0 && effects[0].do == adopt {
		v.asked, v.open = false, v.loaded
	}
	switch v.s.phase {
	case saving, merging, over:
	default:
		if v.asked {
			w.failf("replica %d dropped a token set of session %d that reached it", r.n, v.session.n)
		}
	}
	for _, e := range effects {
		if e.do == publish && (v.asked || v.open.generation != v.s.generation) {
			w.failf("replica %d publishes token set %d of session %d, saved is %d", r.n, v.s.generation, v.session.n, v.open.generation)
		}
		w.begin(r, v, e)
	}
	if !v.busy() {
		w.left(r, v)
	}
}

// left gives back what was taken at the provider.
func (w *sim) left(r *simReplica, v *simView) {
	v.turn = false
	if v.probe {
		v.probe = false
		r.breaker = r.breaker.left()
	}
}

// then does something some time later, unless the process dies; one that stands still does it when it goes on.
func (w *sim) then(r *simReplica, d time.Duration, do func()) {
	life := r.life
	var run func()
	run = func() {
		switch {
		case r.life != life || r.dead:
		case w.now < r.paused:
			w.after(r.paused-w.now, run)
		default:
			do()
		}
	}
	w.after(d, run)
}

// begin carries an effect out some time later.
func (w *sim) begin(r *simReplica, v *simView, e effect) {
	pause := w.upTo(20 * time.Millisecond)
	if w.chance(1) {
		pause = w.upTo(4 * time.Minute) // this flight alone stands still, past its lease: to others it is dead
		v.session.lost = v.session.lost || pause > leaseTime/2
	}
	done := false
	do := func() {
		if !done {
			done, v.wake = true, nil
			w.carryOut(r, v, e)
		}
	}
	if e.news {
		w.seen["waited"]++
		v.wake = func() { w.then(r, w.upTo(20*time.Millisecond), do) }
	}
	w.then(r, e.wait+pause, do)
}

// answer brings an effect's event back some time later.
func (w *sim) answer(r *simReplica, v *simView, ev func() stepEvent) {
	w.then(r, w.upTo(20*time.Millisecond), func() { w.feed(r, v, ev()) })
}

func (w *sim) carryOut(r *simReplica, v *simView, e effect) {
	switch e.do {
	case queue:
		w.line(r, v, e.patience)
	case take, release:
		began := w.when(r).mono
		next := v.open
		next.lease = e.lease
		if e.do == take && v.s.lease.Held && v.s.lease.Owner != v.s.owner {
			w.seen["taken over"]++
		}
		w.write(r, v, next, func(version uint64) stepEvent {
			if e.do == release {
				return released{w.when(r)}
			}
			return leased{when: w.when(r), lease: e.lease, version: version, began: began}
		})
	case save:
		next := v.pending
		next.version = v.open.version
		w.write(r, v, next, func(uint64) stepEvent {
			v.asked = false
			return saved{w.when(r), v.open.record}
		})
	case load:
		if e.news {
			w.left(r, v)
		}
		w.load(r, v)
	case mark:
		next := v.open
		next.lease = e.lease
		w.write(r, v, next, func(uint64) stepEvent { v.marked = true; return marked{w.when(r)} })
	case present:
		w.present(r, v, e.until)
	case adopt, publish: // done with their event
	case revoke:
		v.asked = false
	case end:
		w.end(r, v, e.reason)
	}
}

// line is driver.queue: a turn by the pace, and the breaker's word.
func (w *sim) line(r *simReplica, v *simView, patience time.Duration) {
	enter := func() {
		at := w.when(r)
		var ok bool
		if r.breaker, v.probe, ok = r.breaker.enter(at.now); !ok {
			w.left(r, v)
			w.feed(r, v, held{at, r.breaker.hold(at.now)})
			return
		}
		w.feed(r, v, admitted{at})
	}
	if v.turn {
		enter()
		return
	}
	reserved, wait := turn(r.pace, w.wall(), patience)
	if reserved == nil {
		at := w.when(r)
		w.feed(r, v, held{at, at.now.Add(wait)})
		return
	}
	v.turn = true
	w.then(r, wait, func() {
		if v.s.phase == queued {
			enter()
		}
	})
}
