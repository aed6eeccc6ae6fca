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
		loading.doubt = true
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

// behind reports whether the store has a newer version than this process. A refresh that is running looks itself.
func (l *Live) behind(version uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open.record.Version < version && l.flight == nil
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
	gone := errors.Is(err, store.ErrNotFound)
	if err != nil && !gone || !gone && m.adopt(l, rec) != nil {
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

// syncAll looks at every session that somebody holds.
func (m *Manager) syncAll(ctx context.Context) {
	m.mu.Lock()
	var held []*Live
	for _, w := range m.lives {
		if l := w.Value(); l != nil && !l.over.Load() {
			held = append(held, l)
		}
	}
	m.mu.Unlock()
	m.each(ctx, held, func(ctx context.Context, l *Live) { m.look(ctx, l) })
}

// repair writes again what the store has lost. A token set never goes back: the higher generation stays.
func (m *Manager) repair(ctx context.Context, r repair) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if r.open == nil {
		_ = m.Store.Delete(ctx, r.id) // what fails now is tried when the feed stands again
		return
	}
	rec, err := m.Store.Load(ctx, r.id)
	ours := r.open.record
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
		theirs, err := m.decodeWith(rec, env, r.open.key)
		if err != nil || theirs.tokens.Generation >= r.open.tokens.Generation {
			return
		}
		ours.Version = rec.Version
	}
	version, err := m.Store.Save(ctx, ours)
	if err != nil {
		return
	}
	if l := m.held(r.id); l != nil {
		l.mu.Lock()
		if l.open.tokens.Generation == r.open.tokens.Generation && l.flight == nil {
			o := *l.open
			o.record.Version = version
			l.open = &o
		}
		l.mu.Unlock()
	}
}
