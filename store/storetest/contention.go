package storetest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

func contended(t *testing.T, s store.Store) {
	r := record()
	r.Blob = []byte{0}
	r = create(t, s, r)
	const workers = 100
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for {
				got, err := s.Load(t.Context(), r.ID)
				if err != nil {
					t.Error(err)
					return
				}
				got.Blob = []byte{got.Blob[0] + 1}
				if _, err = s.Save(t.Context(), got); err == nil {
					return
				}
				if !errors.Is(err, store.ErrConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	if got := load(t, s, r.ID); got.Blob[0] != workers || got.Version != workers+1 {
		t.Errorf("%d updates, version %d", got.Blob[0], got.Version)
	}
}

func raced(t *testing.T, s store.Store) {
	for range 50 {
		r := create(t, s, record())
		var wait sync.WaitGroup
		wait.Go(func() { _, _ = s.Save(t.Context(), r) })
		wait.Go(func() { _ = s.Touch(t.Context(), []store.Touch{{ID: r.ID, LastActive: time.Now().Add(time.Minute)}}) })
		wait.Go(func() { must(t, s.Delete(t.Context(), r.ID)) })
		wait.Wait()
		if _, err := s.Load(t.Context(), r.ID); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("it came back: %v", err)
		}
	}
}
