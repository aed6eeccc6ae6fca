package session

import (
	"sync"
	"sync/atomic"
	"time"
)

// circuit keeps one provider from being asked by every session while it is ill. Failures count per attempt.
type circuit struct {
	reuse   Reuse
	rotates *atomic.Bool // a rotation has been seen for this client

	mu       sync.Mutex
	failures int
	until    time.Time
}

// circuitFailures is how many attempts in a row open the circuit.
const circuitFailures = 5

func (c *circuit) holds() time.Time {
	if c == nil {
		return time.Time{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until
}

func (c *circuit) worked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures, c.until = 0, time.Time{}
}

func (c *circuit) failed(now time.Time, jitter float64, retryAfter time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures++
	if c.failures >= circuitFailures {
		c.until = now.Add(max(backoff(c.failures-circuitFailures+1, jitter), retryAfter))
	}
}
