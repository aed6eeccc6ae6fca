package storetest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// limited: a counter allows what its rate says, also to many at once, says how long to wait, and gives back.
func limited(t *testing.T, s store.Store) {
	l, ok := s.(store.Limiter)
	if !ok {
		return // one process has this store to itself, and counts by itself
	}
	ten := store.Rate{Interval: time.Minute, Limit: 10 * time.Minute}
	var allowed atomic.Int64
	var wait sync.WaitGroup
	for range 40 {
		wait.Go(func() {
			d, err := l.Take(t.Context(), "many", ten)
			if err != nil {
				t.Error(err)
			}
			if d == 0 {
				allowed.Add(1)
			} else if d > time.Minute || d < 50*time.Second {
				t.Errorf("a wait of %s", d)
			}
		})
	}
	wait.Wait()
	if allowed.Load() != 10 {
		t.Errorf("%d of 40 were allowed, want 10", allowed.Load())
	}
	must(t, l.Give(t.Context(), "many", ten))
	take := func(key string, r store.Rate, want bool) {
		t.Helper()
		if d, err := l.Take(t.Context(), key, r); err != nil || (d == 0) != want {
			t.Errorf("%s: wait %s, %v", key, d, err)
		}
	}
	take("many", ten, true) // what was given back
	take("many", ten, false)
	take("another", ten, true)

	quick := store.Rate{Interval: 50 * time.Millisecond, Limit: 50 * time.Millisecond}
	take("quick", quick, true)
	take("quick", quick, false)
	time.Sleep(60 * time.Millisecond) // the store's own clock: it cannot be faked
	take("quick", quick, true)
	must(t, l.Give(t.Context(), "never taken", ten))
	take("never taken", store.Rate{Interval: time.Minute, Limit: time.Minute}, true) // giving makes no credit
	take("never taken", store.Rate{Interval: time.Minute, Limit: time.Minute}, false)
}
