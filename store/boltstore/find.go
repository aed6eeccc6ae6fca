package boltstore

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"go.etcd.io/bbolt"

	"github.com/cloakroom/cloakroom/store"
)

// Find implements store.Store. Pages are in the order of ids.
func (s *Store) Find(ctx context.Context, q store.Query) (page store.Page, err error) {
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)
	after, err := hex.DecodeString(q.After)
	if err != nil || len(after) != 0 && len(after) != len(store.ID{}) {
		return page, errors.New("boltstore: the query's After is not a Next of mine")
	}
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		page = store.Page{}
		bucket, prefix := bucketHeads, []byte(nil)
		switch {
		case q.Subject != "":
			bucket, prefix = bucketSubjects, append([]byte(q.Subject), 0)
		case q.SID != "":
			bucket, prefix = bucketSIDs, append([]byte(q.SID), 0)
		}
		c := tx.Bucket(bucket).Cursor()
		start := append(bytes.Clone(prefix), after...)
		for k, _ := c.Seek(start); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Next() {
			id := k[len(prefix):]
			if len(id) != len(store.ID{}) || bytes.Equal(id, after) {
				continue
			}
			if len(page.Records) == limit {
				last := page.Records[limit-1].ID
				page.Next = hex.EncodeToString(last[:])
				return nil
			}
			rec, ok, err := matching(tx, store.ID(id), q)
			if err != nil {
				return err
			}
			if ok {
				page.Records = append(page.Records, rec)
			}
		}
		return nil
	})
	return page, err
}

// matching loads a record and checks the index entry against it: an entry is only a hint.
func matching(tx *bbolt.Tx, id store.ID, q store.Query) (store.Record, bool, error) {
	version, h, err := get(tx, id)
	if errors.Is(err, store.ErrNotFound) {
		return store.Record{}, false, nil
	}
	if err != nil || q.Subject != "" && h.Subject != q.Subject || q.SID != "" && h.SID != q.SID {
		return store.Record{}, false, err
	}
	return store.Record{ID: id, Version: version, Head: h, Blob: bytes.Clone(tx.Bucket(bucketBlobs).Get(id[:]))}, true, nil
}

// pruneChunk keeps one write transaction short, so that no login waits for the sweep.
const pruneChunk = 500

// Prune implements store.Pruner.
func (s *Store) Prune(ctx context.Context, limit int) (int, error) {
	total := 0
	for total < limit {
		n := 0
		err := s.update(ctx, func(tx *bbolt.Tx) error {
			n = 0
			for _, part := range []func(*bbolt.Tx, int) (int, error){pruneGraves, pruneRecords, pruneOnce} {
				removed, err := part(tx, min(pruneChunk, limit-total)-n)
				if err != nil {
					return err
				}
				n += removed
			}
			return nil
		})
		if err != nil {
			return total, err
		}
		total += n
		if n == 0 {
			break
		}
	}
	return total, nil
}

// due returns up to limit keys whose time has passed.
func due(tx *bbolt.Tx, bucket []byte, limit int) [][]byte {
	now := endKey(time.Now(), nil)
	var keys [][]byte
	c := tx.Bucket(bucket).Cursor()
	for k, _ := c.First(); k != nil && len(keys) < limit && bytes.Compare(k[:8], now) <= 0; k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	return keys
}

// pruneGraves removes what was deleted.
func pruneGraves(tx *bbolt.Tx, limit int) (n int, err error) {
	var ids []store.ID
	c := tx.Bucket(bucketGraves).Cursor()
	for k, _ := c.First(); k != nil && len(ids) < limit; k, _ = c.Next() {
		ids = append(ids, store.ID(k))
	}
	for _, id := range ids {
		if err := remove(tx, id); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

func pruneRecords(tx *bbolt.Tx, limit int) (int, error) {
	keys := due(tx, bucketEnds, limit)
	for _, k := range keys {
		id := store.ID(k[8:])
		if _, _, err := get(tx, id); err == nil { // the entry is stale, the record lives
			if err := tx.Bucket(bucketEnds).Delete(k); err != nil {
				return 0, err
			}
			continue
		}
		if err := errors.Join(remove(tx, id), tx.Bucket(bucketEnds).Delete(k)); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

func pruneOnce(tx *bbolt.Tx, limit int) (int, error) {
	keys := due(tx, bucketOnceEnds, limit)
	once := tx.Bucket(bucketOnce)
	for _, k := range keys {
		if raw := once.Get(k[8:]); bytes.Equal(raw, k[:8]) {
			if err := once.Delete(k[8:]); err != nil {
				return 0, err
			}
		}
		if err := tx.Bucket(bucketOnceEnds).Delete(k); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

const (
	compactSize  = 16 << 20 // smaller files are not worth it
	compactBatch = 1 << 20
)

// compact makes a new file when more than half of a large one is free.
func (s *Store) compact(path string, log *slog.Logger) error {
	free, size := int64(s.db.Stats().FreeAlloc), int64(0)
	if info, err := os.Stat(path); err == nil { //nolint:gosec // the operator names the path
		size = info.Size()
	}
	if size < compactSize || free*2 < size {
		return nil
	}
	small := path + ".compact"
	if err := os.Remove(small); err != nil && !errors.Is(err, os.ErrNotExist) { //nolint:gosec // the operator names the path
		return fmt.Errorf("boltstore: %w", err)
	}
	to, err := bbolt.Open(small, 0o600, &bbolt.Options{Timeout: lockTime})
	if err != nil {
		return fmt.Errorf("boltstore: compacting: %w", err)
	}
	if err := errors.Join(bbolt.Compact(to, s.db, compactBatch), to.Close()); err != nil {
		_ = os.Remove(small) //nolint:gosec // as above
		if log != nil {      // a full disk is no reason not to start
			log.Warn("the store file could not be made smaller", "file", path, "error", err)
		}
		return nil
	}
	if err := errors.Join(s.db.Close(), os.Rename(small, path)); err != nil { //nolint:gosec // as above
		return fmt.Errorf("boltstore: compacting: %w", err)
	}
	again, err := open(path)
	if err != nil {
		return explain(path, err)
	}
	s.db = again.db
	if log != nil {
		log.Info("the store file was made smaller", "file", path, "from", size)
	}
	return nil
}
