package boltstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/cloakroom/cloakroom/store"
)

// get returns the head of a record that has not ended. A damaged head is a record that is gone: nobody can bring it
// back, and its user can log in again.
func (s *Store) get(tx *bbolt.Tx, id []byte) (head, error) {
	raw := tx.Bucket(bucketHeads).Get(id)
	if raw == nil {
		return head{}, store.ErrNotFound
	}
	h, err := decodeHead(raw)
	if err != nil {
		s.log.Error("a record in the store file is damaged and counts as gone", "id", fmt.Sprintf("%x", id), "error", err)
		return head{}, store.ErrNotFound
	}
	if !time.Now().Before(h.End()) {
		return head{}, store.ErrNotFound
	}
	return h, nil
}

// full makes a record of its parts. What bbolt returns is the file itself, so the blob is copied.
func full(tx *bbolt.Tx, id []byte, h head) store.Record {
	return store.Record{ID: store.ID(id), Version: h.version, Head: h.Head, Blob: bytes.Clone(tx.Bucket(bucketBlobs).Get(id))}
}

// Load implements store.Store.
func (s *Store) Load(ctx context.Context, id store.ID) (rec store.Record, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		h, err := s.get(tx, id[:])
		if err == nil {
			rec = full(tx, id[:], h)
		}
		return err
	})
	return rec, err
}

// Save implements store.Store.
func (s *Store) Save(ctx context.Context, rec store.Record) (uint64, error) {
	switch {
	case len(rec.Blob) > store.MaxBlob:
		return 0, fmt.Errorf("boltstore: the blob has %d bytes; at most %d are taken", len(rec.Blob), store.MaxBlob)
	case len(rec.Head.Subject) > maxIndex || len(rec.Head.SID) > maxIndex:
		return 0, fmt.Errorf("boltstore: an index value has more than %d bytes", maxIndex)
	case rec.Head.Expires.IsZero():
		return 0, errors.New("boltstore: the record has no Expires")
	}
	err := s.update(ctx, len(rec.Blob), func(tx *bbolt.Tx) (bool, error) { return s.save(tx, rec) })
	if err != nil {
		return 0, err
	}
	return rec.Version + 1, nil
}

func (s *Store) save(tx *bbolt.Tx, rec store.Record) (bool, error) {
	old, err := s.get(tx, rec.ID[:])
	switch {
	case rec.Version == 0 && err == nil:
		return false, store.ErrConflict
	case rec.Version != 0 && err != nil:
		return false, err
	case rec.Version != 0 && old.version != rec.Version:
		return false, store.ErrConflict
	}
	h := head{Head: rec.Head, version: rec.Version + 1}
	if rec.Version != 0 && old.LastActive.After(h.LastActive) {
		h.LastActive = old.LastActive
	}
	h.due = h.End()
	if err := unindex(tx, rec.ID[:]); err != nil {
		return false, err
	}
	puts := []error{
		tx.Bucket(bucketHeads).Put(rec.ID[:], h.encode()),
		tx.Bucket(bucketBlobs).Put(rec.ID[:], rec.Blob),
		tx.Bucket(bucketEnds).Put(timeKey(h.due, rec.ID[:]), nil),
	}
	if h.Subject != "" {
		puts = append(puts, tx.Bucket(bucketSubjects).Put(indexKey(h.Subject, rec.ID[:]), nil))
	}
	if h.SID != "" {
		puts = append(puts, tx.Bucket(bucketSIDs).Put(indexKey(h.SID, rec.ID[:]), nil))
	}
	return true, errors.Join(puts...)
}

// unindex removes everything that points to a record. What points to one with a damaged head stays; it is checked
// on reading, and Prune removes its end.
func unindex(tx *bbolt.Tx, id []byte) error {
	raw := tx.Bucket(bucketHeads).Get(id)
	if raw == nil {
		return nil
	}
	h, err := decodeHead(raw)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	return errors.Join(
		tx.Bucket(bucketEnds).Delete(timeKey(h.due, id)),
		tx.Bucket(bucketSubjects).Delete(indexKey(h.Subject, id)),
		tx.Bucket(bucketSIDs).Delete(indexKey(h.SID, id)),
	)
}

// remove deletes a record, ended or not, with everything that points to it.
func remove(tx *bbolt.Tx, id []byte) error {
	return errors.Join(
		unindex(tx, id),
		tx.Bucket(bucketBlobs).Delete(id),
		tx.Bucket(bucketHeads).Delete(id),
	)
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, id store.ID) error {
	return s.update(ctx, 0, func(tx *bbolt.Tx) (bool, error) {
		if tx.Bucket(bucketHeads).Get(id[:]) == nil {
			return false, nil
		}
		return true, remove(tx, id[:])
	})
}

// touchChunk keeps one write transaction short.
const touchChunk = 1000

// Touch implements store.Store. Up to a thousand records are written together; a failure between two thousands
// leaves the first ones moved, which a repetition does not hurt.
func (s *Store) Touch(ctx context.Context, touches []store.Touch) error {
	for len(touches) > 0 {
		part := touches[:min(touchChunk, len(touches))]
		touches = touches[len(part):]
		err := s.update(ctx, len(part)*headMin, func(tx *bbolt.Tx) (bool, error) { return s.touch(tx, part) })
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *Store) touch(tx *bbolt.Tx, touches []store.Touch) (wrote bool, err error) {
	heads := tx.Bucket(bucketHeads)
	for _, t := range touches {
		h, err := s.get(tx, t.ID[:])
		if err != nil || !t.LastActive.After(h.LastActive) {
			continue
		}
		h.LastActive = t.LastActive
		if err := heads.Put(t.ID[:], h.encode()); err != nil {
			return false, err
		}
		wrote = true
	}
	return wrote, nil
}

// Once implements store.Store. The file holds a hash of the key, so a key may be long and says nothing.
func (s *Store) Once(ctx context.Context, key string, expires time.Time) (bool, error) {
	hash := sha256.Sum256([]byte(key))
	first := false
	err := s.update(ctx, 0, func(tx *bbolt.Tx) (bool, error) {
		once, ends := tx.Bucket(bucketOnce), tx.Bucket(bucketOnceEnds)
		first = true // this may run twice
		if raw := once.Get(hash[:]); len(raw) == timeSize {
			until := readTime(raw)
			if time.Now().Before(until) {
				first = false
				return false, nil
			}
			if err := ends.Delete(timeKey(until, hash[:])); err != nil {
				return false, err
			}
		}
		return true, errors.Join(
			once.Put(hash[:], appendTime(nil, expires)),
			ends.Put(timeKey(expires, hash[:]), nil),
		)
	})
	return first && err == nil, err
}
