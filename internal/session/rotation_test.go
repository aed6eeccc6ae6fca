package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/store"
)

// The phases of a rotation, as the rings of the replicas that are in them. During a roll-out two neighbours are at
// work at once.
var rotationPhases = []struct {
	name string
	keys []byte
}{{"before", []byte{1}}, {"appended", []byte{1, 2}}, {"promoted", []byte{2, 1}}, {"retired", []byte{2}}}

func ringOf(t testing.TB, keys ...byte) *seal.Ring {
	t.Helper()
	raw := make([][]byte, len(keys))
	for i, k := range keys {
		raw[i] = bytes.Repeat([]byte{k}, 32)
	}
	ring, err := seal.NewRing(raw...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// sharedMemory hides that the memory belongs to one process: every request asks the store, as with a feed that does not
// stand.
type sharedMemory struct {
	store.Store
	afterFind func()
}

func (s *sharedMemory) Find(ctx context.Context, q store.Query) (store.Page, error) {
	page, err := s.Store.Find(ctx, q)
	if s.afterFind != nil {
		s.afterFind()
	}
	return page, err
}

// replica is another process on the fixture's store, with a ring of its own.
func (f *fixture) replica(st store.Store, keys ...byte) *Manager {
	f.t.Helper()
	o := f.Options
	o.Store, o.Ring, o.Cache, o.Feed = st, ringOf(f.t, keys...), NewCache(1<<20), nil
	m := f.manager(o)
	f.t.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

func (f *fixture) loginAt(m *Manager) (Ticket, *Live, error) {
	f.t.Helper()
	f.p.mu.Lock()
	x := f.p.next()
	f.p.mu.Unlock()
	x.Claims.IssuedAt = time.Now()
	return m.Create(f.t.Context(), Login{Provider: "main", Method: "redirect", Exchange: x})
}

// Whoever is in which phase: a session that one replica made opens at the other, and a logout there ends it.
func TestNeighbouringPhasesUnderstandEachOther(t *testing.T) {
	for i := range rotationPhases {
		for _, j := range []int{i - 1, i, i + 1} {
			if j < 0 || j >= len(rotationPhases) {
				continue
			}
			t.Run(fmt.Sprintf("made %s, ended %s", rotationPhases[i].name, rotationPhases[j].name), func(t *testing.T) {
				f := newFixture(t, nil)
				st := &sharedMemory{Store: f.st}
				maker, ender := f.replica(st, rotationPhases[i].keys...), f.replica(st, rotationPhases[j].keys...)
				for name, who := range map[string]Who{"sid": {Provider: "main", SID: "s1"}, "subject": {Provider: "main", Subject: "alice"}} {
					ticket, l, err := f.loginAt(maker)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := ender.Lookup(t.Context(), ticket); err != nil {
						t.Errorf("opening: %v", err)
					}
					if list, _, err := ender.List(t.Context(), who, "", 10); err != nil || len(list) != 1 || list[0].Session.Handle != l.Session().Handle {
						t.Errorf("listing by %s: %v %v", name, list, err)
					}
					if n, err := ender.EndAll(t.Context(), who, "", ReasonProviderLogout); n != 1 || err != nil {
						t.Errorf("ending by %s: %d %v", name, n, err)
					}
					if _, err := maker.Lookup(t.Context(), ticket); !errors.Is(err, ErrEnded) {
						t.Errorf("after the end: %v", err)
					}
				}
			})
		}
	}
}

// A record whose index moves to the new key while a logout looks for it under one key after the other is found all
// the same, whichever key the logout begins with.
func TestLogoutFindsWhatARewrapMoves(t *testing.T) {
	for name, keys := range map[string][]byte{"at a promoted replica": {2, 1}, "at one that is not": {1, 2}} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			quiet := &sharedMemory{Store: f.st}
			before, promoted := f.replica(quiet, 1), f.replica(quiet, 2, 1)
			_, l, err := f.loginAt(before)
			if err != nil {
				t.Fatal(err)
			}
			moved := 0
			ender := f.replica(&sharedMemory{Store: f.st, afterFind: func() {
				if moved++; moved != 1 {
					return
				}
				rec, err := quiet.Load(t.Context(), l.id)
				if err != nil {
					return // ended with the first look
				}
				out, changed, err := promoted.Rewrap(rec)
				if err != nil || !changed {
					t.Errorf("%v %v", changed, err)
				}
				if _, err := quiet.Save(t.Context(), out); err != nil {
					t.Error(err)
				}
			}}, keys...)
			if n, err := ender.EndAll(t.Context(), Who{Provider: "main", SID: "s1"}, "", ReasonProviderLogout); n != 1 || err != nil {
				t.Errorf("ended %d, %v", n, err)
			}
		})
	}
}

// While replicas seal with different keys each of them saves what the other has saved. If the index went along with
// every save it would move to and fro, and a logout could miss it; so a save leaves it where it is.
func TestASaveLeavesTheIndexWhereItIs(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, f *fixture) {
		st := &sharedMemory{Store: f.st}
		o := f.Options
		o.Store, o.Ring, o.Cache, o.Feed = st, ringOf(t, 1), NewCache(1<<20), nil
		before := f.manager(o)
		o.Ring, o.Cache = ringOf(t, 2, 1), NewCache(1<<20)
		promoted := f.manager(o)
		ticket, l, err := f.loginAt(before)
		if err != nil {
			t.Fatal(err)
		}
		was, err := st.Load(t.Context(), l.id)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Minute)
		again, err := promoted.Lookup(t.Context(), ticket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := promoted.Fresh(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		rec, err := st.Load(t.Context(), l.id)
		if err != nil {
			t.Fatal(err)
		}
		env, err := envelopeOf(rec)
		if err != nil {
			t.Fatal(err)
		}
		if !promoted.Ring.Current(env.List) || !promoted.Ring.Current(env.Key) {
			t.Error("the save did not seal with the first key")
		}
		if rec.Head.Subject != was.Head.Subject || rec.Head.SID != was.Head.SID {
			t.Error("the save moved the index")
		}
		out, changed, err := promoted.Rewrap(rec)
		if err != nil || !changed || seal.NameOf(out.Head.Subject) != promoted.Ring.Names()[0] || seal.NameOf(out.Head.SID) != promoted.Ring.Names()[0] {
			t.Errorf("the rewrap left the index: %v %v", changed, err)
		}
		for _, m := range []*Manager{before, promoted} {
			if err := m.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
}

// A replica that a new key has not reached cannot open what is sealed with it. That is no reason to end anything.
func TestAMissingKeyEndsNothing(t *testing.T) {
	f := newFixture(t, nil)
	st := &sharedMemory{Store: f.st}
	ahead, behind := f.replica(st, 2, 1), f.replica(st, 1)
	ticket, _, err := f.loginAt(ahead)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := behind.Lookup(t.Context(), ticket); !isUnavailable(err) {
			t.Errorf("%v", err)
		}
	}
	if _, err := ahead.Lookup(t.Context(), ticket); err != nil {
		t.Errorf("where the key is: %v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.audit) == 0 || f.audit[0].Kind != "key_missing" || f.audit[0].Detail == "" {
		t.Errorf("%+v", f.audit)
	}
}
