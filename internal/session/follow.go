package session

import (
	"context"
	"errors"
	"sync"

	"github.com/cloakroom/cloakroom/store"
)

// What a manager does when other processes change records.

// changed is told of every change of a record, also of our own.
func (m *Manager) changed(ctx context.Context, c store.Change) {
	m.mu.Lock()
	l := m.lives[c.ID].Value()
	if loading := m.loading[c.ID]; loading != nil {
		loading.newest = max(loading.newest, c.Version)
		loading.ended = loading.ended || c.Version == 0
	}
	m.mu.Unlock()
	switch {
	case l == nil:
	case c.Version == 0:
		l.finish(ReasonEndedElsewhere)
	case l.behind(c.Version):
		m.Cache.drop(c.ID)
		if l.watched.Load() > 0 {
			m.work.Go(func() { m.Sync(ctx, l) })
		}
	}
}

// behind reports whether the store has a newer version than this process. A refresh that is running looks when it is
// done.
func (l *Live) behind(version uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = max(l.heard, version)
	if l.flight != nil {
		select {
		case l.news <- struct{}{}:
		default:
		}
	}
	return l.open.record.Version < version && l.flight == nil
}

func (l *Live) version() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open.record.Version
}

// doubtLoads marks what is on its way from the store: it may be older than the feed.
func (m *Manager) doubtLoads() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.loading {
		c.doubt = true
	}
}

// Sync looks at the record again: what others saved is taken over, a session that is gone or whose time is over is
// ended. It tells whether the session lives as far as is known; a store that does not answer ends nothing.
func (m *Manager) Sync(ctx context.Context, l *Live) bool {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	rec, err := m.Store.Load(ctx, l.id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		why := l.overAt(l.view.Load(), m.now())
		if why == "" {
			why = ReasonEndedElsewhere
		}
		l.finish(why)
	case err == nil:
		if m.adopt(l, rec) == nil {
			if why := l.overAt(l.view.Load(), m.now()); why != "" {
				_, _ = m.End(ctx, l, why) // what fails is tried at the next look
			}
		}
	}
	return !l.over.Load()
}

// syncWatched looks at every session that a stream holds.
func (m *Manager) syncWatched(ctx context.Context) {
	m.mu.Lock()
	var held []*Live
	for _, w := range m.lives {
		if l := w.Value(); l != nil && l.watched.Load() > 0 {
			held = append(held, l)
		}
	}
	m.mu.Unlock()
	each(ctx, held, func(l *Live) { m.Sync(ctx, l) })
}

// repair writes again what the store has lost. A token set never goes back: the higher generation stays.
func (m *Manager) repair(ctx context.Context, w *written) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if w.ended {
		_ = m.Store.Delete(ctx, w.id) // what fails now is tried when the feed stands again
		return
	}
	rec, err := m.Store.Load(ctx, w.id)
	ours := w.record
	switch {
	case errors.Is(err, store.ErrNotFound):
		if !m.now().Before(ours.Head.End()) {
			return
		}
		ours.Version = 0 // refused where somebody ended it
	case err != nil:
		return
	default:
		env, err := envelopeOf(rec)
		if err != nil {
			return
		}
		theirs, err := m.decodeWith(rec, env, w.key)
		if err != nil || theirs.tokens.Generation >= w.generation {
			return
		}
		ours.Version = rec.Version
	}
	version, err := m.Store.Save(ctx, ours)
	if err != nil {
		return
	}
	if l := m.held(w.id); l != nil {
		l.mu.Lock()
		if l.open.tokens.Generation == w.generation && l.flight == nil {
			o := *l.open
			o.record.Version = version
			l.open = &o
		}
		l.mu.Unlock()
	}
}

// Watch holds a session for a stream: what others change is looked at as it comes. Call stop at the stream's end.
func (l *Live) Watch() (stop func()) {
	l.watched.Add(1)
	return sync.OnceFunc(func() { l.watched.Add(-1) })
}
