package session

import (
	"context"
	"errors"

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

// doubtAll marks what may be older than the feed: what is on its way from the store, and what streams hold.
func (m *Manager) doubtAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.watching {
		w.doubt = true
	}
	for _, c := range m.loading {
		c.doubt = true
	}
}

// Sync looks at the record again: what others saved is taken over, a session that is gone or whose time is over is
// ended. It tells whether the session lives as far as is known; a store that does not answer ends nothing.
func (m *Manager) Sync(ctx context.Context, l *Live) bool {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	m.look(ctx, l)
	return !l.over.Load()
}

// look is Sync without a time of its own. known says that the store answered.
func (m *Manager) look(ctx context.Context, l *Live) (known bool) {
	rec, err := m.Store.Load(ctx, l.id)
	if err == nil {
		err = m.adopt(l, rec)
	}
	gone := errors.Is(err, store.ErrNotFound) || errors.Is(err, errOver)
	if err != nil && !gone {
		return false
	}
	why := l.overAt(l.view.Load(), m.now())
	switch {
	case why != "": // also where the store let it go at that time: its tokens are revoked, its end is told
		_, err = m.End(ctx, l, why)
		return err == nil
	case gone:
		l.finish(ReasonEndedElsewhere)
	}
	return true
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
