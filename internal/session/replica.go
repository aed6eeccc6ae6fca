package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/store"
	"github.com/fxamacker/cbor/v2"
)

// Each process announces its key ring in the store. That is how a rotation knows that every replica has the new key
// before one seals with it, and that nobody seals with the old one any more. Announcements are records among the
// sessions, found by an index of their own; like logout marks they begin with a byte that no envelope begins with.

const (
	// replicasIndex is where announcements are found. It is no keyed hash: it says nothing of anybody, and replicas
	// whose rings differ must find each other.
	replicasIndex = "replicas"
	// ReplicaBeat is how often a replica announces itself.
	ReplicaBeat = time.Minute
	// replicaLives is how old the last beat of a replica that works may be.
	replicaLives = 2*ReplicaBeat + ReplicaBeat/2
	// replicaStays is how long an announcement outlasts its last beat: longer than what its process sealed or left
	// elsewhere under its first key, which is transactions in browsers and logout marks, ten minutes each.
	replicaStays = markLife + 2*ReplicaBeat
	// replicaKeys bounds the keys of one announcement, replicaPages the pages of them that are read.
	replicaKeys, replicaPages = 64, 10
)

// Replica is a process that uses the store.
type Replica struct {
	ID      string    // random, new with each start
	Keys    []string  // the names of its keys, the one that seals first
	Started time.Time // by the store's clock, as is Seen
	Seen    time.Time // its last beat
	Ended   bool      // it ended in order
}

// Lives reports whether the replica works, as far as is known at this time.
func (r Replica) Lives(now time.Time) bool { return !r.Ended && now.Sub(r.Seen) < replicaLives }

// Seals is the name of the key that it seals with.
func (r Replica) Seals() string { return r.Keys[0] }

// announcement is a replica at rest.
type announcement struct {
	ID      string   `cbor:"1,keyasint"`
	Keys    []string `cbor:"2,keyasint"`
	Started int64    `cbor:"3,keyasint"` // milliseconds
	Ended   bool     `cbor:"4,keyasint,omitempty"`
}

// Announcer announces this process. Its methods are for one goroutine, where they do not say otherwise.
type Announcer struct {
	store   store.Store
	feed    *Feed
	self    announcement
	version uint64
}

// NewAnnouncer makes the announcer of a process that uses the feed's store with this ring.
func NewAnnouncer(feed *Feed, ring *seal.Ring) *Announcer {
	a := &Announcer{store: feed.store, feed: feed}
	a.self = announcement{ID: rand.Text(), Keys: ring.Names(), Started: a.now().UnixMilli()}
	return a
}

func (a *Announcer) now() time.Time { return time.Now().Add(time.Duration(a.feed.offset.Load())) }

// Beat announces that this process works.
func (a *Announcer) Beat(ctx context.Context) error { return a.save(ctx) }

// End announces that this process ends in order. What it sealed elsewhere still counts for a while.
func (a *Announcer) End(ctx context.Context) error {
	a.self.Ended = true
	return a.save(ctx)
}

func (a *Announcer) save(ctx context.Context) error {
	body, err := cbor.Marshal(a.self)
	if err != nil {
		return fmt.Errorf("encoding an announcement: %w", err)
	}
	now := a.now()
	rec := store.Record{
		ID: sha256.Sum256([]byte("cloakroom replica v1 " + a.self.ID)), Version: a.version, Blob: append([]byte{0}, body...),
		Head: store.Head{Created: time.UnixMilli(a.self.Started), LastActive: now, Expires: now.Add(replicaStays), Subject: replicasIndex},
	}
	version, err := a.store.Save(ctx, rec)
	switch {
	case err == nil:
		a.version = version
		return nil
	case errors.Is(err, store.ErrNotFound): // it was lost, or the store stood still for long
		a.version = 0
	case errors.Is(err, store.ErrConflict): // an earlier save succeeded, but its answer was lost
		if found, err := a.store.Load(ctx, rec.ID); err == nil {
			a.version = found.Version
		}
	}
	return fmt.Errorf("announcing this process: %w", err)
}

// Replicas are the processes that use the store, or used it until a short while ago, and the time there. Unlike the
// others this method may be called by anybody at any time.
func (a *Announcer) Replicas(ctx context.Context) ([]Replica, time.Time, error) {
	list, err := replicasIn(ctx, a.store)
	return list, a.now(), err
}

func replicasIn(ctx context.Context, st store.Store) ([]Replica, error) {
	var list []Replica
	q := store.Query{Subject: replicasIndex, Limit: 1000}
	for range replicaPages {
		page, err := st.Find(ctx, q)
		if err != nil {
			return nil, &Unavailable{Err: err}
		}
		for _, rec := range page.Records {
			if r, ok := replicaOf(rec); ok {
				list = append(list, r)
			}
		}
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	slices.SortFunc(list, func(a, b Replica) int { return a.Started.Compare(b.Started) })
	return list, nil
}

func replicaOf(rec store.Record) (Replica, bool) {
	var n announcement
	if rec.Head.Subject != replicasIndex || len(rec.Blob) < 2 || rec.Blob[0] != 0 || cbor.Unmarshal(rec.Blob[1:], &n) != nil {
		return Replica{}, false
	}
	if len(n.Keys) == 0 || len(n.Keys) > replicaKeys {
		return Replica{}, false
	}
	return Replica{ID: n.ID, Keys: n.Keys, Started: time.UnixMilli(n.Started), Seen: rec.Head.LastActive, Ended: n.Ended}, true
}

// Agree reports whether all replicas that work seal with this key.
func Agree(replicas []Replica, now time.Time, key string) bool {
	return !slices.ContainsFunc(replicas, func(r Replica) bool { return r.Lives(now) && r.Seals() != key })
}
