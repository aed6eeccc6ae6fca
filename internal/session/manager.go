package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/store"
)

// Options make a Manager. All of them belong to one frontend; Store, Ring and Cache are shared.
type Options struct {
	Frontend     string // its URL
	Store        store.Store
	Ring         *seal.Ring
	Cache        *Cache
	Feed         *Feed                     // of the same Store and Cache
	Providers    map[string]ProviderPolicy // by name
	ClientOf     string                    // the provider that gives our client tokens of its own
	Idle         time.Duration             // idle timeout
	RememberIdle time.Duration             // idle timeout with "remember me"
	Lifetime     time.Duration
	// UserTokenNeeded says that a session without an access token is of no use.
	UserTokenNeeded bool
	Events          event.Sink
}

// Manager keeps one frontend's sessions.
type Manager struct {
	Options
	circuits map[string]*circuit
	own      mints // tokens of our client

	mu      sync.Mutex
	lives   map[store.ID]weak.Pointer[Live] // every Live that somebody holds: one per session
	loading map[store.ID]*loading
	touches map[store.ID]store.Touch
	// watching are the sessions that streams hold
	watching map[*Live]*watch

	toldMissing atomic.Int64 // when the operator was last told that a key is missing

	closing context.Context // ends when Close begins
	stop    context.CancelFunc
	work    sync.WaitGroup
}

// loading is a record that is being loaded; others wait for it.
type loading struct {
	done chan struct{}
	live *Live
	err  error
	// What the feed told meanwhile; guarded by Manager.mu.
	ended  bool   // the session ended: what was loaded is not to be used
	newest uint64 // a newer version than this one is not to be kept
	doubt  bool   // the feed began anew: what was loaded is not to be kept
}

// NewManager makes a manager and starts writing activity in the background.
func NewManager(o Options) (*Manager, error) {
	if o.Frontend == "" || o.Store == nil || o.Ring == nil || o.Cache == nil || o.Feed == nil {
		return nil, errors.New("session: a manager needs a frontend, a store, a ring, a cache and a feed")
	}
	if o.Idle <= 0 || o.RememberIdle <= 0 || o.Lifetime <= 0 {
		return nil, errors.New("session: idle timeouts and lifetime must be positive")
	}
	m := &Manager{
		Options: o, circuits: map[string]*circuit{}, lives: map[store.ID]weak.Pointer[Live]{},
		loading: map[store.ID]*loading{}, touches: map[store.ID]store.Touch{}, watching: map[*Live]*watch{},
	}
	for name, p := range o.Providers {
		m.circuits[name] = newCircuit(p)
	}
	m.closing, m.stop = context.WithCancel(context.Background())
	m.work.Go(m.flusher)
	m.work.Go(m.watchman)
	o.Feed.join(m)
	return m, nil
}

// Close waits for running refreshes to be saved and writes the activity that is not written yet.
func (m *Manager) Close(ctx context.Context) error {
	m.stop()
	done := make(chan struct{})
	go func() { m.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return m.flush(ctx)
}

// Now is the time by which ends are judged; [Live.ExpiresAt] is compared with it.
func (m *Manager) Now() time.Time { return m.now() }

// now is the time by which ends are judged: the store's, where it has a clock.
func (m *Manager) now() time.Time { return m.here(m.Feed.clock()) }

// here is a time of this process's clock in the store's.
func (m *Manager) here(t time.Time) time.Time {
	if offset := m.Feed.offset.Load(); offset != 0 && !t.IsZero() {
		return t.Add(time.Duration(offset))
	}
	return t
}

// when is the time of an event for the rules of refreshing.
func (m *Manager) when() when {
	now := m.Feed.clock()
	return when{now: m.here(now), mono: now.Sub(m.Feed.base), jitter: mathrand.Float64()} //nolint:gosec // jitter is no secret
}

// graceLoad is how long a request waits for a store that may be down, where it may be served without.
const graceLoad = 500 * time.Millisecond

// Lookup returns the session that the ticket opens. ErrEnded: there is none. *Unavailable: it cannot be told.
// For a cached session it takes no lock that sessions share, allocates nothing and asks no store.
func (m *Manager) Lookup(ctx context.Context, t Ticket) (*Live, error) {
	id, now := t.idOf(m.Frontend), m.Feed.clock()
	cached, ok := m.Cache.get(id)
	usable := ok && !cached.over.Load() && cached.overAt(cached.view.Load(), m.here(now)) == ""
	if usable && m.Feed.trusted(now) {
		return cached, nil
	}
	if !usable || !m.Feed.graced(now) {
		return m.load(ctx, id, t)
	}
	if m.Feed.failing(now) {
		return cached, nil
	}
	ctx, cancel := context.WithTimeout(ctx, graceLoad)
	defer cancel()
	l, err := m.load(ctx, id, t)
	if _, ok := errors.AsType[*Unavailable](err); ok {
		return cached, nil
	}
	return l, err
}

// load reads the record, once for all who ask at the same time.
func (m *Manager) load(ctx context.Context, id store.ID, t Ticket) (*Live, error) {
	m.mu.Lock()
	c := m.loading[id]
	if c == nil {
		c = &loading{done: make(chan struct{})}
		m.loading[id] = c
		m.work.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
			defer cancel()
			live, err := m.read(ctx, id, t)
			c.live, c.err = m.settle(id, c, live, err)
			close(c.done)
		})
	}
	m.mu.Unlock()
	select {
	case <-c.done:
		return c.live, c.err
	case <-ctx.Done():
		return nil, &Unavailable{Err: ctx.Err()}
	}
}

// settle keeps what was loaded, unless the session ended while it was on its way.
func (m *Manager) settle(id store.ID, c *loading, l *Live, err error) (*Live, error) {
	m.mu.Lock()
	delete(m.loading, id)
	ended := c.ended
	if err == nil && !ended && !c.doubt && l.version() >= c.newest {
		m.Cache.put(id, l) // under the lock: an end that comes now takes it out again
	}
	m.mu.Unlock()
	if err != nil || !ended {
		return l, err
	}
	l.finish(ReasonEndedElsewhere)
	return nil, ErrEnded
}

// storeTime bounds one call to the store.
const storeTime = 5 * time.Second

func (m *Manager) read(ctx context.Context, id store.ID, t Ticket) (*Live, error) {
	rec, err := m.Store.Load(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		m.Feed.answered(nil)
		m.forget(id, ReasonEndedElsewhere)
		return nil, ErrEnded
	}
	if m.Feed.answered(err); err != nil {
		return nil, &Unavailable{Err: err}
	}
	l := m.held(id)
	if l != nil && l.over.Load() {
		return nil, ErrEnded // it ended while the record was on its way
	}
	if l == nil {
		o, err := m.decode(rec, t)
		if err != nil {
			return nil, m.unreadable(ctx, rec, err)
		}
		l = m.keep(o)
	} else if err := m.adopt(l, rec); err != nil {
		return nil, m.unreadable(ctx, rec, err)
	}
	if l.over.Load() {
		return nil, ErrEnded
	}
	if why := l.overAt(l.view.Load(), m.now()); why != "" {
		if _, err := m.End(ctx, l, why); err != nil {
			return nil, &Unavailable{Err: err}
		}
		return nil, ErrEnded
	}
	return l, nil
}

// unreadable ends a session whose record cannot be opened, or is marked as ended: it is lost, and only it. A record of a newer version, or
// under a key that did not reach this process, is left alone.
func (m *Manager) unreadable(ctx context.Context, rec store.Record, err error) error {
	switch {
	case errors.Is(err, errNewer):
		return &Unavailable{Err: err}
	case errors.Is(err, errKeyMissing):
		m.tellMissing(err)
		return &Unavailable{Err: err}
	}
	why := ReasonEndedElsewhere
	if !errors.Is(err, errOver) {
		why = ReasonCorrupt
		m.emit(event.Audit{Kind: event.RecordCorrupt, Session: handleOf(rec.ID), Reason: why, Detail: err.Error()})
	}
	if err := m.Store.Delete(ctx, rec.ID); err != nil {
		return &Unavailable{Err: err}
	}
	m.forget(rec.ID, why)
	return ErrEnded
}

// tellMissing tells the operator that a key is missing here, at most once a minute: every request meets it.
func (m *Manager) tellMissing(err error) {
	now, last := time.Now().UnixNano(), m.toldMissing.Load()
	if now-last > int64(time.Minute) && m.toldMissing.CompareAndSwap(last, now) {
		m.emit(event.Audit{Kind: event.KeyMissing, Detail: err.Error() + "; give every replica a new key before one seals with it"})
	}
}

// keep makes the one Live of a record. If another was made meanwhile, that one is it.
func (m *Manager) keep(o *opened) *Live {
	l := &Live{
		manager: m, id: o.record.ID, open: o, done: make(chan struct{}), changed: make(chan struct{}), news: make(chan struct{}, 1),
	}
	l.active.Store(o.record.Head.LastActive.UnixNano())
	l.touched.Store(o.record.Head.LastActive.UnixNano())
	c, w := m.circuits[o.session.Provider], m.when()
	l.state = state{lessee: lessee{owner: rand.Text(), alone: m.Feed.always}}.use(o.facts(w), w)
	if c != nil {
		l.state.reuse, l.state.rotates = c.reuse, o.rotates || c.rotates.Load()
	} else {
		l.state.canRefresh = false // the provider is not configured any more
	}
	l.show(false)
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.lives[o.record.ID].Value(); other != nil && !other.over.Load() {
		return other
	}
	m.sweep()
	m.lives[o.record.ID] = weak.Make(l)
	return l
}

// sweep forgets Lives that nobody holds any more, a few at a time. m.mu is held.
func (m *Manager) sweep() {
	n := 0
	for id, w := range m.lives {
		if w.Value() == nil {
			delete(m.lives, id)
		}
		if n++; n == 4 { // a map is walked from a random place, so each entry's turn comes
			return
		}
	}
}

// held returns the Live of a session that somebody in this process holds.
func (m *Manager) held(id store.ID) *Live {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lives[id].Value()
}

// forget takes a session out of memory that is not in the store any more, and closes what hangs on it.
func (m *Manager) forget(id store.ID, reason string) {
	m.overtake(id)
	if l := m.held(id); l != nil {
		l.finish(reason)
	}
}

// overtake takes an ended session out of the cache, and tells a load that is under way.
func (m *Manager) overtake(id store.ID) {
	m.mu.Lock()
	if c := m.loading[id]; c != nil {
		c.ended = true
	}
	m.mu.Unlock()
	m.Cache.drop(id)
}

// finish marks the session over, once. It does not account for the end: whoever deleted the record does.
func (l *Live) finish(reason string) {
	if !l.over.CompareAndSwap(false, true) {
		return
	}
	if own := l.ending.Load(); own != nil {
		reason = *own // the feed brought our own end back before the store's answer
	}
	l.reason = reason
	l.manager.overtake(l.id)
	l.mu.Lock()
	l.state, _ = step(l.state, ended{l.manager.when()})
	l.mu.Unlock()
	close(l.done)
}

// adopt takes over what another process saved. Activity keeps its maximum; a running refresh sees to its own record.
func (m *Manager) adopt(l *Live, rec store.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	advance(&l.active, rec.Head.LastActive.UnixNano())
	same := rec.Version == l.open.record.Version && bytes.Equal(rec.Blob, l.open.record.Blob) // a failover may give a version twice
	if same || l.flight != nil {
		return nil
	}
	env, err := envelopeOf(rec)
	if err != nil {
		return err
	}
	o, err := m.decodeWith(rec, env, l.open.key)
	if err != nil {
		return err
	}
	if o.tokens.Generation < l.open.tokens.Generation {
		return nil // a failover took it back: what we have is newer, and is being written again
	}
	l.take(o)
	return nil
}

// take makes a loaded record the one in use. l.mu is held.
func (l *Live) take(o *opened) {
	w := l.manager.when()
	if ours := l.open.tokens; o.tokens.Generation == ours.Generation && o.tokens.Access == ours.Access {
		l.state = l.state.observe(o.lease, o.record.Version, w)
	} else {
		l.state = l.state.use(o.facts(w), w)
	}
	l.open = o
	l.show(false)
}

// facts are what the rules look at.
func (o *opened) facts(w when) record {
	t := o.tokens
	return record{
		version: o.record.Version, generation: t.Generation, expires: t.Expires, lead: leadOf(t.Expires.Sub(t.Obtained), w.jitter),
		canRefresh: t.Refresh != "", rotates: o.rotates, lease: o.lease,
	}
}

// advance moves an atomic time forward, never back.
func advance(a *atomic.Int64, to int64) {
	for {
		at := a.Load()
		if to <= at || a.CompareAndSwap(at, to) {
			return
		}
	}
}

func (m *Manager) emit(a event.Audit) {
	a.Time, a.Frontend = time.Now(), m.Frontend
	m.Events.Emit(&a)
}
