package boltstore

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"

	"go.etcd.io/bbolt"

	"github.com/cloakroom/cloakroom/store"
)

// One page of Find is bounded also by what it reads, so that no answer is huge and no read transaction long: the file
// cannot grow while one is open.
const (
	pageLooks = 10_000
	pageBytes = 8 << 20
)

// Find implements store.Store. Pages are in the order of ids.
func (s *Store) Find(ctx context.Context, q store.Query) (page store.Page, err error) {
	after, err := hex.DecodeString(q.After)
	if err != nil || len(after) != 0 && len(after) != keySize {
		return store.Page{}, errors.New("boltstore: the query's After is not a Next of mine")
	}
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		page = s.find(tx, q, after)
		return nil
	})
	return page, err
}

func (s *Store) find(tx *bbolt.Tx, q store.Query, after []byte) (page store.Page) {
	limit := min(q.Limit, 1000)
	if limit <= 0 {
		limit = 100
	}
	bucket, prefix := bucketHeads, []byte(nil)
	switch {
	case q.Subject != "":
		bucket, prefix = bucketSubjects, indexKey(q.Subject, nil)
	case q.SID != "":
		bucket, prefix = bucketSIDs, indexKey(q.SID, nil)
	}
	c := tx.Bucket(bucket).Cursor()
	looks, size := 0, 0
	last := after
	for k, _ := c.Seek(append(bytes.Clone(prefix), after...)); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		id := k[len(prefix):]
		if len(id) != keySize || bytes.Equal(id, after) {
			continue
		}
		if len(page.Records) == limit || looks == pageLooks || size >= pageBytes {
			page.Next = hex.EncodeToString(last)
			break
		}
		last, looks = id, looks+1
		if h, err := s.get(tx, id); err == nil && matches(h, q) {
			rec := full(tx, id, h)
			page.Records = append(page.Records, rec)
			size += len(rec.Blob)
		}
	}
	return page
}

// matches checks an index entry against its record.
func matches(h head, q store.Query) bool {
	return (q.Subject == "" || q.Subject == h.Subject) && (q.SID == "" || q.SID == h.SID)
}
