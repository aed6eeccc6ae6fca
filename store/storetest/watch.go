package storetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// feedTime bounds the wait for what a feed must deliver at once: an end is effective within a second everywhere.
const feedTime = time.Second

// listener is one Watch with what it was told.
type listener struct {
	mu    sync.Mutex
	seen  map[store.ID]map[uint64]bool
	alive time.Time
	begun chan struct{}
}

// listen starts a Watch and ends it with the test. Without the ability it returns nil.
func listen(t *testing.T, s store.Store) *listener {
	w, ok := s.(store.Watcher)
	if !ok {
		return nil // one process has this store to itself
	}
	l := &listener{seen: map[store.ID]map[uint64]bool{}, begun: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		err := w.Watch(ctx, store.Feed{
			Begun: func() { close(l.begun) },
			Changed: func(c store.Change) {
				l.mu.Lock()
				defer l.mu.Unlock()
				if l.seen[c.ID] == nil {
					l.seen[c.ID] = map[uint64]bool{}
				}
				l.seen[c.ID][c.Version] = true
			},
			Alive: func(since time.Time) {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.alive = since
			},
		})
		if ctx.Err() == nil {
			t.Errorf("the feed broke: %v", err)
		}
	})
	t.Cleanup(func() { stop(); wait.Wait() })
	select {
	case <-l.begun:
	case <-time.After(10 * feedTime):
		t.Fatal("the feed does not begin")
	}
	return l
}

func (l *listener) has(id store.ID, version uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[id][version]
}

func (l *listener) provedSince() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alive
}

// within waits until ok, for at most feedTime.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(began) > feedTime {
			t.Fatalf("not within %v: %s", feedTime, what)
		}
	}
}

func watched(t *testing.T, s store.Store) {
	l := listen(t, s)
	if l == nil {
		return
	}
	r := create(t, s, record())
	within(t, "a new record", func() bool { return l.has(r.ID, 1) })
	_, err := s.Save(t.Context(), r)
	must(t, err)
	within(t, "a saved record", func() bool { return l.has(r.ID, 2) })
	must(t, s.Delete(t.Context(), r.ID))
	within(t, "a deleted record", func() bool { return l.has(r.ID, 0) })
	other := record()
	must(t, s.Delete(t.Context(), other.ID))
	within(t, "a delete of what was not there", func() bool { return l.has(other.ID, 0) })
}

// Whatever was acknowledged before Alive's time has been delivered, however many write at once.
func provedAlive(t *testing.T, s store.Store) {
	l := listen(t, s)
	if l == nil {
		return
	}
	within(t, "a sign of life", func() bool { return !l.provedSince().IsZero() })
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 25 {
				r, err := s.Save(t.Context(), record())
				if err != nil || r != 1 {
					t.Errorf("version %d, %v", r, err)
				}
			}
		})
	}
	for range 10 {
		r := create(t, s, record())
		acknowledged := time.Now()
		within(t, "a sign of life", func() bool { return l.provedSince().After(acknowledged) })
		if !l.has(r.ID, 1) {
			t.Fatal("Alive for a time before which an acknowledged change is missing")
		}
	}
	writers.Wait()
}
