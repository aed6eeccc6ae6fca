// Package store is the contract between Cloakroom and the place where sessions rest.
//
// A [Record] is a small head, which says when it ends and is changed by [Store.Touch], and a sealed blob that a
// store never looks into. Everything is compare-and-swap: [Store.Save] replaces only the version that was loaded.
//
// Implementations: memstore (this process), boltstore (one file). The suite in storetest is the contract as tests;
// a new store is done when it passes.
package store

import (
	"context"
	"encoding/hex"
	"errors"
	"time"
)

var (
	// ErrNotFound says that no live record has this id: never saved, deleted, or past its end.
	ErrNotFound = errors.New("store: no such record")
	// ErrConflict says that the record was changed since it was loaded (or, at version 0, that it exists already).
	// Nothing was written: load again, merge, save again.
	ErrConflict = errors.New("store: the record was changed by another")
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
// clock (time.Now), so that tests may fake it.
type Store interface {
	// Load returns the record, or ErrNotFound when there is none or its Head.End has passed.
	Load(ctx context.Context, id ID) (Record, error)
	// Save writes rec if the stored version is still rec.Version (0 = it must not exist; a record past its end
	// does not exist) and returns the new version, rec.Version+1. Otherwise ErrConflict; when the record to
	// replace is gone, ErrNotFound. On replacing, LastActive becomes the later of the stored and the given one.
	// When Save returns without an error, the record survives a crash as far as the store's documentation says.
	Save(ctx context.Context, rec Record) (uint64, error)
	// Delete removes the record and its index entries. Deleting what is not there is no error.
	Delete(ctx context.Context, id ID) error
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

// Exclusive is an ability: a store that one process has to itself, so that what this process knows of a record
// is all there is to know. Only then may opened sessions be served from memory without a change feed.
type Exclusive interface {
	Exclusive()
}
