// Package memstore keeps records in this process's memory. They are gone when it ends: for development, tests, and
// apps whose users may log in again after a restart.
package memstore

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// Store is a store in memory.
type Store struct {
	mu       sync.RWMutex
	records  map[store.ID]store.Record
	subjects map[string]map[store.ID]struct{}
	sids     map[string]map[store.ID]struct{}
	once     map[string]time.Time
	deleted  map[store.ID]time.Time // until when an id may not be saved again
}

// New makes an empty store.
func New() *Store {
	return &Store{
		records: map[store.ID]store.Record{}, subjects: map[string]map[store.ID]struct{}{},
		sids: map[string]map[store.ID]struct{}{}, once: map[string]time.Time{},
		deleted: map[store.ID]time.Time{},
	}
}

// Exclusive marks that no other process has these records.
func (*Store) Exclusive() {}

// Ping always answers.
func (*Store) Ping(ctx context.Context) error { return ctx.Err() }

// live returns the record if it has not ended. s.mu is held.
func (s *Store) live(id store.ID) (store.Record, bool) {
	r, ok := s.records[id]
	return r, ok && time.Now().Before(r.Head.End())
}

// Load implements store.Store.
func (s *Store) Load(ctx context.Context, id store.ID) (store.Record, error) {
	if err := ctx.Err(); err != nil {
		return store.Record{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.live(id)
	if !ok {
		return store.Record{}, store.ErrNotFound
	}
	r.Blob = bytes.Clone(r.Blob)
	return r, nil
}

// Save implements store.Store.
func (s *Store) Save(ctx context.Context, rec store.Record) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(rec.Blob) > store.MaxBlob {
		return 0, fmt.Errorf("memstore: the blob has %d bytes, more than %d", len(rec.Blob), store.MaxBlob)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.live(rec.ID)
	switch {
	case rec.Version == 0 && ok:
		return 0, store.ErrConflict
	case rec.Version != 0 && !ok, time.Now().Before(s.deleted[rec.ID]):
		return 0, store.ErrNotFound
	case rec.Version != 0 && rec.Version != old.Version:
		return 0, store.ErrConflict
	}
	if ok && old.Head.LastActive.After(rec.Head.LastActive) {
		rec.Head.LastActive = old.Head.LastActive
	}
	s.remove(rec.ID)
	rec.Version++
	rec.Blob = bytes.Clone(rec.Blob)
	s.records[rec.ID] = rec
	index(s.subjects, rec.Head.Subject, rec.ID)
	index(s.sids, rec.Head.SID, rec.ID)
	return rec.Version, nil
}

func index(in map[string]map[store.ID]struct{}, key string, id store.ID) {
	if key == "" {
		return
	}
	if in[key] == nil {
		in[key] = map[store.ID]struct{}{}
	}
	in[key][id] = struct{}{}
}

func unindex(in map[string]map[store.ID]struct{}, key string, id store.ID) {
	delete(in[key], id)
	if len(in[key]) == 0 {
		delete(in, key)
	}
}

// remove deletes a record and its index entries. s.mu is held.
func (s *Store) remove(id store.ID) {
	r, ok := s.records[id]
	if !ok {
		return
	}
	delete(s.records, id)
	unindex(s.subjects, r.Head.Subject, id)
	unindex(s.sids, r.Head.SID, id)
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, ids ...store.ID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.remove(id)
		s.deleted[id] = time.Now().Add(store.Tombstone)
	}
	return nil
}

// Touch implements store.Store.
func (s *Store) Touch(ctx context.Context, touches []store.Touch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range touches {
		if r, ok := s.live(t.ID); ok && t.LastActive.After(r.Head.LastActive) {
			r.Head.LastActive = t.LastActive
			s.records[t.ID] = r
		}
	}
	return nil
}

// Once implements store.Store.
func (s *Store) Once(ctx context.Context, key string, expires time.Time) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if until, seen := s.once[key]; seen && time.Now().Before(until) {
		return false, nil
	}
	s.once[key] = expires
	return true, nil
}

// Find implements store.Store. Pages are in the order of ids.
func (s *Store) Find(ctx context.Context, q store.Query) (store.Page, error) {
	if err := ctx.Err(); err != nil {
		return store.Page{}, err
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []store.Record
	for _, id := range s.candidates(q) {
		if r, ok := s.live(id); ok && id.String() > q.After {
			r.Blob = bytes.Clone(r.Blob)
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b store.Record) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	if len(found) <= limit {
		return store.Page{Records: found}, nil
	}
	last := found[limit-1].ID
	return store.Page{Records: found[:limit], Next: hex.EncodeToString(last[:])}, nil
}

// candidates are the ids that may match. s.mu is held.
func (s *Store) candidates(q store.Query) []store.ID {
	var ids []store.ID
	switch {
	case q.Subject != "":
		for id := range s.subjects[q.Subject] {
			if q.SID == "" || s.records[id].Head.SID == q.SID {
				ids = append(ids, id)
			}
		}
	case q.SID != "":
		for id := range s.sids[q.SID] {
			ids = append(ids, id)
		}
	default:
		for id := range s.records {
			ids = append(ids, id)
		}
	}
	return ids
}

// Prune implements store.Pruner.
func (s *Store) Prune(ctx context.Context, limit int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, n := time.Now(), 0
	for id, r := range s.records {
		if n >= limit || ctx.Err() != nil {
			return n, ctx.Err()
		}
		if !now.Before(r.Head.End()) {
			s.remove(id)
			n++
		}
	}
	n += forget(s.once, now, limit-n)
	n += forget(s.deleted, now, limit-n)
	return n, nil
}

// forget removes up to limit entries whose time is over.
func forget[K comparable](until map[K]time.Time, now time.Time, limit int) (n int) {
	for key, t := range until {
		if n >= limit {
			break
		}
		if !now.Before(t) {
			delete(until, key)
			n++
		}
	}
	return n
}
