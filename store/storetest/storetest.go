// Package storetest is the contract of package store as tests. A store is done when it passes:
//
//	func TestContract(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { return mystore.New(...) })
//	}
//
// Each case is named for the rule that it holds. Run it with the race detector.
package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// Run runs the whole suite. open gives an empty store each time.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for name, test := range map[string]func(*testing.T, store.Store){
		"a record comes back as it was saved":                saved,
		"a save replaces only the version that was loaded":   swapped,
		"what is deleted is never saved again":               goneStaysGone,
		"the feed tells every change":                        watched,
		"the feed proves that it is whole":                   provedAlive,
		"an ended record is none":                            ended,
		"a touch only moves forward what lives":              touched,
		"a save keeps the later activity":                    keepsActivity,
		"once is once":                                       once,
		"pages are complete and stable":                      paged,
		"an index entry is checked against its record":       indexed,
		"no update is lost under contention":                 contended,
		"a deleted record never comes back":                  raced,
		"large records fit, larger ones are refused":         large,
		"neither given nor returned bytes are kept":          aliased,
		"a context that is over stops a call":                canceled,
		"pruning removes what is over, bounded, and no more": pruned,
		"a shared counter allows what its rate says":         limited,
		"a store that serves answers a ping":                 func(t *testing.T, s store.Store) { must(t, s.Ping(t.Context())) },
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// record is a record that lives for an hour.
func record() store.Record {
	var r store.Record
	rand.Read(r.ID[:])
	now := time.Now().Truncate(time.Millisecond)
	r.Head = store.Head{Created: now, LastActive: now, Idle: 30 * time.Minute, Expires: now.Add(time.Hour)}
	r.Blob = []byte("blob of " + r.ID.String())
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
}

func create(t *testing.T, s store.Store, r store.Record) store.Record {
	t.Helper()
	v, err := s.Save(t.Context(), r)
	must(t, err)
	r.Version = v
	return r
}

func load(t *testing.T, s store.Store, id store.ID) store.Record {
	t.Helper()
	r, err := s.Load(t.Context(), id)
	must(t, err)
	return r
}

func saved(t *testing.T, s store.Store) {
	r := record()
	r.Head.Subject, r.Head.SID = "subject", "sid"
	if _, err := s.Load(t.Context(), r.ID); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("before it was saved: %v", err)
	}
	r = create(t, s, r)
	got := load(t, s, r.ID)
	if got.Version != 1 || !bytes.Equal(got.Blob, r.Blob) || got.Head.Subject != "subject" || got.Head.SID != "sid" || got.Head.Idle != r.Head.Idle ||
		!got.Head.Created.Equal(r.Head.Created) || !got.Head.LastActive.Equal(r.Head.LastActive) || !got.Head.Expires.Equal(r.Head.Expires) {
		t.Fatalf("%+v\nwant %+v", got, r)
	}
}

func swapped(t *testing.T, s store.Store) {
	r := create(t, s, record())
	again := r
	again.Version = 0
	_, err := s.Save(t.Context(), again)
	is(t, err, store.ErrConflict)
	r.Blob = []byte("two")
	v, err := s.Save(t.Context(), r)
	must(t, err)
	if v != 2 {
		t.Fatalf("version %d", v)
	}
	r.Blob = []byte("stale")
	_, err = s.Save(t.Context(), r)
	is(t, err, store.ErrConflict)
	r.Version = 7
	_, err = s.Save(t.Context(), r)
	is(t, err, store.ErrConflict)
	if got := load(t, s, r.ID); string(got.Blob) != "two" || got.Version != 2 {
		t.Fatalf("%+v", got)
	}
}

func goneStaysGone(t *testing.T, s store.Store) {
	r := create(t, s, record())
	must(t, s.Delete(t.Context(), r.ID))
	must(t, s.Delete(t.Context(), r.ID))
	_, err := s.Save(t.Context(), r)
	is(t, err, store.ErrNotFound)
	_, err = s.Load(t.Context(), r.ID)
	is(t, err, store.ErrNotFound)
	r.Version = 0
	_, err = s.Save(t.Context(), r)
	is(t, err, store.ErrNotFound) // nor as a new one
	never := record()
	other := create(t, s, record())
	must(t, s.Delete(t.Context(), never.ID, other.ID))
	_, err = s.Load(t.Context(), other.ID)
	is(t, err, store.ErrNotFound)
	must(t, s.Delete(t.Context()))
	_, err = s.Save(t.Context(), never)
	is(t, err, store.ErrNotFound) // nor what was deleted before it was saved
}

func ended(t *testing.T, s store.Store) {
	now := time.Now().Truncate(time.Millisecond)
	for name, head := range map[string]store.Head{
		"by its end":    {Created: now, LastActive: now, Expires: now.Add(-time.Second)},
		"by idleness":   {Created: now, LastActive: now.Add(-time.Hour), Idle: time.Minute, Expires: now.Add(time.Hour)},
		"in the moment": {Created: now, LastActive: now, Expires: now},
	} {
		r := record()
		r.Head = head
		r.Head.Subject = "ended"
		r = create(t, s, r)
		if _, err := s.Load(t.Context(), r.ID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: loaded: %v", name, err)
		}
		must(t, s.Touch(t.Context(), []store.Touch{{ID: r.ID, LastActive: now.Add(time.Hour)}}))
		if _, err := s.Load(t.Context(), r.ID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: a touch brought it back", name)
		}
		if _, err := s.Save(t.Context(), r); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: saved again: %v", name, err)
		}
		r.Version, r.Head.Expires, r.Head.LastActive = 0, now.Add(time.Hour), now
		create(t, s, r)
		must(t, s.Delete(t.Context(), r.ID))
	}
	page, err := s.Find(t.Context(), store.Query{Subject: "ended"})
	must(t, err)
	if len(page.Records) != 0 {
		t.Errorf("%d are found", len(page.Records))
	}
}

func touched(t *testing.T, s store.Store) {
	r := create(t, s, record())
	at := r.Head.LastActive
	var unknown store.ID
	rand.Read(unknown[:])
	for _, tc := range []struct{ to, want time.Time }{{at.Add(time.Minute), at.Add(time.Minute)}, {at, at.Add(time.Minute)}, {at.Add(2 * time.Minute), at.Add(2 * time.Minute)}} {
		must(t, s.Touch(t.Context(), []store.Touch{{ID: unknown, LastActive: tc.to}, {ID: r.ID, LastActive: tc.to}}))
		if got := load(t, s, r.ID); !got.Head.LastActive.Equal(tc.want) || got.Version != 1 {
			t.Fatalf("%v version %d, want %v version 1", got.Head.LastActive, got.Version, tc.want)
		}
	}
	_, err := s.Load(t.Context(), unknown)
	is(t, err, store.ErrNotFound)
	r.Blob = []byte("the version is the one from before the touches")
	if _, err := s.Save(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func keepsActivity(t *testing.T, s store.Store) {
	r := create(t, s, record())
	later := r.Head.LastActive.Add(time.Minute)
	must(t, s.Touch(t.Context(), []store.Touch{{ID: r.ID, LastActive: later}}))
	_, err := s.Save(t.Context(), r)
	must(t, err)
	if got := load(t, s, r.ID); !got.Head.LastActive.Equal(later) {
		t.Fatalf("%v, want %v", got.Head.LastActive, later)
	}
}

func once(t *testing.T, s store.Store) {
	var wait sync.WaitGroup
	var first atomic.Int64
	for range 100 {
		wait.Go(func() {
			ok, err := s.Once(t.Context(), "key", time.Now().Add(time.Hour))
			if err != nil {
				t.Error(err)
			}
			if ok {
				first.Add(1)
			}
		})
	}
	wait.Wait()
	if first.Load() != 1 {
		t.Errorf("%d were first", first.Load())
	}
	for name, expires := range map[string]time.Time{"over": time.Now().Add(-time.Second), "other": time.Now().Add(time.Hour)} {
		ok, err := s.Once(t.Context(), name, expires)
		must(t, err)
		again, err := s.Once(t.Context(), name, expires)
		must(t, err)
		if !ok || again != (name == "over") {
			t.Errorf("%s: %v, then %v", name, ok, again)
		}
	}
}

func paged(t *testing.T, s store.Store) {
	want := map[store.ID]bool{}
	for range 57 {
		r := record()
		r.Head.Subject = "paged"
		want[create(t, s, r).ID] = true
	}
	ctx, stop := context.WithCancel(t.Context())
	var noise sync.WaitGroup
	noise.Go(func() { // others come and go meanwhile
		for ctx.Err() == nil {
			r := record()
			r.Head.Subject = "paged"
			if _, err := s.Save(ctx, r); err == nil {
				_ = s.Delete(ctx, r.ID)
			}
		}
	})
	for _, limit := range []int{1, 2, 50, 0} {
		for _, q := range []store.Query{{Subject: "paged", Limit: limit}, {Limit: limit}} {
			seen := map[store.ID]int{}
			for {
				page, err := s.Find(t.Context(), q)
				must(t, err)
				if limit > 0 && len(page.Records) > limit {
					t.Fatalf("%d on a page of %d", len(page.Records), limit)
				}
				for _, r := range page.Records {
					seen[r.ID]++
				}
				if q.After = page.Next; q.After == "" {
					break
				}
			}
			for id := range want {
				if seen[id] != 1 {
					t.Fatalf("limit %d: a record was seen %d times", limit, seen[id])
				}
			}
		}
	}
	stop()
	noise.Wait()
}

func indexed(t *testing.T, s store.Store) {
	a, b := record(), record()
	a.Head.Subject, a.Head.SID = "s1", "sid1"
	b.Head.Subject, b.Head.SID = "s1", "sid2"
	a, b = create(t, s, a), create(t, s, b)
	count := func(q store.Query, want int) {
		t.Helper()
		page, err := s.Find(t.Context(), q)
		must(t, err)
		if len(page.Records) != want {
			t.Fatalf("%+v: %d records, want %d", q, len(page.Records), want)
		}
	}
	count(store.Query{Subject: "s1"}, 2)
	count(store.Query{SID: "sid1"}, 1)
	count(store.Query{Subject: "s1", SID: "sid2"}, 1)
	count(store.Query{Subject: "s"}, 0)
	count(store.Query{Subject: "s2"}, 0)
	a.Head.Subject, a.Head.SID = "s2", ""
	_, err := s.Save(t.Context(), a)
	must(t, err)
	count(store.Query{Subject: "s1"}, 1)
	count(store.Query{Subject: "s2"}, 1)
	count(store.Query{SID: "sid1"}, 0)
	must(t, s.Delete(t.Context(), b.ID))
	count(store.Query{Subject: "s1"}, 0)
	count(store.Query{SID: "sid2"}, 0)
}

func large(t *testing.T, s store.Store) {
	for _, size := range []int{0, 100 << 10, store.MaxBlob} {
		r := record()
		r.Blob = bytes.Repeat([]byte("x"), size)
		create(t, s, r)
		if got := load(t, s, r.ID); !bytes.Equal(got.Blob, r.Blob) {
			t.Errorf("%d bytes came back as %d", size, len(got.Blob))
		}
	}
	r := create(t, s, record())
	tooLarge := r
	tooLarge.Blob = make([]byte, store.MaxBlob+1)
	if _, err := s.Save(t.Context(), tooLarge); err == nil {
		t.Error("a blob above the limit was taken")
	}
	if got := load(t, s, r.ID); got.Version != 1 || !bytes.Equal(got.Blob, r.Blob) {
		t.Error("the refused save changed the record")
	}
}

func aliased(t *testing.T, s store.Store) {
	r := record()
	blob := []byte("original")
	r.Blob = blob
	create(t, s, r)
	copy(blob, "changed!")
	got := load(t, s, r.ID)
	copy(got.Blob, "changed!")
	if again := load(t, s, r.ID); string(again.Blob) != "original" {
		t.Errorf("%s", again.Blob)
	}
}

func canceled(t *testing.T, s store.Store) {
	r := create(t, s, record())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"Load":   func() error { _, err := s.Load(ctx, r.ID); return err },
		"Save":   func() error { _, err := s.Save(ctx, record()); return err },
		"Delete": func() error { return s.Delete(ctx, r.ID) },
		"Touch":  func() error { return s.Touch(ctx, []store.Touch{{ID: r.ID, LastActive: time.Now()}}) },
		"Once":   func() error { _, err := s.Once(ctx, "canceled", time.Now().Add(time.Hour)); return err },
		"Find":   func() error { _, err := s.Find(ctx, store.Query{}); return err },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	load(t, s, r.ID)
}

func pruned(t *testing.T, s store.Store) {
	p, ok := s.(store.Pruner)
	if !ok {
		return // its records vanish on their own
	}
	live := create(t, s, record())
	for i := range 30 {
		r := record()
		r.Head.Expires = time.Now().Add(-time.Minute)
		create(t, s, r)
		_, err := s.Once(t.Context(), fmt.Sprint("over ", i), time.Now().Add(-time.Minute))
		must(t, err)
	}
	total := 0
	for {
		n, err := p.Prune(t.Context(), 7)
		must(t, err)
		if n > 7 {
			t.Fatalf("%d in one call of 7", n)
		}
		total += n
		if n < 7 {
			break
		}
	}
	if total != 60 {
		t.Errorf("%d were removed, want 60", total)
	}
	load(t, s, live.ID)
}
