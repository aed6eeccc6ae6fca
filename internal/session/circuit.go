package session

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/cloakroom/cloakroom/config"
)

// circuit keeps one provider from being asked too much: at most so many times a second, so many at the same time, and
// while it is ill by one session only.
type circuit struct {
	reuse   Reuse
	rotates atomic.Bool   // a rotation has been seen for this client
	pace    *rate.Limiter // turns
	slots   chan struct{} // one for each attempt that is under way

	mu sync.Mutex
	breaker
}

// newCircuit makes the circuit of a provider.
func newCircuit(p ProviderPolicy) *circuit {
	r := p.Rate
	if r.Burst <= 0 || r.Per <= 0 {
		r = config.Rate{Burst: 200, Per: time.Second}
	}
	return &circuit{reuse: p.Reuse, pace: pacer(r), slots: make(chan struct{}, r.Burst)}
}

// pacer gives turns: a tenth of them may go together, and in no span of r.Per are there more than r.Burst.
func pacer(r config.Rate) *rate.Limiter {
	together := max(r.Burst/10, 1)
	return rate.NewLimiter(rate.Limit(float64(max(r.Burst-together, 1))/r.Per.Seconds()), together)
}

// turn reserves a turn, or tells how far off the next one is where that is farther than patience.
func (c *circuit) turn(now time.Time, patience time.Duration) (*rate.Reservation, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return turn(c.pace, now, patience)
}

// turn looks before it reserves: reservations that are taken back leave gaps.
func turn(pace *rate.Limiter, now time.Time, patience time.Duration) (*rate.Reservation, time.Duration) {
	if missing := 1 - pace.TokensAt(now); missing > 0 {
		if wait := time.Duration(missing / float64(pace.Limit()) * float64(time.Second)); wait > patience {
			return nil, wait
		}
	}
	r := pace.ReserveN(now, 1)
	return r, r.DelayFrom(now)
}

func (c *circuit) look() breaker {
	if c == nil {
		return breaker{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.breaker
}

// change applies one of the rules below, and reports what was before and what is.
func (c *circuit) change(rule func(breaker) breaker) (was, is breaker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was = c.breaker
	c.breaker = rule(was)
	return was, c.breaker
}

// breaker says whether a provider may be asked. It is pure, like the rules of step, and the simulation drives it, too.
// Failures count per attempt, not per waiter. When it is open nobody asks for a while; then one session does, whose
// fate closes it or opens it for longer.
type breaker struct {
	failures int       // in a row
	opened   int       // times in a row; 0 = closed
	until    time.Time // nobody asks before
	probing  bool      // one session is asking
	mended   time.Time // when it was last closed after it had been open
}

const (
	// breakerFailures is how many attempts in a row open it.
	breakerFailures = 5
	// probeTime is when to ask again while a probe is on its way.
	probeTime = time.Second
)

// hold is until when nobody is to ask; zero = now is fine.
func (b breaker) hold(now time.Time) time.Time {
	switch {
	case b.opened == 0:
		return time.Time{}
	case now.Before(b.until):
		return b.until
	case b.probing:
		return now.Add(probeTime)
	}
	return time.Time{}
}

// enter lets one attempt begin. probe: everybody else waits for its fate.
func (b breaker) enter(now time.Time) (next breaker, probe, ok bool) {
	if !b.hold(now).IsZero() {
		return b, false, false
	}
	b.probing = b.opened > 0
	return b, b.probing, true
}

// worked: the provider gave an OAuth answer.
func (b breaker) worked(now time.Time) breaker {
	if b.opened > 0 {
		return breaker{mended: now}
	}
	return breaker{mended: b.mended}
}

// failed: it did not, or it asked for time. What was under way when it opened makes it open no longer.
func (b breaker) failed(w when, probe bool, retryAfter time.Duration) breaker {
	b.failures++
	if probe {
		b.probing = false
	}
	retryAfter = min(retryAfter, mostBackoff)
	if b.opened == 0 && b.failures < breakerFailures && retryAfter == 0 {
		return b
	}
	wait := retryAfter
	if b.opened == 0 || probe {
		b.opened++
		wait = max(wait, backoff(b.opened, w.jitter))
	}
	if until := w.now.Add(wait); until.After(b.until) {
		b.until = until
	}
	return b
}

// left: a probe did not ask after all.
func (b breaker) left() breaker {
	b.probing = false
	return b
}
