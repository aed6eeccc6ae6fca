package session

import "time"

// The model store and the model provider of the simulation.

// simStore keeps the sessions.
type simStore struct {
	sessions []*simSession
	down     time.Duration // until then
	issued   int           // access tokens
	log      []simWrite    // the last writes, for a failover to a copy that lacks them
}

// simWrite is one write: what the record was before.
type simWrite struct {
	session *simSession
	before  simRecord
}

// simSession is what the store has of a session, and what the simulation knows of it besides.
type simSession struct {
	simRecord
	n       int
	gone    bool
	goneAt  time.Duration
	family  simFamily
	lost    bool // an answer of the provider was lost, or its asker died or stood still
	forgot  bool // the store forgot a write
	served  time.Duration
	renewed time.Duration
}

// over says that no ticket opens it any more: it is gone, or marked as ended.
func (s *simSession) over() bool { return s.gone || s.lease.Over }

type simRecord struct {
	record
	access  int       // the access token
	refresh int       // the refresh token
	aside   time.Time // the end of the token for another target; zero = none
}

// simProvider gives one-time refresh tokens. When a spent one comes back outside of its window it refuses it and, unless
// it is lenient, ends the whole family.
type simProvider struct {
	lenient bool
	ill     time.Duration // until then
	how     int
}

// simFamily is what the provider knows of one login.
type simFamily struct {
	over  bool
	next  int
	spent map[int]time.Duration // refresh token -> when it was used first
	shown map[int]int           // how often it was presented, without a word that it is not spent
}

func (w *sim) newSession(n int) *simSession {
	return &simSession{
		n:         n,
		simRecord: simRecord{refresh: 1, record: w.tokens(1, w.upTo(w.life))},
		family:    simFamily{next: 1, spent: map[int]time.Duration{}, shown: map[int]int{}},
	}
}

// tokens is a token set that has been in use for a while.
func (w *sim) tokens(generation uint64, age time.Duration) record {
	lead := leadOf(w.life, w.rng.Float64())
	return record{
		version: 1, generation: generation, expires: w.wall().Add(w.life - age), lead: lead,
		canRefresh: true, rotates: w.reuse.kind != reuseHarmless,
	}
}

func (w *sim) unreachable(r *simReplica) bool { return w.now < r.cut || w.now < w.store.down }

// write is compare-and-swap. Its answer may be lost, or never have been given.
func (w *sim) write(r *simReplica, v *simView, next simRecord, done func(version uint64) stepEvent) {
	s := v.session
	why := func(why whyUnsaved) {
		w.answer(r, v, func() stepEvent { return unsaved{when: w.when(r), why: why} })
	}
	switch {
	case w.unreachable(r), w.chance(3):
		w.logf("%d: the store does not answer", r.n)
		why(unavailable)
	case s.gone:
		why(gone)
	case s.version != next.version:
		why(conflict)
	default:
		w.store.log = append(w.store.log[max(0, len(w.store.log)-30):], simWrite{s, s.simRecord})
		next.version++
		if next.generation != s.generation {
			s.renewed = w.now
		}
		if s.simRecord = next; next.lease.Over {
			s.goneAt = w.now
		}
		w.logf("%d writes session %d, version %d: token set %d, lease %+v", r.n, s.n, next.version, next.generation, next.lease)
		w.tell(s, r)
		if w.chance(3) {
			w.logf("%d: the answer is lost", r.n)
			why(unavailable)
			return
		}
		v.open = next
		w.answer(r, v, func() stepEvent { return done(next.version) })
	}
}

func (w *sim) load(r *simReplica, v *simView) {
	if w.unreachable(r) || w.chance(4) {
		w.answer(r, v, func() stepEvent { return reread{when: w.when(r), failed: true} })
		return
	}
	got, gone := v.session.simRecord, v.session.gone
	w.answer(r, v, func() stepEvent {
		if gone || got.lease.Over {
			return reread{when: w.when(r), gone: true, record: record{lease: got.lease}}
		}
		v.loaded = got
		switch {
		case got.generation == v.open.generation && got.expires.Equal(v.open.expires):
			v.open = got
		case got.generation <= v.open.generation:
			v.open.version = got.version
		}
		return reread{when: w.when(r), record: got.record}
	})
}

// tell is the change feed. from has made the change; nil = somebody else.
func (w *sim) tell(s *simSession, from *simReplica) {
	for _, r := range w.replicas {
		if r.dead || r == from || w.now < r.deaf {
			continue
		}
		v := r.views[s.n]
		if v.session != s {
			continue // somebody has logged in again
		}
		w.then(r, w.upTo(20*time.Millisecond), func() {
			if v.stale = true; v.wake != nil {
				v.wake()
			}
			if s.gone && v.s.phase != over {
				w.feed(r, v, ended{w.when(r)})
			}
		})
	}
}

// begun is a feed that is back: whatever is open may be old.
func (w *sim) begun(r *simReplica) {
	if r.dead || w.now < r.deaf {
		return
	}
	for _, v := range r.views {
		v.stale = true
	}
}

// gone ends a session in the store.
func (w *sim) gone(s *simSession, from *simReplica) {
	if s.gone {
		return
	}
	if s.gone = true; !s.lease.Over {
		s.goneAt = w.now
	}
	w.tell(s, from)
}

// failover puts back the last writes. Who wrote a newer token set writes it again (Feed.repair). Ends are remembered by
// every replica and are no part of this.
func (w *sim) failover() {
	n := min(len(w.store.log), 1+w.rng.IntN(4))
	undone := w.store.log[len(w.store.log)-n:]
	w.store.log = nil
	for i := n - 1; i >= 0; i-- {
		s := undone[i].session
		if s.gone {
			continue
		}
		newest := s.simRecord
		s.simRecord, s.forgot = undone[i].before, true
		w.seen["dropped by a failover"]++
		w.logf("failover of session %d from version %d (token set %d) to %d (%d)", s.n, newest.version, newest.generation, s.version, s.generation)
		if newest.generation > s.generation {
			w.repair(s)
		}
		if s.generation < newest.generation || s.lease.Presenting || newest.lease.Presenting {
			s.lost = true // its writer is dead or busy; or a lease is there again that was given back, or is not that was taken
		}
	}
	for _, r := range w.replicas { // every feed begins anew
		w.begun(r)
	}
}

func (w *sim) repair(s *simSession) {
	for _, r := range w.replicas {
		v := r.views[s.n]
		if v.session != s || r.dead || w.now < r.paused || w.unreachable(r) || v.busy() || v.open.generation <= s.generation {
			continue
		}
		v.open.version = s.version + 1
		s.simRecord = v.open
		s.lease = lease{}
		v.open = s.simRecord
		v.s = v.s.observe(lease{}, s.version, w.when(r))
		w.logf("%d writes token set %d of session %d again", r.n, s.generation, s.n)
	}
}

// end is what the rules decided.
func (w *sim) end(r *simReplica, v *simView, reason string) {
	s := v.session
	w.logf("%d ends session %d: %s", r.n, s.n, reason)
	switch {
	case s.gone, reason == ReasonEndedElsewhere && s.lease.Over, v.marked && s.forgot:
	case s.generation > v.open.generation && w.now-s.renewed > 100*time.Millisecond:
		w.failf("replica %d ended session %d over token set %d, and %d is in the store", r.n, s.n, v.open.generation, s.generation)
	case reason == ReasonRefreshLost && !s.lost:
		w.failf("session %d ended as lost, and nothing was lost", s.n)
	case reason == ReasonRefreshRejected && !s.family.over && !s.lost:
		w.failf("session %d ended as refused, and the provider takes its newest token", s.n)
	case reason == ReasonEndedElsewhere:
		w.failf("session %d ended as ended elsewhere, and nobody did", s.n)
	case reason == ReasonRefreshLost:
		w.seen["lost"]++
	default:
		w.seen["refused"]++
	}
	w.gone(s, r)
}

// present asks the provider, with the heartbeat of the lease meanwhile.
func (w *sim) present(r *simReplica, v *simView, until time.Duration) {
	if w.when(r).mono > until {
		w.answer(r, v, func() stepEvent { return failed{when: w.when(r), outcome: transient} })
		return
	}
	w.seen["presented"]++
	how, slow := w.fate(), w.upTo(50*time.Millisecond)
	if w.chance(10) {
		slow = w.upTo(29 * time.Second)
	}
	w.beat(r, v, w.now+slow)
	x, outcome := w.token(r, v, how)
	w.then(r, slow, func() {
		w.answer(r, v, func() stepEvent {
			at := w.when(r)
			probe := v.probe
			v.probe = false
			switch outcome {
			case transient, ambiguous:
				var after time.Duration
				if how == simAskedForTime {
					after = 20 * time.Second
				}
				r.breaker = r.breaker.failed(at, probe, after)
				return failed{when: at, outcome: outcome, retryAfter: after}
			case definitive, stepUp, denied:
				r.breaker = r.breaker.worked(at.now)
				return failed{when: at, outcome: outcome}
			}
			r.breaker = r.breaker.worked(at.now)
			v.pending, v.asked = x, true
			return answered{when: at, rotated: x.rotates}
		})
	})
}

// How the provider fares.
const (
	simWell         = iota
	simRefuses      // no connection: nothing was written
	simAskedForTime // 429 or 503 with Retry-After
	simNotArrived   // the request got lost, and nobody can tell
	simLost         // the answer got lost
	simStepUp       // it wants the person back
	simDenied       // it gives no token for this target
)

func (w *sim) fate() int {
	switch {
	case w.quietly:
		return simWell
	case w.now < w.provider.ill:
		return []int{simRefuses, simAskedForTime, simNotArrived, simRefuses}[w.provider.how]
	}
	switch n := w.rng.IntN(100); {
	case n < 3:
		return simRefuses
	case n < 5:
		return simAskedForTime
	case n < 7:
		return simNotArrived
	case n < 9:
		return simLost
	case n < 10:
		return simStepUp
	case n < 12:
		return simDenied
	}
	return simWell
}

// simGranted is no outcome of the rules: a new token set.
const simGranted outcome = -1

// token is the token endpoint.
func (w *sim) token(r *simReplica, v *simView, how int) (x simRecord, o outcome) {
	s, f, shown := v.session, &v.session.family, v.open.refresh
	w.logf("%d presents token %d of session %d, fate %d", r.n, shown, s.n, how)
	switch how {
	case simRefuses, simAskedForTime:
		return x, transient
	case simStepUp:
		return x, stepUp
	}
	if how == simDenied && v.aside {
		w.seen["denied"]++
		return x, denied
	}
	f.shown[shown]++
	w.judge(r, s, shown)
	if how == simNotArrived {
		s.lost = true
		return x, ambiguous
	}
	first, was := f.spent[shown]
	rotates := w.reuse.kind != reuseHarmless
	refused := rotates && was && w.now-first > w.reuse.window
	if !was {
		f.spent[shown] = w.now
	}
	if refused && !w.provider.lenient {
		f.over = true
	}
	fresh := shown
	if !refused && !f.over && rotates {
		f.next++
		fresh = f.next
	}
	switch {
	case how == simLost:
		s.lost = true
		return x, ambiguous
	case (refused || f.over) && v.aside:
		f.shown[shown]-- // it says that the token is dead: whoever shows it once more does no harm
		return x, denied
	case refused || f.over:
		return x, definitive
	}
	w.store.issued++
	if v.aside {
		w.seen["for a target"]++
		x = v.open
		x.refresh, x.aside, x.lease, x.rotates = fresh, w.wall().Add(w.life), lease{}, rotates
		x.generation++
		return x, simGranted
	}
	return simRecord{access: w.store.issued, refresh: fresh, aside: v.open.aside, record: func() record {
		t := w.tokens(v.open.generation+1, 0)
		t.rotates = rotates
		return t
	}()}, simGranted
}

// judge checks that a token may be presented (DESIGN.md section 9.6).
func (w *sim) judge(r *simReplica, s *simSession, token int) {
	first, was := s.family.spent[token]
	allowed := 1
	if w.reuse.kind == reuseWindow {
		allowed = 2
	}
	n := s.family.shown[token]
	if n == 2 {
		w.seen["again in the window"]++
	}
	if w.reuse.kind == reuseHarmless || s.forgot {
		return
	}
	switch {
	case n > allowed:
		w.failf("replica %d presents token %d of session %d for the %d. time", r.n, token, s.n, n)
	case was && w.now-first > w.reuse.window:
		w.failf("replica %d presents token %d of session %d, which was spent %v ago", r.n, token, s.n, w.now-first)
	}
}

// beat renews the lease while the provider is asked.
func (w *sim) beat(r *simReplica, v *simView, end time.Duration) {
	w.then(r, leaseBeat, func() {
		s := v.session
		if w.now >= end || v.s.phase != asking {
			return
		}
		switch {
		case w.unreachable(r), w.chance(3):
		case s.gone:
			return
		case s.version == v.open.version:
			s.version++
			v.open.version = s.version
			w.tell(s, r)
		case s.lease == v.open.lease && s.generation == v.open.generation:
			v.open.version = s.version // something else changed; the lease is ours
		default:
			return
		}
		w.beat(r, v, end)
	})
}
