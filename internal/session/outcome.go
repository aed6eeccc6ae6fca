package session

import "time"

// What a try that brought no new token set means (DESIGN.md sections 9.5 and 9.6).

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

// outcome is how a refresh failed, section 9.5 and 9.6.
type outcome int

const (
	transient outcome = iota
	ambiguous
	definitive
	stepUp
	denied // a token for another target: nothing is said of the session's own
)

// Backoff after failures: doubling from first to most, each up to a quarter longer by jitter.
const (
	firstBackoff = time.Second
	mostBackoff  = 30 * time.Second
)

func backoff(failures int, jitter float64) time.Duration {
	d := mostBackoff
	if failures < 6 {
		d = min(firstBackoff<<max(failures-1, 0), mostBackoff)
	}
	return d + time.Duration(float64(d)/4*jitter)
}

func stepFailed(s state, e failed) (state, []effect) {
	switch e.outcome {
	case definitive:
		return s.check()
	case stepUp:
		s.stepUp = true
		s.notBefore = e.now.Add(mostBackoff)
		return s.giveBack()
	case denied:
		return s.giveBack()
	case ambiguous:
		if s.mayBeSpent() {
			return stepAmbiguous(s, e)
		}
	}
	if e.outcome == transient {
		s.retried = false // it was not sent, so the one try within the window is still there
	}
	s.failures, s.failedAt = s.failures+1, e.now
	s.notBefore = e.now.Add(max(backoff(s.failures, e.jitter), e.retryAfter))
	return s.giveBack()
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
		return s.seek(e.when)
	case s.lost && !s.liveAt(e.now):
		return s.check()
	}
	return s.giveBack()
}

// giveUp marks the refresh token lost when it may be spent and no further try is allowed.
func (s state) giveUp(now time.Time) state {
	if s.doubt && (s.retried || now.Sub(s.presented) >= s.reuse.window) {
		s.lost = true
	}
	return s
}
