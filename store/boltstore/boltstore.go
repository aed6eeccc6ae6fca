// Package boltstore keeps records in one file on this machine: the embedded store, which needs no operator.
//
// It is durable: when a call that changes something returns, the change is on disk (fsync) and survives a kill -9
// and a loss of power as far as the disk does. Changes that wait together are written together. One process has the
// file to itself; a second one gets ErrLocked. The file does not shrink by itself; what is free in it is used again,
// and Open makes a new, smaller file when most of it is free.
package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/cloakroom/cloakroom/store"
)

var (
	// ErrLocked says that another process has the file.
	ErrLocked = errors.New("the store file is in use by another process")
	// ErrFormat says that the file was written by a newer version.
	ErrFormat = errors.New("the store file was written by a newer version of Cloakroom")
)

// Options are for Open. The zero value works.
type Options struct {
	// Log is told loudly when a damaged file was put aside. nil = nobody.
	Log *slog.Logger
}

// Store is an open store file.
type Store struct{ db *bbolt.DB }

// format is the version of the layout below, in the bucket meta.
const format = "1"

// Buckets. Heads are apart from blobs, so that a touch rewrites a hundred bytes.
var (
	bucketMeta     = []byte("meta")
	bucketHeads    = []byte("heads")    // id -> head
	bucketBlobs    = []byte("blobs")    // id -> blob
	bucketEnds     = []byte("ends")     // time, id -> nothing
	bucketSubjects = []byte("subjects") // index, 0, id -> nothing
	bucketSIDs     = []byte("sids")     // index, 0, id -> nothing
	bucketGraves   = []byte("graves")   // id -> nothing: deleted, and to be removed by Prune
	bucketOnce     = []byte("once")     // key -> time
	bucketOnceEnds = []byte("onceends") // time, key -> nothing
	keyFormat      = []byte("format")
)

var buckets = [][]byte{bucketMeta, bucketHeads, bucketBlobs, bucketEnds, bucketSubjects, bucketSIDs, bucketGraves, bucketOnce, bucketOnceEnds}

// Open opens the store file, or makes it (mode 0600) in a directory that exists. A damaged file is put aside, with a
// loud word in the log, and the store starts empty: sessions can be made again, a process that does not start helps
// nobody.
func Open(path string, o Options) (*Store, error) {
	s, err := open(path)
	if damaged(err) {
		aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000")
		if renameErr := os.Rename(path, aside); renameErr != nil { //nolint:gosec // the operator names the path
			return nil, fmt.Errorf("boltstore: %s is damaged (%w) and cannot be put aside: %w", path, err, renameErr)
		}
		if o.Log != nil {
			o.Log.Error("the store file was damaged and has been put aside; everybody has to log in again", "file", path, "aside", aside, "error", err)
		}
		s, err = open(path)
	}
	if err != nil {
		return nil, explain(path, err)
	}
	return s, s.compact(path, o.Log)
}

// lockTime is how long Open waits for another process to let go of the file.
const lockTime = time.Second

func open(path string) (s *Store, err error) {
	defer func() { // bbolt panics on some kinds of damage
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("%w: %v", bbolterrors.ErrInvalid, p)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockTime, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true,
	})
	if err != nil {
		return nil, err
	}
	db.MaxBatchDelay = 500 * time.Microsecond
	db.MaxBatchSize = 512
	if err := db.Update(prepare); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Store{db}, nil
}

// prepare makes the buckets and checks the format.
func prepare(tx *bbolt.Tx) error {
	for _, name := range buckets {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(bucketMeta)
	switch found := meta.Get(keyFormat); {
	case found == nil:
		return meta.Put(keyFormat, []byte(format))
	case string(found) != format:
		return fmt.Errorf("%w: format %q", ErrFormat, found)
	}
	return nil
}

func damaged(err error) bool {
	return errors.Is(err, bbolterrors.ErrInvalid) || errors.Is(err, bbolterrors.ErrChecksum) || errors.Is(err, bbolterrors.ErrVersionMismatch)
}

// explain makes the common failures say what is wrong and how to mend it.
func explain(path string, err error) error {
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return fmt.Errorf("boltstore: %s: %w; end the other one, or give this one another store", path, ErrLocked)
	case errors.Is(err, ErrFormat):
		return fmt.Errorf("boltstore: %s: %w; use that version, or another file", path, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("boltstore: the directory %s does not exist; make it, and let this process write there", filepath.Dir(path))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("boltstore: %s may not be written by this process; change its owner or mode: %w", path, err)
	}
	return fmt.Errorf("boltstore: opening %s: %w", path, err)
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

// Exclusive marks that one process has the file to itself.
func (*Store) Exclusive() {}

// Ping says whether the file can be read.
func (s *Store) Ping(ctx context.Context) error {
	return s.view(ctx, func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketMeta).Get(keyFormat) == nil {
			return errors.New("the format is missing")
		}
		return nil
	})
}

// view reads.
func (s *Store) view(ctx context.Context, read func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return wrap(s.db.View(read))
}

// update changes, together with what else waits. A caller that gives up does not undo what is being written: it has
// to load again to know, as after any error of a store.
func (s *Store) update(ctx context.Context, change func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- s.db.Batch(change) }()
	select {
	case err := <-done:
		return wrap(err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wrap names the room where the error is not one of the contract.
func wrap(err error) error {
	if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
		return err
	}
	return fmt.Errorf("boltstore: %w", err)
}
