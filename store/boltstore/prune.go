package boltstore

import (
	"bytes"
	"context"
	"errors"
	"time"

	"go.etcd.io/bbolt"
)

// pruneChunk keeps one write transaction short, so that no login waits for the sweep.
const pruneChunk = 500

// Prune implements store.Pruner.
func (s *Store) Prune(ctx context.Context, limit int) (int, error) {
	total := 0
	for _, sweep := range []func(*bbolt.Tx, int) (looked, removed int, err error){pruneRecords, pruneOnce} {
		for total < limit {
			looked, removed, chunk := 0, 0, min(pruneChunk, limit-total)
			err := s.update(ctx, chunk*headMin, func(tx *bbolt.Tx) (_ bool, err error) {
				looked, removed, err = sweep(tx, chunk)
				return looked > 0, err
			})
			if err != nil {
				return total, err
			}
			total += removed
			if looked < chunk {
				break
			}
		}
	}
	return total, nil
}

// dueKeys returns up to limit keys of an end bucket whose time is over.
func dueKeys(tx *bbolt.Tx, bucket []byte, limit int) (keys [][]byte) {
	now := timeKey(time.Now(), nil)
	c := tx.Bucket(bucket).Cursor()
	for k, _ := c.First(); k != nil && len(keys) < limit; k, _ = c.Next() {
		if len(k) == timeSize+keySize && bytes.Compare(k[:timeSize], now) > 0 {
			break
		}
		keys = append(keys, bytes.Clone(k))
	}
	return keys
}

// pruneRecords removes ended records. The entry of one that was touched since it was made is moved to where the
// record now ends.
func pruneRecords(tx *bbolt.Tx, limit int) (looked, removed int, err error) {
	keys := dueKeys(tx, bucketEnds, limit)
	ends, heads := tx.Bucket(bucketEnds), tx.Bucket(bucketHeads)
	now := time.Now()
	for _, k := range keys {
		if err := ends.Delete(k); err != nil {
			return 0, 0, err
		}
		if len(k) != timeSize+keySize {
			continue
		}
		id := k[timeSize:]
		raw := heads.Get(id)
		h, err := decodeHead(raw)
		switch {
		case raw == nil || err == nil && !bytes.Equal(k, timeKey(h.due, id)): // an entry of nothing
		case err == nil && now.Before(h.End()):
			h.due = h.End()
			if err := errors.Join(heads.Put(id, h.encode()), ends.Put(timeKey(h.due, id), nil)); err != nil {
				return 0, 0, err
			}
		default:
			if err := remove(tx, id); err != nil {
				return 0, 0, err
			}
			removed++
		}
	}
	return len(keys), removed, nil
}

// pruneOnce forgets keys. One that was seen again after its time has another entry now, and stays.
func pruneOnce(tx *bbolt.Tx, limit int) (looked, removed int, err error) {
	keys := dueKeys(tx, bucketOnceEnds, limit)
	once := tx.Bucket(bucketOnce)
	for _, k := range keys {
		if len(k) == timeSize+keySize && bytes.Equal(once.Get(k[timeSize:]), k[:timeSize]) {
			if err := once.Delete(k[timeSize:]); err != nil {
				return 0, 0, err
			}
			removed++
		}
		if err := tx.Bucket(bucketOnceEnds).Delete(k); err != nil {
			return 0, 0, err
		}
	}
	return len(keys), removed, nil
}
