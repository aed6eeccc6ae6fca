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

	clock   func() time.Time // of this process, which may be wrong
	base    time.Time        // what the times below count from, on the monotonic clock
	proved  atomic.Int64     // every change before was delivered, nanoseconds since base
	failed  atomic.Int64     // when the store last failed to answer, nanoseconds since base
	offset  atomic.Int64     // the store's clock less ours, nanoseconds
	always  bool             // this process has the store to itself
	journal journal

	mu        sync.Mutex
	managers  []*Manager
	repairing sync.Mutex
	work      sync.WaitGroup
}

const (
	// trustTime is how old the newest proof of the feed may be.
	trustTime = time.Second
	// retryFeed is how long after a broken feed the next try begins, at most.
	retryFeed = 2 * time.Second
	// failingTime is how long after the store did not answer it is taken for down, so that not every request of a time
	// of grace waits for it.
	failingTime = time.Second
	// clockTime bounds the question for the store's time; clockEvery is how often it is asked: clocks drift, and are set.
	clockTime  = time.Second
	clockEvery = 30 * time.Second
)

// NewFeed makes the feed of a store. grace is how long cached sessions are served while the store cannot be reached.
func NewFeed(st store.Store, cache *Cache, grace time.Duration, events event.Sink) *Feed {
	f := &Feed{store: st, cache: cache, grace: grace, events: events, clock: time.Now, base: time.Now()}
	_, f.always = st.(store.Exclusive)
	f.proved.Store(math.MinInt64 / 2)
	f.failed.Store(math.MinInt64 / 2)
	return f
}

// Run follows the store's changes until ctx ends. A store without a feed has nothing to follow: it is this process's
// own, or it is asked at each request.
func (f *Feed) Run(ctx context.Context) {
	w, ok := f.store.(store.Watcher)
	if !ok {
		return
	}
	defer f.work.Wait()
	f.work.Go(func() { f.keepTime(ctx) })
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
func (f *Feed) alive(since time.Time) {
	advance(&f.proved, int64(f.clock().Add(-time.Since(since)).Sub(f.base)))
}

// trusted reports whether what is cached is as good as the store. now has the monotonic reading.
func (f *Feed) trusted(now time.Time) bool {
	return f.always || int64(now.Sub(f.base)) < f.proved.Load()+int64(trustTime)
}

// graced reports whether what is cached may be served because the store cannot be asked.
func (f *Feed) graced(now time.Time) bool {
	return f.grace > 0 && int64(now.Sub(f.base)) < f.proved.Load()+int64(trustTime+f.grace)
}

// answered notes whether the store answered.
func (f *Feed) answered(err error) {
	if err != nil {
		advance(&f.failed, int64(f.clock().Sub(f.base)))
	} else if f.failed.Load() > 0 {
		f.failed.Store(math.MinInt64 / 2)
	}
}

// failing reports whether the store failed to answer a moment ago.
func (f *Feed) failing(now time.Time) bool {
	return int64(now.Sub(f.base)) < f.failed.Load()+int64(failingTime)
}

// begun is called when the feed stands (again). Nobody told what changed before: everything that is cached is
// dropped, what a failover lost is repaired from memory, and sessions that streams hold are looked at again.
func (f *Feed) begun(ctx context.Context) {
	f.cache.clear()
	for _, m := range f.all() {
		m.doubtAll()
	}
	f.tellTime(ctx)
	f.work.Go(func() { f.repair(ctx) })
}

// keepTime measures the time again now and then.
func (f *Feed) keepTime(ctx context.Context) {
	tick := time.NewTicker(clockEvery)
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

// tellTime measures how far the store's clock is from ours: processes whose clocks differ judge ends alike. Without an
// answer the last measure stands.
func (f *Feed) tellTime(ctx context.Context) {
	c, ok := f.store.(store.Clock)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, clockTime)
	defer cancel()
	asked := f.clock()
	there, err := c.Now(ctx)
	if err != nil {
		return
	}
	round := f.clock().Sub(asked)
	f.offset.Store(int64(there.Sub(asked.Round(0).Add(round / 2))))
}

// saved notes a record that the store has taken.
func (f *Feed) saved(m *Manager, o *opened) {
	if !f.always {
		f.journal.note(&written{
			at: time.Now(), manager: m, id: o.record.ID, record: o.record, generation: o.tokens.Generation, key: o.key,
		})
	}
}

// ended notes a record that was deleted.
func (f *Feed) ended(m *Manager, id store.ID) {
	if !f.always {
		f.journal.note(&written{at: time.Now(), manager: m, id: id, ended: true})
	}
}

// repair writes again what the store may have lost: the last word of this process on each record of the last minutes.
// An end is final: its tombstone keeps a repair of anybody else from bringing the record back.
func (f *Feed) repair(ctx context.Context) {
	f.repairing.Lock()
	defer f.repairing.Unlock()
	each(ctx, f.journal.recent(time.Now()), func(w *written) { w.manager.repair(ctx, w) })
}

// each calls do for every item, a few at a time, until ctx is over.
func each[T any](ctx context.Context, items []T, do func(T)) {
	limit := make(chan struct{}, 16)
	var wait sync.WaitGroup
	for _, item := range items {
		if ctx.Err() != nil {
			break
		}
		limit <- struct{}{}
		wait.Go(func() {
			defer func() { <-limit }()
			do(item)
		})
	}
	wait.Wait()
}
