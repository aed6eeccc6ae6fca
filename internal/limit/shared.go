package limit

import (
	"context"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/store"
)

// askTime bounds how long a counter in a store may take. A login waits for it.
const askTime = 2 * time.Second

// Counter bounds how often something may be tried, over all processes where the store can count for them. While the
// store does not answer, each process counts for itself: attacks must not have to do more than break a store.
type Counter struct {
	name   string
	own    *GCRA
	rate   store.Rate
	shared store.Limiter // nil = this process is alone
}

// NewCounter makes a counter; name keeps its keys apart from other counters' in the store. A zero rate allows all.
func NewCounter(name string, rate config.Rate, st store.Store) *Counter {
	if rate.Burst <= 0 {
		return &Counter{name: name}
	}
	c := &Counter{name: name, own: New(rate)}
	c.rate = store.Rate{Interval: time.Duration(c.own.interval), Limit: time.Duration(c.own.limit)}
	c.shared, _ = st.(store.Limiter)
	return c
}

// Take counts one, or says how long to wait.
func (c *Counter) Take(ctx context.Context, key string) (ok bool, wait time.Duration) {
	if c.own == nil {
		return true, 0
	}
	if ok, wait = c.own.Take(key); !ok || c.shared == nil { // what one process refuses, all together do
		return ok, wait
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	wait, err := c.shared.Take(ctx, c.name+":"+key, c.rate)
	if err == nil && wait > 0 {
		c.own.Give(key)
		return false, wait
	}
	return true, 0
}

// Give takes a Take back: the attempt turned out to be none of those that are to be limited.
func (c *Counter) Give(ctx context.Context, key string) {
	if c.own == nil {
		return
	}
	c.own.Give(key)
	if c.shared != nil {
		ctx, cancel := context.WithTimeout(ctx, askTime)
		defer cancel()
		_ = c.shared.Give(ctx, c.name+":"+key, c.rate) // then it owes a little more for a while
	}
}
