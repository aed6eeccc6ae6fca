package session

import "time"

// Across processes the record carries a lease: who is refreshing, and whether the refresh token was presented. It is
// written by compare-and-swap before anything is sent, and taken back with the new token set or with what became of the
// try. Nobody but its holder ever presents the token. The clocks of two processes are never compared: a lease is over
// when an observer has seen the record unchanged for the lease's whole length on its own monotonic clock.

const (
	// leaseTime is the length of a lease. It outlasts a flight.
	leaseTime = 40 * time.Second
	// leaseBeat is how often the holder renews it while it asks the provider: the record's version moves on.
	leaseBeat = leaseTime / 4
	// leasePoll is how often who waits looks at the record, besides what the feed tells; up to half as long again by
	// jitter.
	leasePoll = 500 * time.Millisecond
	// leaseTries is how often a store that does not answer is asked to take the lease back.
	leaseTries = 10
)

// lease is the part of a record that says who is refreshing its token set. Each change of it is a new version of the
// record. The zero value: nobody.
type lease struct {
	Owner      string `cbor:"1,keyasint"`           // a random name of one opened session in one process
	Held       bool   `cbor:"2,keyasint,omitempty"` // the owner is at it; otherwise this is what became of it
	Presenting bool   `cbor:"3,keyasint,omitempty"` // the refresh token was presented, or is about to be: it may be spent
	Retried    bool   `cbor:"4,keyasint,omitempty"` // and it was presented again within the provider's reuse window
	Over       bool   `cbor:"5,keyasint,omitempty"` // the owner found that the session is over; the record is about to go
}

// lessee is what the rules know of the lease.
type lessee struct {
	owner   string // our name
	alone   bool   // no other process shares the store: a lease that is not ours is a dead process's
	lease   lease
	version uint64        // of the record that said so
	seen    time.Duration // since when that very version has been seen, monotonic
	clean   time.Time     // when the token was last seen not presented; zero = never
}

// observe notes what a record says of the lease. After a failover a version may come a second time with another lease.
func (s state) observe(l lease, version uint64, w when) state {
	if version != s.version || l != s.lease || s.seen == 0 {
		s.version, s.seen = version, w.mono
	}
	s.lease = l
	if !l.Presenting {
		s.clean = w.now
	}
	return s
}

// blocked reports whether another process is at it.
func (s state) blocked(mono time.Duration) bool {
	return s.lease.Held && s.lease.Owner != s.owner && !s.alone && mono-s.seen < leaseTime
}

// seek takes the lease as soon as the provider may be asked, or waits for whoever has it. Who takes over from a process that presented the token and is
// gone, or gave up, knows as little as after an answer that never came.
func (s state) seek(w when) (state, []effect) {
	if s.blocked(w.mono) {
		s.phase, s.turn = waiting, false
		return s, []effect{look(w)}
	}
	if s.lease.Presenting && s.lease.Owner != s.owner && s.mayBeSpent() {
		if !s.doubt {
			s.doubt, s.presented = true, s.clean
		}
		s.retried = s.retried || s.lease.Retried
		if s = s.giveUp(w.now); s.lost {
			if s.liveAt(w.now) {
				s.phase = idle
				return s, nil
			}
			return s.check()
		}
	}
	if !s.turn {
		s.phase = queued
		return s, []effect{s.line(w.now)}
	}
	s.phase = leasing
	return s, []effect{{do: take, lease: lease{Owner: s.owner, Held: true, Presenting: true, Retried: s.doubt}}}
}

// turnTime is how long a session whose token is over waits for its turn at the provider; one whose token lives lets
// those go first.
const (
	turnTime  = 30 * time.Second
	aheadTime = time.Second
)

// line is standing in line.
func (s state) line(now time.Time) effect {
	if s.liveAt(now) {
		return effect{do: queue, patience: aheadTime}
	}
	return effect{do: queue, patience: turnTime}
}

// look is the next look at a record that another process works on.
func look(w when) effect {
	return effect{do: load, wait: leasePoll + time.Duration(float64(leasePoll)/2*w.jitter), news: true}
}

// stepLeased: the lease is ours. A write that took long leaves too little of it, or of the window for the one try that
// is allowed; so does a process that stands still before it sends.
func stepLeased(s state, e leased) (state, []effect) {
	s = s.observe(e.lease, e.version, e.when)
	until := e.began + leaseTime/2
	if s.doubt {
		until = min(until, e.mono+s.reuse.window-e.now.Sub(s.presented))
		s = s.giveUp(e.now)
	}
	switch {
	case s.lost && !s.liveAt(e.now):
		return s.check()
	case s.lost, e.mono > until:
		return s.giveBack()
	case s.doubt:
		s.retried = true
	default:
		s.presented = e.now
	}
	s.phase = asking
	return s, []effect{{do: present, until: until}}
}

// giveBack writes what became of a try that brought no new token set.
func (s state) giveBack() (state, []effect) {
	s.phase, s.tries = releasing, 0
	return s, []effect{{do: release, lease: s.remains()}}
}

// remains is the lease that is left: nothing, unless the token may be spent.
func (s state) remains() lease {
	if !s.doubt {
		return lease{}
	}
	return lease{Owner: s.owner, Presenting: true, Retried: s.retried}
}

// again goes on for about the length of a lease when the store does not answer. After that others take the token for
// presented.
func (s state) again(do act, w when) (state, []effect) {
	if s.tries++; s.tries >= leaseTries {
		s.phase = idle
		return s, nil
	}
	return s, []effect{{do: do, wait: min(backoff(s.tries, w.jitter), 5*time.Second), lease: s.remains()}}
}
