package session

import (
	"context"
	"sync"
	"time"
)

// A stream or a WebSocket asks nothing while it is open, so nothing would tell it that its session is over. The
// change feed does, where it stands. This file is for the rest: ends by time, and a feed that does not stand.

// lookEvery is how often the sessions of streams are thought of. It is also the most that an end may be late.
const lookEvery = time.Second

// watch is what is known of a session that streams hold.
type watch struct {
	streams int
	doubt   bool // others may have changed it without our hearing of it
}

// Watch holds a session for a stream: its end by time is noticed, and what others change is looked at as it comes.
// Call stop at the stream's end.
func (l *Live) Watch() (stop func()) {
	m := l.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.watching[l]
	if w == nil {
		w = &watch{doubt: true} // the feed may have broken since the request was let in
		m.watching[l] = w
	}
	w.streams++
	l.watched.Add(1)
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		l.watched.Add(-1)
		if w.streams--; w.streams == 0 {
			delete(m.watching, l)
		}
	})
}

// watchman looks after the sessions that streams hold until Close.
func (m *Manager) watchman() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.closing.Done():
			return
		case <-tick.C:
			m.lookAfter(m.closing)
		}
	}
}

// lookAfter reads those sessions again whose time is over, and those of which the feed may not have told. A doubt is
// over when the store was asked while the feed stood.
func (m *Manager) lookAfter(ctx context.Context) {
	trusted, now := m.Feed.trusted(m.Feed.clock()), m.now()
	var due []*Live
	m.mu.Lock()
	for l, w := range m.watching {
		w.doubt = w.doubt || !trusted
		if !l.over.Load() && (w.doubt || l.overAt(l.view.Load(), now) != "") {
			due = append(due, l)
		}
	}
	m.mu.Unlock()
	each(ctx, due, func(l *Live) {
		ctx, cancel := context.WithTimeout(ctx, storeTime)
		defer cancel()
		if !m.look(ctx, l) || !trusted {
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if w := m.watching[l]; w != nil {
			w.doubt = false
		}
	})
}
