package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/cloakroom/cloakroom/store"
)

// errHead says that a head cannot be read.
var errHead = errors.New("a head in the file cannot be read")

// encodeHead is the head's form at rest: version, created, last active, idle, expires, then the two index values,
// each with its length. The end is not in it; the entry in bucketEnds carries it.
func encodeHead(version uint64, h store.Head) []byte {
	b := make([]byte, 0, 5*8+4+len(h.Subject)+len(h.SID))
	for _, n := range []int64{int64(version), h.Created.UnixNano(), h.LastActive.UnixNano(), int64(h.Idle), h.Expires.UnixNano()} { //nolint:gosec // a counter
		b = binary.BigEndian.AppendUint64(b, uint64(n)) //nolint:gosec // bits
	}
	for _, s := range []string{h.Subject, h.SID} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s))) //nolint:gosec // checked in Save
		b = append(b, s...)
	}
	return b
}

func decodeHead(b []byte) (version uint64, h store.Head, err error) {
	if len(b) < 5*8+4 {
		return 0, h, errHead
	}
	n := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[8*i:])) } //nolint:gosec // bits
	version = uint64(n(0))                                                    //nolint:gosec // a counter
	h = store.Head{Created: time.Unix(0, n(1)), LastActive: time.Unix(0, n(2)), Idle: time.Duration(n(3)), Expires: time.Unix(0, n(4))}
	rest := b[40:]
	for _, s := range []*string{&h.Subject, &h.SID} {
		if len(rest) < 2 || len(rest) < 2+int(binary.BigEndian.Uint16(rest)) {
			return 0, h, errHead
		}
		size := int(binary.BigEndian.Uint16(rest))
		*s, rest = string(rest[2:2+size]), rest[2+size:]
	}
	return version, h, nil
}

// endKey is a key that sorts by time.
func endKey(end time.Time, suffix []byte) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(suffix)), uint64(max(0, end.UnixNano())))
	return append(b, suffix...)
}

// indexKey is a key that sorts by index value, then by id.
func indexKey(value string, id store.ID) []byte {
	return append(append([]byte(value), 0), id[:]...)
}

// get returns the record's head if it has not ended.
func get(tx *bbolt.Tx, id store.ID) (version uint64, h store.Head, err error) {
	raw := tx.Bucket(bucketHeads).Get(id[:])
	if raw == nil || inGrave(tx, id) {
		return 0, h, store.ErrNotFound
	}
	if version, h, err = decodeHead(raw); err != nil {
		return 0, h, err
	}
	if !time.Now().Before(h.End()) {
		return 0, h, store.ErrNotFound
	}
	return version, h, nil
}

// Load implements store.Store.
func (s *Store) Load(ctx context.Context, id store.ID) (rec store.Record, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		version, h, err := get(tx, id)
		rec = store.Record{ID: id, Version: version, Head: h, Blob: bytes.Clone(tx.Bucket(bucketBlobs).Get(id[:]))}
		return err
	})
	if err != nil {
		return store.Record{}, err
	}
	return rec, nil
}

// Save implements store.Store.
func (s *Store) Save(ctx context.Context, rec store.Record) (uint64, error) {
	if len(rec.Blob) > store.MaxBlob || len(rec.Head.Subject) > 1024 || len(rec.Head.SID) > 1024 {
		return 0, fmt.Errorf("boltstore: the record is too large: a blob has at most %d bytes, an index entry 1024", store.MaxBlob)
	}
	rec.Blob = bytes.Clone(rec.Blob)
	err := s.update(ctx, func(tx *bbolt.Tx) error { return save(tx, rec) })
	if err != nil {
		return 0, err
	}
	return rec.Version + 1, nil
}

func save(tx *bbolt.Tx, rec store.Record) error {
	version, old, err := get(tx, rec.ID)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	case rec.Version == 0 && err == nil:
		return store.ErrConflict
	case rec.Version != 0 && err != nil, buried(tx, rec.ID):
		return store.ErrNotFound
	case rec.Version != 0 && version != rec.Version:
		return store.ErrConflict
	}
	if err == nil && old.LastActive.After(rec.Head.LastActive) {
		rec.Head.LastActive = old.LastActive
	}
	if err := remove(tx, rec.ID); err != nil {
		return err
	}
	return errors.Join(
		putHead(tx, rec.ID, rec.Version+1, rec.Head),
		tx.Bucket(bucketBlobs).Put(rec.ID[:], rec.Blob),
		putIndex(tx, bucketSubjects, rec.Head.Subject, rec.ID),
		putIndex(tx, bucketSIDs, rec.Head.SID, rec.ID),
	)
}

func putHead(tx *bbolt.Tx, id store.ID, version uint64, h store.Head) error {
	return errors.Join(
		tx.Bucket(bucketHeads).Put(id[:], encodeHead(version, h)),
		tx.Bucket(bucketEnds).Put(endKey(h.End(), id[:]), nil),
	)
}

func putIndex(tx *bbolt.Tx, bucket []byte, value string, id store.ID) error {
	if value == "" {
		return nil
	}
	return tx.Bucket(bucket).Put(indexKey(value, id), nil)
}

// remove deletes a record, ended or not, with everything that points to it.
func remove(tx *bbolt.Tx, id store.ID) error {
	raw := tx.Bucket(bucketHeads).Get(id[:])
	if raw == nil {
		return tx.Bucket(bucketGraves).Delete(id[:])
	}
	_, h, err := decodeHead(raw)
	if err != nil {
		return err
	}
	return errors.Join(
		tx.Bucket(bucketGraves).Delete(id[:]),
		tx.Bucket(bucketEnds).Delete(endKey(h.End(), id[:])),
		tx.Bucket(bucketSubjects).Delete(indexKey(h.Subject, id)),
		tx.Bucket(bucketSIDs).Delete(indexKey(h.SID, id)),
		tx.Bucket(bucketBlobs).Delete(id[:]),
		tx.Bucket(bucketHeads).Delete(id[:]),
	)
}

// many is how many records make a deletion a large one. To remove a record changes pages all over the file, so a large
// deletion notes which are gone, in one place, and Prune removes them.
const many = 100

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, ids ...store.ID) error {
	ids = slices.Clone(ids)
	clear := remove
	if len(ids) > many {
		clear = bury
	}
	return inChunks(ids, func(part []store.ID) error {
		return s.update(ctx, func(tx *bbolt.Tx) error {
			for _, id := range part {
				_, err := claim(tx, tombstone(id), time.Now().Add(store.Tombstone))
				if err := errors.Join(clear(tx, id), err); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func bury(tx *bbolt.Tx, id store.ID) error { return tx.Bucket(bucketGraves).Put(id[:], nil) }

func inGrave(tx *bbolt.Tx, id store.ID) bool {
	k, _ := tx.Bucket(bucketGraves).Cursor().Seek(id[:])
	return bytes.Equal(k, id[:])
}

// inChunks keeps write transactions short.
func inChunks[T any](all []T, write func([]T) error) error {
	for part := range slices.Chunk(all, 1000) {
		if err := write(part); err != nil {
			return err
		}
	}
	return nil
}

// tombstone is the Once key that says that an id was deleted. No caller's key begins with a zero byte.
func tombstone(id store.ID) []byte { return append([]byte("\x00deleted "), id[:]...) }

func buried(tx *bbolt.Tx, id store.ID) bool {
	raw := tx.Bucket(bucketOnce).Get(tombstone(id))
	return len(raw) == 8 && time.Now().Before(untilOf(raw))
}

// Touch implements store.Store.
func (s *Store) Touch(ctx context.Context, touches []store.Touch) error {
	return inChunks(slices.Clone(touches), func(part []store.Touch) error {
		return s.update(ctx, func(tx *bbolt.Tx) error {
			for _, t := range part {
				if err := touch(tx, t); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func touch(tx *bbolt.Tx, t store.Touch) error {
	version, h, err := get(tx, t.ID)
	if errors.Is(err, store.ErrNotFound) || err == nil && !t.LastActive.After(h.LastActive) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := tx.Bucket(bucketEnds).Delete(endKey(h.End(), t.ID[:])); err != nil {
		return err
	}
	h.LastActive = t.LastActive
	return putHead(tx, t.ID, version, h)
}

// Once implements store.Store.
func (s *Store) Once(ctx context.Context, key string, expires time.Time) (first bool, err error) {
	if key == "" || key[0] == 0 || len(key) > 1024 {
		return false, errors.New("boltstore: a key has 1 to 1024 bytes and does not begin with a zero byte")
	}
	err = s.update(ctx, func(tx *bbolt.Tx) error {
		first, err = claim(tx, []byte(key), expires) // a batch may run this twice
		return err
	})
	if err != nil {
		return false, err
	}
	return first, nil
}

// claim reports whether key is free, and takes it.
func claim(tx *bbolt.Tx, key []byte, expires time.Time) (bool, error) {
	once, ends := tx.Bucket(bucketOnce), tx.Bucket(bucketOnceEnds)
	if raw := once.Get(key); len(raw) == 8 {
		until := untilOf(raw)
		if time.Now().Before(until) {
			return false, nil
		}
		if err := ends.Delete(endKey(until, key)); err != nil {
			return false, err
		}
	}
	at := endKey(expires, key)
	return true, errors.Join(once.Put(key, at[:8]), ends.Put(at, nil))
}

func untilOf(raw []byte) time.Time {
	return time.Unix(0, int64(binary.BigEndian.Uint64(raw))) //nolint:gosec // as written
}
