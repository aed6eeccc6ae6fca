package session

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/memstore"
)

func announcerOf(t *testing.T, st store.Store, keys ...byte) *Announcer {
	t.Helper()
	return NewAnnouncer(NewFeed(st, NewCache(1<<20), 0, nil), ringOf(t, keys...))
}

func replicasOf(t *testing.T, a *Announcer) (states []string, sealers []string) {
	t.Helper()
	list, now, err := a.Replicas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		switch {
		case r.Ended:
			states = append(states, "ended")
		case r.Lives(now):
			states = append(states, "lives")
		default:
			states = append(states, "silent")
		}
		sealers = append(sealers, r.Seals())
	}
	return states, sealers
}

// An announcement lasts while its process beats, and after that for as long as what it sealed elsewhere.
func TestReplicasAnnounceThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New()
		a := announcerOf(t, st, 1)
		time.Sleep(time.Second)
		b := announcerOf(t, st, 2, 1)
		beat := func(all ...*Announcer) {
			for _, x := range all {
				if err := x.Beat(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 30 {
			beat(a, b)
			time.Sleep(ReplicaBeat)
		}
		states, sealers := replicasOf(t, a)
		if !slices.Equal(states, []string{"lives", "lives"}) || sealers[0] != seal.NameOf(a.index(t, 1)) || sealers[0] == sealers[1] {
			t.Errorf("%v %v", states, sealers)
		}
		list, now, _ := a.Replicas(t.Context())
		if Agree(list, now, sealers[0]) || Agree(list, now, sealers[1]) {
			t.Error("they agree on the key that seals")
		}
		beat(a)
		if err := a.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		if states, _ := replicasOf(t, b); !slices.Equal(states, []string{"ended", "lives"}) {
			t.Errorf("%v", states)
		}
		list, now, _ = b.Replicas(t.Context())
		if !Agree(list, now, sealers[1]) || Agree(list, now, sealers[0]) {
			t.Error("one that ended has a say, or one that works has none")
		}
		for range 10 { // transactions that a sealed live for ten minutes
			time.Sleep(time.Minute)
			beat(b)
		}
		if states, _ := replicasOf(t, b); !slices.Equal(states, []string{"ended", "lives"}) {
			t.Errorf("after ten minutes: %v", states)
		}
		time.Sleep(3 * ReplicaBeat)
		if states, _ := replicasOf(t, b); !slices.Equal(states, []string{"silent"}) {
			t.Errorf("after thirteen: %v", states)
		}
		beat(b)
		if states, _ := replicasOf(t, b); !slices.Equal(states, []string{"lives"}) {
			t.Errorf("after another beat: %v", states)
		}
	})
}

// index makes a key's name readable for a test: that of an index value it makes.
func (a *Announcer) index(t *testing.T, key byte) string {
	t.Helper()
	return ringOf(t, key).Index("subject")
}

// A process that stood still, or whose store lost its announcement, announces itself again.
func TestReplicasComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New()
		a := announcerOf(t, st, 1)
		if err := a.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := errors.Join(a.Beat(t.Context()), a.Beat(t.Context())); err == nil {
			t.Error("the lost announcement was not noticed")
		}
		if states, _ := replicasOf(t, a); !slices.Equal(states, []string{"lives"}) {
			t.Errorf("%v", states)
		}
		a.version-- // as if the answer to the last beat had been lost
		if err := a.Beat(t.Context()); err == nil {
			t.Error("a conflict was not noticed")
		}
		if err := a.Beat(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Announcements are no sessions: they are in no list, and ending all ends none of them.
func TestAnnouncementsAreNoSessions(t *testing.T) {
	o := newOffice(t)
	a := announcerOf(t, o.st, 1)
	if err := a.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.enter(o.Manager, "alice", "", 0)
	if got := o.pages(Filter{}, 10); len(got) != 1 {
		t.Errorf("%v", got)
	}
	if n, err := o.Operator.EndAll(t.Context(), Filter{}); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if states, _ := replicasOf(t, a); len(states) != 1 {
		t.Errorf("%v", states)
	}
}

func TestForeignAnnouncements(t *testing.T) {
	st := memstore.New()
	a := announcerOf(t, st, 1)
	if err := a.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, blob := range [][]byte{nil, {0}, {0, 0xff}, {1, 2, 3}, {0, 0xa0}} {
		now := time.Now()
		rec := store.Record{ID: store.ID{byte(i)}, Blob: blob, Head: store.Head{Created: now, LastActive: now, Expires: now.Add(time.Hour), Subject: replicasIndex}}
		if _, err := st.Save(context.Background(), rec); err != nil {
			t.Fatal(err)
		}
	}
	if states, _ := replicasOf(t, a); !slices.Equal(states, []string{"lives"}) {
		t.Errorf("%v", states)
	}
}

func TestRewrapAllAndCount(t *testing.T) {
	o := newOffice(t)
	st := &sharedMemory{Store: o.st}
	before, promoted := o.replica(st, 1), o.replica(st, 2, 1)
	names := promoted.Ring.Names()
	var tickets []Ticket
	for range 5 {
		ticket, _, err := o.loginAt(before)
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, ticket)
	}
	if count, err := CountKeys(t.Context(), st); err != nil || count[names[1]] != 5 || count[names[0]] != 0 {
		t.Errorf("%v %v", count, err)
	}
	for i, want := range []int{5, 0} {
		if n, err := RewrapAll(t.Context(), st, []*Manager{o.second, promoted}); n != want || err != nil {
			t.Errorf("round %d: %d %v", i, n, err)
		}
	}
	if count, err := CountKeys(t.Context(), st); err != nil || count[names[0]] != 5 || count[names[1]] != 0 {
		t.Errorf("%v %v", count, err)
	}
	retired := o.replica(st, 2)
	for i, ticket := range tickets {
		if _, err := retired.Lookup(t.Context(), ticket); err != nil {
			t.Errorf("session %d without the old key: %v", i, err)
		}
	}
}
