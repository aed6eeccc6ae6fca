// Package store is the contract between Cloakroom and the place where sessions rest.
//
// A [Record] is a small head, which says when it ends and is changed by [Store.Touch], and a sealed blob that a
// store never looks into. Everything is compare-and-swap: [Store.Save] replaces only the version that was loaded.
//
// Implementations: memstore (this process), boltstore (one file), redisstore and pgstore (many machines). The suite
// in storetest is the contract as tests; a new store is done when it passes.
package store

import (
	"context"
	"encoding/hex"
	"errors"
	"time"
)

var (
	// ErrNotFound says that no live record has this id: never saved, deleted, or past its end. From Save at version 0
	// it says that the id was deleted a short while ago (see Tombstone).
	ErrNotFound = errors.New("store: no such record")
	// ErrConflict says that the record was changed since it was loaded (or, at version 0, that it exists already).
	// Nothing was written: load again, merge, save again.
	ErrConflict = errors.New("store: the record was changed by another")
	// ErrUnreachable is wrapped by what a store's Open returns when its server does not answer: trying again may help,
	// changing the configuration does not have to.
	ErrUnreachable = errors.New("store: the server does not answer")
)

// ID is a record's key: a SHA-256 value. The secret it was made from is not in the store.
type ID [32]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Head is the part of a record that a store reads.
type Head struct {
	Created    time.Time
	LastActive time.Time     // moved forward by Touch, never back
	Idle       time.Duration // the record ends Idle after LastActive; 0 = no idle end
	Expires    time.Time     // the record ends here whatever happens; required
	Subject    string        // index entry: keyed hash of whom it belongs to; "" = not indexed
	SID        string        // index entry: keyed hash of the provider's session; "" = not indexed
}

// End is the time after which the record is as good as deleted: the earlier of Expires and LastActive+Idle.
func (h Head) End() time.Time {
	if h.Idle > 0 {
		if idle := h.LastActive.Add(h.Idle); idle.Before(h.Expires) {
			return idle
		}
	}
	return h.Expires
}

// Record is one session (or one transaction) at rest.
type Record struct {
	ID      ID
	Version uint64 // 0 = not stored yet; a store counts up by one with each Save
	Head    Head
	Blob    []byte // sealed; at most MaxBlob bytes
}

// Tombstone is how long, at least, a store remembers that an id was deleted: so long nobody can save it again, not
// even as a new record. It outlasts every retry and every repair after a failover, so that what has ended stays so.
const Tombstone = 15 * time.Minute

// MaxBlob bounds a record's blob: a store refuses more.
const MaxBlob = 1 << 20

// Touch says that a session was used.
type Touch struct {
	ID         ID
	LastActive time.Time
}

// Query selects records. With neither Subject nor SID it selects all.
type Query struct {
	Subject string // only records with this Head.Subject
	SID     string // only records with this Head.SID
	After   string // Page.Next of the page before; "" = from the start
	Limit   int    // at most this many; 0 = 100, at most 1000
}

// Page is one part of the answer to a Query. Next == "" means that it is the last one.
type Page struct {
	Records []Record
	Next    string
}

// Store keeps records. All methods may be called by many goroutines at once, honour ctx where they wait, and keep
// neither the slices they are given nor those they return. An error other than ErrNotFound and ErrConflict means
// that the store could not do it: the caller answers 503 and never takes it for "no session". Time is the wall
// clock (time.Now), so that tests may fake it; a store keeps times to the millisecond or finer.
type Store interface {
	// Load returns the record, or ErrNotFound when there is none or its Head.End has passed.
	Load(ctx context.Context, id ID) (Record, error)
	// Save writes rec if the stored version is still rec.Version (0 = it must not exist; a record past its end
	// does not exist) and returns the new version, rec.Version+1. Otherwise ErrConflict; when the record to
	// replace is gone, or the id was deleted a short while ago, ErrNotFound. On replacing, LastActive becomes the later of the stored and the given one.
	// When Save returns without an error, the record survives a crash as far as the store's documentation says.
	Save(ctx context.Context, rec Record) (uint64, error)
	// Delete removes the records with their index entries and leaves tombstones. Deleting what is not there is no
	// error, and leaves a tombstone, too. After an error some of several may be deleted.
	Delete(ctx context.Context, ids ...ID) error
	// Touch moves LastActive forward on those of the records that exist and have not ended. It never creates one,
	// never moves back, and does not change the version.
	Touch(ctx context.Context, touches []Touch) error
	// Once reports whether key is seen for the first time. It is forgotten after expires. A true answer is given
	// to exactly one caller, and survives a crash like a saved record.
	Once(ctx context.Context, key string, expires time.Time) (first bool, err error)
	// Find returns live records by index, ordered in a way that is stable between pages. It never scans keys for
	// Subject or SID.
	Find(ctx context.Context, q Query) (Page, error)
	// Ping says whether the store can serve now.
	Ping(ctx context.Context) error
}

// Pruner is an ability: a store whose records do not vanish on their own.
type Pruner interface {
	// Prune removes up to limit records and Once keys whose time is over and returns how many. It never blocks
	// other calls for long, so callers loop until it returns less than limit.
	Prune(ctx context.Context, limit int) (int, error)
}

// Change is one change of a record, whoever made it.
type Change struct {
	ID      ID
	Version uint64 // the version that was saved; 0 = deleted
}

// Feed is what a Watcher tells. The functions are called one at a time and must return quickly.
type Feed struct {
	// Begun is called once, when the feed stands: every change that is acknowledged from now on will be delivered.
	Begun func()
	// Changed is called for each save and delete of any process, this one included. It may come twice.
	Changed func(Change)
	// Alive proves the feed: every change that a store call acknowledged before since (of this process's clock, with
	// its monotonic reading) has been delivered. It comes several times a second while all is well.
	Alive func(since time.Time)
}

// Watcher is an ability: the change feed of a store that many processes share. It is what makes an end on one
// replica an end on all, and what allows opened sessions to be served from memory.
type Watcher interface {
	// Watch delivers changes until ctx ends or the feed breaks, and says why. The caller then takes everything it
	// knows for stale and calls again.
	Watch(ctx context.Context, f Feed) error
}

// Rate is how often something may be done: each time costs Interval, and at most Limit may be owed (GCRA, the generic cell
// rate algorithm). Ten at once and ten more in each quarter of an hour are an Interval of 90 s and a Limit of 15 minutes.
type Rate struct{ Interval, Limit time.Duration }

// Limiter is an ability: counters that many processes share. A counter that owes nothing is as good as none, so a store
// may forget it, and one that is lost in a failover starts anew.
type Limiter interface {
	// Take counts one for a key. 0 = it is allowed; else nothing was counted, and it would be allowed after the answer.
	Take(ctx context.Context, key string, r Rate) (wait time.Duration, err error)
	// Give takes one back.
	Give(ctx context.Context, key string, r Rate) error
}

// Clock is an ability: a store that knows the time. Processes whose own clocks differ then judge ends alike.
type Clock interface {
	Now(ctx context.Context) (time.Time, error)
}

// Exclusive is an ability: a store that one process has to itself, so that what this process knows of a record
// is all there is to know. Only then may opened sessions be served from memory without a change feed.
type Exclusive interface {
	Exclusive()
}
