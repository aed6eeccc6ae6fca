package session

import "time"

// The rules of refreshing (DESIGN.md section 9), as one pure function. It starts no goroutine, reads no clock and
// draws no random number: times and jitter come with the events. A driver feeds it events and does what the
// effects say; a simulation drives it with every fault. Who may present the refresh token is in lease.go.

// phase is where a session's refresh stands.
type phase int

const (
	idle      phase = iota // no refresh is running
	queued                 // waiting for a turn at the provider
	leasing                // the lease is being taken
	waiting                // another process has the lease
	asking                 // the refresh token was presented
	saving                 // the answer is being saved; nobody may use it yet
	merging                // saving hit a conflict: re-reading
	checking               // refused, or lost: re-reading whether somebody else was faster
	ending                 // nobody was: the record is being marked as ended
	releasing              // no new token set came: the lease is being given back
	over                   // the session has ended
)

// state is what the rules know of one session.
type state struct {
	phase      phase
	generation uint64    // of the token set in use
	expires    time.Time // of its access token; zero = unknown
	lead       time.Duration
	canRefresh bool // there is a refresh token
	rotates    bool // a rotation has been seen for this client
	reuse      Reuse

	presented time.Time // when the refresh token was presented first
	doubt     bool      // no answer came to that: it may be spent
	retried   bool      // and it was presented again within the window
	lost      bool      // never present it again
	failures  int       // in a row
	failedAt  time.Time // the last of them
	notBefore time.Time // no attempt earlier
	stepUp    bool      // the provider wants the person back
	turn      bool      // the provider may be asked now
	forced    bool      // this refresh was asked for by an upstream's invalid_token
	tries     int       // of giving the lease back
	verdict   string    // why the session is to end

	lessee
}

// when is the time of an event, and its share of chance.
type when struct {
	now    time.Time     // by the store's clock
	mono   time.Duration // on this process's monotonic clock, from a base of its own
	jitter float64       // 0 to 1
}

func (w when) at() when { return w }

// stepEvent is something that happened.
type stepEvent interface{ at() when }

type (
	// needed: a caller wants a token. hold is how long the provider's circuit asks to wait, mended when it last found
	// the provider well again. aside: the token is for another target, so that the one in use being fresh says nothing.
	needed struct {
		when
		hold   time.Time
		mended time.Time
		force  bool
		aside  bool
	}
	// admitted: the provider may be asked.
	admitted struct{ when }
	// held: not before this time.
	held struct {
		when
		until time.Time
	}
	// leased: the lease is written. began is when the call to the store began.
	leased struct {
		when
		lease   lease
		version uint64
		began   time.Duration
	}
	// answered: the provider gave a new token set.
	answered struct {
		when
		rotated bool
	}
	// failed: it did not.
	failed struct {
		when
		outcome    outcome
		retryAfter time.Duration
	}
	// saved: the new token set is in the store, and the lease given back with it.
	saved struct {
		when
		record
	}
	// marked: the record says that the session is over, and nobody else can have changed it.
	marked struct{ when }
	// released: the lease is given back.
	released struct{ when }
	// unsaved: what was to be written is not.
	unsaved struct {
		when
		why whyUnsaved
	}
	// reread: the record was loaded again.
	reread struct {
		when
		record
		gone   bool // the record, or it is marked as ended; lease says by whom
		failed bool // the store did not answer
	}
	// ended: somebody ended the session.
	ended struct{ when }
)

// record is what the rules look at in a record.
type record struct {
	version    uint64
	generation uint64
	expires    time.Time
	lead       time.Duration
	canRefresh bool
	rotates    bool
	lease      lease
}

// whyUnsaved is why a save did not succeed.
type whyUnsaved int

const (
	conflict    whyUnsaved = iota // changed by another
	gone                          // the session was ended
	unavailable                   // the store cannot do it now
)

// effect is something to do.
type effect struct {
	do       act
	wait     time.Duration // before doing it
	news     bool          // do not wait any longer when the feed tells of a change
	patience time.Duration // for queue: a turn that is farther off is not waited for
	lease    lease         // for take, release and mark
	until    time.Duration // for present: not sent any more after that, monotonic
	reason   string        // for end
}

type act int

const (
	queue   act = iota // wait for a turn at the provider
	take               // write this lease into the record
	release            // write what became of it
	present            // send the refresh token
	save               // save the new token set, merged into the newest record
	load               // load the record again
	adopt              // use the token set that was loaded
	publish            // let callers use the saved token set
	revoke             // revoke the new token set: nobody can use it any more
	mark               // write into the record that the session is over
	end                // end the session for this reason
)

// freshAt reports whether the token in use needs nothing.
func (s state) freshAt(now time.Time) bool {
	return s.expires.IsZero() || now.Before(s.expires.Add(-s.lead))
}

// liveAt reports whether the token in use may still be used.
func (s state) liveAt(now time.Time) bool { return s.expires.IsZero() || now.Before(s.expires) }

// leadOf is how long before its end a token is refreshed: a minute, or a fifth of a short life. jitter spreads
// sessions that began together.
func leadOf(life time.Duration, jitter float64) time.Duration {
	lead := min(time.Minute, life/5)
	return lead - time.Duration(float64(lead)/4*jitter)
}

// step applies one event to the state.
func step(s state, e stepEvent) (state, []effect) {
	if s.phase == over {
		return stepOver(s, e)
	}
	switch e := e.(type) {
	case needed:
		return stepNeeded(s, e)
	case admitted:
		s.turn = true
		return s.seek(e.when)
	case held:
		s.phase, s.notBefore, s.forced = idle, e.until, false
	case leased:
		return stepLeased(s, e)
	case answered:
		s.phase = saving
		s.rotates = s.rotates || e.rotated
		return s, []effect{{do: save}}
	case failed:
		return stepFailed(s, e)
	case saved:
		return s.use(e.record, e.when), []effect{{do: publish}}
	case marked:
		s.phase = over
		return s, []effect{{do: end, reason: s.verdict}}
	case released:
		s.phase = idle
	case unsaved:
		return stepUnsaved(s, e)
	case reread:
		return stepReread(s, e)
	case ended:
		s.phase = over
	}
	return s, nil
}

// stepOver: whatever a refresh brings to an ended session is revoked.
func stepOver(s state, e stepEvent) (state, []effect) {
	switch e.(type) {
	case answered, unsaved:
		return s, []effect{{do: revoke}}
	case saved: // saved in the moment it ended: the record must not live on
		return s, []effect{{do: end}, {do: revoke}}
	}
	return s, nil
}

func stepNeeded(s state, e needed) (state, []effect) {
	force := e.force && !s.forced
	if s.phase == idle {
		s = s.giveUp(e.now)
	}
	if s.phase != idle || s.freshAt(e.now) && !force && !e.aside {
		return s, nil
	}
	switch {
	case !s.canRefresh:
		return s, nil
	case s.lost && s.liveAt(e.now): // serves out its life
		return s, nil
	case s.lost:
		return s.check()
	case e.now.Before(s.notBefore) && !e.mended.After(s.failedAt), e.now.Before(e.hold), s.stepUp && s.liveAt(e.now) && !force:
		return s, nil
	}
	s.forced, s.turn = s.forced || e.force, false
	return s.seek(e.when)
}

// check reads the record again before the session ends: somebody else may have been faster.
func (s state) check() (state, []effect) {
	s.phase = checking
	return s, []effect{{do: load}}
}

func stepUnsaved(s state, e unsaved) (state, []effect) {
	switch e.why {
	case gone:
		unused := s.phase == saving
		s.phase = over
		if unused {
			return s, []effect{{do: revoke}, {do: end, reason: ReasonEndedElsewhere}}
		}
		return s, []effect{{do: end, reason: ReasonEndedElsewhere}}
	case conflict:
		switch s.phase {
		case saving:
			s.phase = merging
		case ending:
			s.phase = checking
		}
		return s, []effect{{do: load}}
	}
	switch s.phase {
	case ending: // it may be marked all the same
		s.phase = checking
		return stepUnread(s, reread{when: e.when})
	case leasing: // nothing was presented; but the lease may be written, and others would take the token for spent
		s = s.later(e.when)
		s.phase, s.tries = releasing, 0
		return s.again(load, e.when)
	case releasing:
		return s.again(release, e.when)
	}
	s.failures++
	return s, []effect{{do: save, wait: min(backoff(s.failures, e.jitter), 5*time.Second)}}
}

// later is the state after a store that did not answer, with nothing begun.
func (s state) later(w when) state {
	s.phase, s.failures, s.failedAt = idle, s.failures+1, w.now
	s.notBefore = w.now.Add(min(backoff(s.failures, w.jitter), 5*time.Second))
	return s
}

func stepReread(s state, e reread) (state, []effect) {
	switch {
	case e.failed:
		return stepUnread(s, e)
	case e.gone && s.phase == merging:
		s.phase = over
		return s, []effect{{do: revoke}, {do: end, reason: ReasonEndedElsewhere}}
	case e.gone && e.lease.Owner == s.owner: // our own mark, whose acknowledgement was lost
		s.phase = over
		return s, []effect{{do: end, reason: s.verdict}}
	case e.gone:
		s.phase = over
		return s, []effect{{do: end, reason: ReasonEndedElsewhere}}
	case e.generation > s.generation, e.generation == s.generation && !e.expires.Equal(s.expires) && s.phase != merging:
		return s.use(e.record, e.when), []effect{{do: adopt}} // the second: a failover gave a generation twice
	}
	s = s.observe(e.lease, e.version, e.when)
	switch s.phase {
	case merging: // something else changed: ours is still the newest token set
		s.phase = saving
		return s, []effect{{do: save}}
	case queued, leasing, waiting:
		return s.seek(e.when)
	case releasing:
		if s.lease.Owner == s.owner && s.lease.Held {
			return s.giveBack()
		}
		s.phase = idle
		return s, nil
	}
	if s.blocked(e.mono) { // somebody is at it, and may bring what was refused or lost here
		return s, []effect{look(e.when)}
	}
	s.phase, s.verdict = ending, ReasonRefreshRejected
	if s.lost {
		s.verdict = ReasonRefreshLost
	}
	return s, []effect{{do: mark, lease: lease{Owner: s.owner, Over: true}}}
}

// stepUnread: the store did not answer. Who has something to save goes on trying.
func stepUnread(s state, e reread) (state, []effect) {
	switch s.phase {
	case queued, leasing, waiting:
		return s.later(e.when), nil
	case releasing:
		return s.again(load, e.when)
	}
	s.failures++
	return s, []effect{{do: load, wait: min(backoff(s.failures, e.jitter), 5*time.Second)}}
}

// use is the state with a new token set in use.
func (s state) use(r record, w when) state {
	next := state{
		generation: r.generation, expires: r.expires, lead: r.lead, canRefresh: r.canRefresh,
		rotates: s.rotates || r.rotates, reuse: s.reuse, lessee: lessee{owner: s.owner, alone: s.alone},
	}
	return next.observe(r.lease, r.version, w)
}
