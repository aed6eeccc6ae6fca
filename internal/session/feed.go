package session

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/store"
)

// Feed is this process's end of the store's change feed, shared by the managers of all frontends. It says whether
// what is in memory may be trusted, and what time it is for everybody.
//
// What is cached is trusted only while our own heartbeat came back within the last second: so an end that another
// process made is effective here within that second, or the store is asked.
type Feed struct {
	store  store.Store
	cache  *Cache
	grace  time.Duration
	events event.Sink

	base   time.Time    // what the times below count from, on the monotonic clock
	proved atomic.Int64 // every change before was delivered, nanoseconds since base
	offset atomic.Int64 // the store's clock less ours, nanoseconds
	always bool         // this process has the store to itself

	mu       sync.Mutex
	managers []*Manager
	journal  []repair
}

const (
	// trustTime is how old the newest proof of the feed may be.
	trustTime = time.Second
	// journalTime is how long a process remembers what it wrote, to repair what a failover lost. It is shorter than
	// store.Tombstone, so that a repair never brings back what somebody ended.
	journalTime = 10 * time.Minute
	journalMost = 100_000
	// retryFeed is how long after a broken feed the next try begins, at most.
	retryFeed = 2 * time.Second
)

// NewFeed makes the feed of a store. grace is how long cached sessions are served while the store cannot be reached.
func NewFeed(st store.Store, cache *Cache, grace time.Duration, events event.Sink) *Feed {
	f := &Feed{store: st, cache: cache, grace: grace, events: events, base: time.Now()}
	_, f.always = st.(store.Exclusive)
	f.proved.Store(math.MinInt64 / 2)
	return f
}

// Run follows the store's changes until ctx ends. A store without a feed has nothing to follow: it is this process's
// own, or it is asked at each request.
func (f *Feed) Run(ctx context.Context) {
	w, ok := f.store.(store.Watcher)
	if !ok {
		return
	}
	go f.keepTime(ctx)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, retryFeed) {
		began := time.Now()
		err := w.Watch(ctx, store.Feed{
			Begun: func() { wait = 50 * time.Millisecond; f.begun(ctx) },
			Changed: func(c store.Change) {
				for _, m := range f.all() {
					m.changed(ctx, c)
				}
			},
			Alive: f.alive,
		})
		if ctx.Err() != nil {
			return
		}
		f.events.Emit(&event.Audit{Time: time.Now(), Kind: event.FeedBroken, Detail: err.Error()})
		jittered := wait + time.Duration(rand.Int64N(int64(wait))) //nolint:gosec // jitter is no secret
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(0, jittered-time.Since(began))):
		}
	}
}

func (f *Feed) all() []*Manager {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.managers
}

func (f *Feed) join(m *Manager) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.managers = append(append([]*Manager(nil), f.managers...), m)
}

// alive notes the newest proof.
func (f *Feed) alive(since time.Time) { advance(&f.proved, int64(since.Sub(f.base))) }

// trusted reports whether what is cached is as good as the store. now has the monotonic reading.
func (f *Feed) trusted(now time.Time) bool {
	return f.always || int64(now.Sub(f.base)) < f.proved.Load()+int64(trustTime)
}

// graced reports whether what is cached may be served because the store cannot be asked.
func (f *Feed) graced(now time.Time) bool {
	return f.grace > 0 && int64(now.Sub(f.base)) < f.proved.Load()+int64(trustTime+f.grace)
}

// begun is called when the feed stands (again). Nobody told what changed before: everything that is cached is
// dropped, what a failover lost is repaired from memory, and sessions that streams hold are looked at again.
func (f *Feed) begun(ctx context.Context) {
	managers := f.all()
	f.cache.clear()
	for _, m := range managers {
		m.doubtAll()
	}
	f.tellTime(ctx)
	go func() {
		f.repair(ctx)
		for _, m := range managers {
			m.syncAll(ctx)
		}
	}()
}

// keepTime measures the time again now and then: clocks drift, and are set.
func (f *Feed) keepTime(ctx context.Context) {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.tellTime(ctx)
		}
	}
}

// tellTime measures how far the store's clock is from ours: processes whose clocks differ judge ends alike.
func (f *Feed) tellTime(ctx context.Context) {
	c, ok := f.store.(store.Clock)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	asked := time.Now()
	there, err := c.Now(ctx)
	if err != nil {
		return // the last measure stands
	}
	round := time.Since(asked)
	f.offset.Store(int64(there.Sub(asked.Round(0).Add(round / 2))))
}

// repair is something this process wrote: it may be gone after a failover.
type repair struct {
	at      time.Time // monotonic
	manager *Manager
	id      store.ID
	open    *opened // what was saved; nil = it was ended
}

// wrote notes a write that was acknowledged.
func (f *Feed) wrote(m *Manager, id store.ID, o *opened) {
	if f.always {
		return
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	old := 0
	for old < len(f.journal) && (now.Sub(f.journal[old].at) > journalTime || len(f.journal)-old >= journalMost) {
		old++
	}
	f.journal = append(f.journal[old:], repair{at: now, manager: m, id: id, open: o})
}

// repair writes again what is not in the store any more: the last word of this process on each record of the last
// minutes. An end is final: its tombstone keeps a repair of anybody else from bringing the record back.
func (f *Feed) repair(ctx context.Context) {
	now := time.Now()
	f.mu.Lock()
	last := map[store.ID]repair{}
	for _, r := range f.journal {
		if now.Sub(r.at) <= journalTime && (last[r.id].manager == nil || last[r.id].open != nil) {
			last[r.id] = r
		}
	}
	f.mu.Unlock()
	limit := make(chan struct{}, 16)
	var wait sync.WaitGroup
	for _, r := range last {
		if ctx.Err() != nil {
			break
		}
		limit <- struct{}{}
		wait.Go(func() {
			defer func() { <-limit }()
			r.manager.repair(ctx, r)
		})
	}
	wait.Wait()
}
