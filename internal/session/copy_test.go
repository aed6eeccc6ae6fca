package session

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/memstore"
)

// move is a fixture with sessions in a store of one ring, and an empty store for another.
type move struct {
	*fixture
	from, to *memstore.Store
	server   *Manager // on from
	copy     *Copy
}

func newMove(t *testing.T) *move {
	t.Helper()
	m := &move{fixture: newFixture(t, nil), from: memstore.New(), to: memstore.New()}
	m.server = m.replica(&sharedMemory{Store: m.from}, 1)
	m.copy = &Copy{From: m.from, To: m.to, Frontends: []string{"https://other.example", m.Frontend}, Ring: ringOf(t, 2, 1)}
	return m
}

// run copies and checks what it says of it.
func (m *move) run(want CopyCount, wantErr error) {
	m.t.Helper()
	if got, err := m.copy.Run(m.t.Context()); got != want || !errors.Is(err, wantErr) {
		m.t.Errorf("got  %+v %v\nwant %+v %v", got, err, want, wantErr)
	}
}

func (m *move) enter() Ticket {
	m.t.Helper()
	ticket, _, err := m.loginAt(m.server)
	if err != nil {
		m.t.Fatal(err)
	}
	return ticket
}

// opens reports whether a ticket opens a session, with its tokens, at a server on the new store that has the new key
// alone.
func (m *move) opens(ticket Ticket) bool {
	m.t.Helper()
	l, err := m.replica(&sharedMemory{Store: m.to}, 2).Lookup(m.t.Context(), ticket)
	if err != nil && !errors.Is(err, ErrEnded) {
		m.t.Fatal(err)
	}
	return err == nil && l.view.Load().tokens.Refresh != ""
}

func TestCopyMovesSessionsUnderTheFirstKey(t *testing.T) {
	m := newMove(t)
	tickets := []Ticket{m.enter(), m.enter(), m.enter()}
	m.leaveMark()
	m.copy.DryRun = true
	m.run(CopyCount{New: 3, Marks: 1}, nil)
	if page, err := m.to.Find(t.Context(), store.Query{}); err != nil || len(page.Records) != 0 {
		t.Fatalf("a dry run wrote %d records, %v", len(page.Records), err)
	}
	m.copy.DryRun = false
	m.run(CopyCount{New: 3, Marks: 1}, nil)
	m.run(CopyCount{Same: 3, Marks: 1}, nil)
	for i, ticket := range tickets {
		if !m.opens(ticket) {
			t.Errorf("session %d does not open", i)
		}
	}
	page, err := m.to.Find(t.Context(), store.Query{})
	if err != nil || len(page.Records) != 4 {
		t.Fatalf("%d records, %v", len(page.Records), err)
	}
	for _, rec := range page.Records {
		for _, name := range KeysIn(rec) {
			if name != m.copy.Ring.Names()[0] {
				t.Errorf("a record names the key %s", name)
			}
		}
	}
	list, _, err := m.replica(m.to, 2).List(t.Context(), Who{Provider: "main", Subject: "alice"}, "", 10)
	if err != nil || len(list) != 3 {
		t.Errorf("by subject: %d, %v", len(list), err)
	}
}

// A copy that is run again catches up: what was saved, used or ended in between.
func TestCopyCatchesUp(t *testing.T) {
	m := newMove(t)
	saved, used, gone := m.enter(), m.enter(), m.enter()
	m.run(CopyCount{New: 3}, nil)
	rec, err := m.from.Load(t.Context(), saved.idOf(m.Frontend))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.from.Save(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Minute)
	if err := m.from.Touch(t.Context(), []store.Touch{{ID: used.idOf(m.Frontend), LastActive: later}}); err != nil {
		t.Fatal(err)
	}
	if err := m.from.Delete(t.Context(), gone.idOf(m.Frontend)); err != nil {
		t.Fatal(err)
	}
	fresh := m.enter()
	m.run(CopyCount{New: 1, Updated: 2, Ended: 1}, nil)
	m.run(CopyCount{Same: 3}, nil)
	if !m.opens(saved) || !m.opens(used) || !m.opens(fresh) || m.opens(gone) {
		t.Error("not what is in the old store")
	}
	if rec, err := m.to.Load(t.Context(), used.idOf(m.Frontend)); err != nil || rec.Head.LastActive.UnixMilli() != later.UnixMilli() {
		t.Errorf("last active %v, %v", rec.Head.LastActive, err)
	}
}

// What a server on the new store has done is never undone.
func TestCopyRefusesAStoreThatIsAhead(t *testing.T) {
	m := newMove(t)
	ticket := m.enter()
	m.run(CopyCount{New: 1}, nil)
	id := ticket.idOf(m.Frontend)
	rec, err := m.to.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	there := m.replica(&sharedMemory{Store: m.to}, 2)
	o, err := there.decode(rec, ticket)
	if err != nil {
		t.Fatal(err)
	}
	if err := there.encode(o); err != nil { // as a refresh does
		t.Fatal(err)
	}
	if _, err := m.to.Save(t.Context(), o.record); err != nil {
		t.Fatal(err)
	}
	other := m.enter()
	m.run(CopyCount{New: 1, Newer: 1}, ErrCopyNewer)
	if m.opens(other) {
		t.Error("something was written")
	}
}

// An older state of the store, as from a backup, is not copied over what a newer one brought.
func TestCopyRefusesAnOlderState(t *testing.T) {
	m := newMove(t)
	ticket := m.enter()
	backup := memstore.New()
	rec, err := m.from.Load(t.Context(), ticket.idOf(m.Frontend))
	if err != nil {
		t.Fatal(err)
	}
	old := rec
	old.Version = 0
	if _, err := backup.Save(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if _, err := m.from.Save(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	m.run(CopyCount{New: 1}, nil)
	m.copy.From = backup
	m.run(CopyCount{Newer: 1}, ErrCopyNewer)
}

func TestCopyEndsNothingThatIsInUse(t *testing.T) {
	m := newMove(t)
	ticket := m.enter()
	m.enter()
	m.run(CopyCount{New: 2}, nil)
	id := ticket.idOf(m.Frontend)
	if err := m.to.Touch(t.Context(), []store.Touch{{ID: id, LastActive: time.Now().Add(time.Minute)}}); err != nil {
		t.Fatal(err)
	}
	if err := m.from.Delete(t.Context(), id); err != nil { // by its own time, there
		t.Fatal(err)
	}
	m.run(CopyCount{Same: 1}, nil)
	if !m.opens(ticket) {
		t.Error("a session that is in use was ended")
	}
	m.copy.From = memstore.New()
	m.run(CopyCount{Ended: 1}, ErrCopyEmpty)
}

func TestCopyRefusesAStoreInUse(t *testing.T) {
	m := newMove(t)
	m.enter()
	ring := ringOf(t, 2)
	announcer := NewAnnouncer(NewFeed(m.to, NewCache(1<<20), 0, nil), ring)
	if err := announcer.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.run(CopyCount{}, ErrInUse)
	if err := announcer.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.run(CopyCount{New: 1}, nil)
}

func TestCopyLeavesWhatItCannotOpen(t *testing.T) {
	m := newMove(t)
	m.enter()
	strange := m.replica(&sharedMemory{Store: m.from}, 7)
	if _, _, err := m.loginAt(strange); err != nil {
		t.Fatal(err)
	}
	o := m.Options
	o.Frontend, o.Store, o.Ring, o.Cache, o.Feed = "https://gone.example", m.from, ringOf(t, 1), NewCache(1<<20), nil
	elsewhere := m.manager(o)
	t.Cleanup(func() { _ = elsewhere.Close(context.Background()) })
	if _, _, err := m.loginAt(elsewhere); err != nil {
		t.Fatal(err)
	}
	m.run(CopyCount{New: 1, Unreadable: 2}, nil)
}

// The store alone gives no token away; a copy changes nothing about that.
func TestCopyOpensNoToken(t *testing.T) {
	m := newMove(t)
	ticket := m.enter()
	m.run(CopyCount{New: 1}, nil)
	rec, err := m.to.Load(t.Context(), ticket.idOf(m.Frontend))
	if err != nil {
		t.Fatal(err)
	}
	env, err := envelopeOf(rec)
	if err != nil {
		t.Fatal(err)
	}
	c := m.context(rec.ID.String(), "key")
	wrapped, err := m.copy.Ring.Open(c, env.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.OpenWith(ticketKey(NewTicket(), m.Frontend), c, wrapped); err == nil {
		t.Error("another ticket opens it")
	}
}

// leaveMark leaves a mark of a logout of somebody who is not here.
func (m *move) leaveMark() {
	m.t.Helper()
	now := time.Now()
	rec := store.Record{ID: store.ID{1}, Blob: make([]byte, 9), Head: store.Head{Created: now, LastActive: now, Expires: now.Add(markLife)}}
	if _, err := m.from.Save(m.t.Context(), rec); err != nil {
		m.t.Fatal(err)
	}
}
