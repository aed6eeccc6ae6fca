package session

import "time"

// The rules of refreshing (DESIGN.md section 9), as one pure function. It starts no goroutine, reads no clock and
// draws no random number: times and jitter come with the events. A driver feeds it events and does what the
// effects say; a simulation drives it with every fault.

// phase is where a session's refresh stands.
type phase int

const (
	idle     phase = iota // no refresh is running
	asking                // the refresh token was presented
	saving                // the answer is being saved; nobody may use it yet
	merging               // saving hit a conflict: re-reading
	checking              // the provider refused: re-reading whether somebody else was faster
	over                  // the session has ended
)

// Reuse says what a provider does when a one-time refresh token comes back.
type Reuse struct {
	kind   reuseKind
	window time.Duration
}

type reuseKind int

const (
	reuseUnknown  reuseKind = iota
	reuseNone               // the family is revoked
	reuseHarmless           // nothing happens
	reuseWindow             // nothing happens within the window
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
	notBefore time.Time // no attempt earlier
	stepUp    bool      // the provider wants the person back
	forced    bool      // this refresh was asked for by an upstream's invalid_token
}

// stepEvent is something that happened.
type stepEvent interface{ at() time.Time }

type (
	// needed: a caller wants a token. hold is how long the provider's circuit asks to wait.
	needed struct {
		now   time.Time
		hold  time.Time
		force bool
	}
	// answered: the provider gave a new token set.
	answered struct {
		now     time.Time
		rotated bool
	}
	// failed: it did not.
	failed struct {
		now        time.Time
		outcome    outcome
		retryAfter time.Duration
		jitter     float64 // 0 to 1
	}
	// saved: the new token set is in the store.
	saved struct {
		now        time.Time
		generation uint64
		expires    time.Time
		lead       time.Duration
		canRefresh bool
	}
	// unsaved: it is not.
	unsaved struct {
		now    time.Time
		why    whyUnsaved
		jitter float64
	}
	// reread: the record was loaded again.
	reread struct {
		now        time.Time
		gone       bool
		failed     bool // the store did not answer
		generation uint64
		expires    time.Time
		lead       time.Duration
		canRefresh bool
		jitter     float64
	}
	// ended: somebody ended the session.
	ended struct{ now time.Time }
)

func (e needed) at() time.Time   { return e.now }
func (e answered) at() time.Time { return e.now }
func (e failed) at() time.Time   { return e.now }
func (e saved) at() time.Time    { return e.now }
func (e unsaved) at() time.Time  { return e.now }
func (e reread) at() time.Time   { return e.now }
func (e ended) at() time.Time    { return e.now }

// outcome is how a refresh failed, section 9.5 and 9.6.
type outcome int

const (
	transient outcome = iota
	ambiguous
	definitive
	stepUp
)

// whyUnsaved is why a save did not succeed.
type whyUnsaved int

const (
	conflict    whyUnsaved = iota // changed by another
	gone                          // the session was ended
	unavailable                   // the store cannot do it now
)

// effect is something to do.
type effect struct {
	do     act
	wait   time.Duration // before doing it
	reason string        // for end
}

type act int

const (
	present act = iota // send the refresh token
	save               // save the new token set, merged into the newest record
	load               // load the record again
	adopt              // use the token set that was loaded
	publish            // let callers use the saved token set
	revoke             // revoke the new token set: nobody can use it any more
	end                // end the session for this reason
)

// Backoff after failures: doubling from first to most, each up to a quarter longer by jitter.
const (
	firstBackoff = time.Second
	mostBackoff  = time.Minute
)

func backoff(failures int, jitter float64) time.Duration {
	d := mostBackoff
	if failures < 7 {
		d = min(firstBackoff<<max(failures-1, 0), mostBackoff)
	}
	return d + time.Duration(float64(d)/4*jitter)
}

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
	case answered:
		s.phase = saving
		s.rotates = s.rotates || e.rotated
		return s, []effect{{do: save}}
	case failed:
		return stepFailed(s, e)
	case saved:
		return s.use(e.generation, e.expires, e.lead, e.canRefresh), []effect{{do: publish}}
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
	if s.phase != idle || s.freshAt(e.now) && !force {
		return s, nil
	}
	switch {
	case !s.canRefresh:
		return s, nil
	case s.lost && s.liveAt(e.now): // serves out its life
		return s, nil
	case s.lost:
		s.phase = over
		return s, []effect{{do: end, reason: ReasonRefreshLost}}
	case e.now.Before(s.notBefore), e.now.Before(e.hold), s.stepUp && s.liveAt(e.now) && !force:
		return s, nil
	}
	s.phase, s.forced = asking, s.forced || e.force
	if s.doubt {
		s.retried = true
	} else {
		s.presented = e.now
	}
	return s, []effect{{do: present}}
}

// giveUp marks the refresh token lost when it may be spent and no further try is allowed.
func (s state) giveUp(now time.Time) state {
	if s.doubt && (s.retried || now.Sub(s.presented) >= s.reuse.window) {
		s.lost = true
	}
	return s
}

func stepFailed(s state, e failed) (state, []effect) {
	s.phase = idle
	switch e.outcome {
	case definitive:
		s.phase = checking
		return s, []effect{{do: load}}
	case stepUp:
		s.stepUp = true
		s.notBefore = e.now.Add(mostBackoff)
		return s, nil
	case ambiguous:
		if s.mayBeSpent() {
			return stepAmbiguous(s, e)
		}
	}
	if e.outcome == transient {
		s.retried = false // it was not sent, so the one try within the window is still there
	}
	s.failures++
	s.notBefore = e.now.Add(max(backoff(s.failures, e.jitter), e.retryAfter))
	return s, nil
}

// mayBeSpent reports whether a refresh token that was presented without an answer could be of no use any more, or
// do harm.
func (s state) mayBeSpent() bool {
	switch s.reuse.kind {
	case reuseHarmless:
		return false
	case reuseUnknown:
		return s.rotates
	}
	return true
}

// stepAmbiguous: the token may be spent. Within a reuse window it is presented once more, else never again.
func stepAmbiguous(s state, e failed) (state, []effect) {
	first := !s.doubt
	s.doubt = true
	s = s.giveUp(e.now)
	switch {
	case !s.lost && first:
		s.phase, s.retried = asking, true
		return s, []effect{{do: present}}
	case s.lost && !s.liveAt(e.now):
		s.phase = over
		return s, []effect{{do: end, reason: ReasonRefreshLost}}
	}
	return s, nil
}

func stepUnsaved(s state, e unsaved) (state, []effect) {
	switch e.why {
	case conflict:
		s.phase = merging
		return s, []effect{{do: load}}
	case gone:
		s.phase = over
		return s, []effect{{do: revoke}, {do: end, reason: ReasonEndedElsewhere}}
	}
	s.failures++
	return s, []effect{{do: save, wait: min(backoff(s.failures, e.jitter), 5*time.Second)}}
}

func stepReread(s state, e reread) (state, []effect) {
	if e.failed {
		s.failures++
		return s, []effect{{do: load, wait: min(backoff(s.failures, e.jitter), 5*time.Second)}}
	}
	switch {
	case e.gone && s.phase == merging:
		s.phase = over
		return s, []effect{{do: revoke}, {do: end, reason: ReasonEndedElsewhere}}
	case e.gone:
		s.phase = over
		return s, []effect{{do: end, reason: ReasonEndedElsewhere}}
	case e.generation > s.generation:
		return s.use(e.generation, e.expires, e.lead, e.canRefresh), []effect{{do: adopt}}
	case s.phase == merging: // something else changed: ours is still the newest token set
		s.phase = saving
		return s, []effect{{do: save}}
	}
	s.phase = over
	return s, []effect{{do: end, reason: ReasonRefreshRejected}}
}

// use is the state with a new token set in use.
func (s state) use(generation uint64, expires time.Time, lead time.Duration, canRefresh bool) state {
	return state{
		generation: generation, expires: expires, lead: lead, canRefresh: canRefresh,
		rotates: s.rotates, reuse: s.reuse,
	}
}
