package session

import (
	"context"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/store"
)

// flushEvery is how often activity is written: the most that a crash forgets of it.
const flushEvery = 2 * time.Second

// Touch says that the session was used. It is written in batches, and only when a twentieth of the idle timeout
// has passed since the last time; the request does not wait for it.
func (m *Manager) Touch(l *Live) {
	now := m.now().UnixNano()
	if now-l.active.Load() > int64(time.Second) { // spares the hot path a write to shared memory
		advance(&l.active, now)
	}
	if now-l.touched.Load() < int64(l.view.Load().slack) || l.over.Load() {
		return
	}
	advance(&l.touched, now)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.touches[l.id] = store.Touch{ID: l.id, LastActive: time.Unix(0, now)}
}

func (m *Manager) flusher() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.closing.Done():
			return
		case <-tick.C:
			ctx, cancel := context.WithTimeout(context.Background(), storeTime)
			if err := m.flush(ctx); err != nil {
				m.emit(event.Audit{Kind: event.TouchFailed, Detail: err.Error()})
			}
			cancel()
		}
	}
}

// flush writes what activity is not written yet. What the store does not take is tried again with the next batch.
func (m *Manager) flush(ctx context.Context) error {
	m.mu.Lock()
	pending := m.touches
	m.touches = map[store.ID]store.Touch{}
	m.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	batch := make([]store.Touch, 0, len(pending))
	for _, t := range pending {
		batch = append(batch, t)
	}
	err := m.Store.Touch(ctx, batch)
	if err == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, t := range pending {
		if now, ok := m.touches[id]; !ok || now.LastActive.Before(t.LastActive) {
			m.touches[id] = t
		}
	}
	return err
}
