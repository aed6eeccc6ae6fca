// Package store shows how to write a store: one file that only grows, a JSON line for each change, and everything in
// memory. It passes the suite of storetest, as a store must. docs/add-a-store.md walks through it.
//
// It is for reading, not for running: the file is never made smaller, and each change waits for the disk alone.
package store

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// Log is a store in a file that only grows. It begins empty with each test of the contract, and knows after a restart
// what it had acknowledged before.
type Log struct {
	mu      sync.Mutex
	file    *os.File
	records map[store.ID]store.Record
	deleted map[store.ID]time.Time // until when an id may not be saved again
	once    map[string]time.Time
}

// line is one change at rest. Exactly one of its parts is there.
type line struct {
	Saved   *store.Record `json:"saved,omitempty"`
	Deleted []store.ID    `json:"deleted,omitempty"`
	Touched []store.Touch `json:"touched,omitempty"`
	Once    string        `json:"once,omitempty"`
	Until   time.Time     `json:"until,omitzero"` // of Deleted and Once
}

// Open opens the file, or makes it, and reads what was written before. A last line that is cut off, by a crash in the
// middle of a write, was never acknowledged and is left out.
func Open(path string) (*Log, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	l := &Log{file: file, records: map[store.ID]store.Record{}, deleted: map[store.ID]time.Time{}, once: map[string]time.Time{}}
	lines, whole := bufio.NewReader(file), int64(0)
	for {
		raw, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var n line
		if err := json.Unmarshal(raw, &n); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
		}
		l.apply(n)
		whole += int64(len(raw))
	}
	if err := file.Truncate(whole); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	_, err = file.Seek(whole, 0)
	return l, err
}

// Close closes the file.
func (l *Log) Close() error { return l.file.Close() }

// Exclusive is an ability: no other process has this file (a real store would lock it), so what is cached may be trusted.
func (*Log) Exclusive() {}

// write makes a change durable, and only then true: a store must not show what a crash could take back.
func (l *Log) write(n line) error {
	raw, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if _, err := l.file.Write(append(raw, '\n')); err != nil {
		return err
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	l.apply(n)
	return nil
}

func (l *Log) apply(n line) {
	if n.Saved != nil {
		l.records[n.Saved.ID] = *n.Saved
	}
	for _, id := range n.Deleted {
		delete(l.records, id)
		l.deleted[id] = n.Until
	}
	for _, t := range n.Touched {
		if r, ok := l.records[t.ID]; ok && t.LastActive.After(r.Head.LastActive) {
			r.Head.LastActive = t.LastActive
			l.records[t.ID] = r
		}
	}
	if n.Once != "" {
		l.once[n.Once] = n.Until
	}
}

// live returns a record that has not ended. What is past its end does not exist, pruned or not.
func (l *Log) live(id store.ID) (store.Record, bool) {
	r, ok := l.records[id]
	return r, ok && time.Now().Before(r.Head.End())
}

// Load implements store.Store. What is handed out is a copy.
func (l *Log) Load(ctx context.Context, id store.ID) (store.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.live(id)
	if !ok {
		return store.Record{}, errors.Join(ctx.Err(), store.ErrNotFound)
	}
	r.Blob = slices.Clone(r.Blob)
	return r, ctx.Err()
}

// Save implements store.Store: compare and swap, under one lock.
func (l *Log) Save(ctx context.Context, rec store.Record) (uint64, error) {
	if len(rec.Blob) > store.MaxBlob {
		return 0, fmt.Errorf("the blob has %d bytes, more than %d", len(rec.Blob), store.MaxBlob)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old, ok := l.live(rec.ID)
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case time.Now().Before(l.deleted[rec.ID]), rec.Version > 0 && !ok:
		return 0, store.ErrNotFound
	case ok && old.Version != rec.Version:
		return 0, store.ErrConflict
	}
	if ok && old.Head.LastActive.After(rec.Head.LastActive) {
		rec.Head.LastActive = old.Head.LastActive // a touch in the meantime is not taken back
	}
	rec.Version++
	rec.Blob = slices.Clone(rec.Blob)
	return rec.Version, l.write(line{Saved: &rec})
}

// Delete implements store.Store. It leaves tombstones, also for what is not there.
func (l *Log) Delete(ctx context.Context, ids ...store.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(ids) == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	return l.write(line{Deleted: ids, Until: time.Now().Add(store.Tombstone)})
}

// Touch implements store.Store. It creates nothing, and changes no version.
func (l *Log) Touch(ctx context.Context, touches []store.Touch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var due []store.Touch
	for _, t := range touches {
		if r, ok := l.live(t.ID); ok && t.LastActive.After(r.Head.LastActive) {
			due = append(due, t)
		}
	}
	if len(due) == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	return l.write(line{Touched: due})
}

// Once implements store.Store.
func (l *Log) Once(ctx context.Context, key string, expires time.Time) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.once[key]) || ctx.Err() != nil {
		return false, ctx.Err()
	}
	err := l.write(line{Once: key, Until: expires})
	return err == nil, err
}

// Find implements store.Store, in the order of ids. A store for more than a handful has indexes.
func (l *Log) Find(ctx context.Context, q store.Query) (store.Page, error) {
	limit := min(q.Limit, 1000)
	if limit <= 0 {
		limit = 100
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var page store.Page
	for id := range l.records {
		r, ok := l.live(id)
		if !ok || id.String() <= q.After || q.Subject != "" && r.Head.Subject != q.Subject || q.SID != "" && r.Head.SID != q.SID {
			continue
		}
		r.Blob = slices.Clone(r.Blob)
		page.Records = append(page.Records, r)
	}
	slices.SortFunc(page.Records, func(a, b store.Record) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	if len(page.Records) > limit {
		page.Records = page.Records[:limit]
		page.Next = page.Records[limit-1].ID.String()
	}
	return page, ctx.Err()
}

// Ping implements store.Store: can the file be written?
func (l *Log) Ping(ctx context.Context) error { return errors.Join(ctx.Err(), l.file.Sync()) }

// Prune is an ability: it removes what is over, a bounded number at a time.
func (l *Log) Prune(ctx context.Context, limit int) (n int, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for id, r := range l.records {
		if n < limit && !now.Before(r.Head.End()) {
			delete(l.records, id)
			n++
		}
	}
	for key, until := range l.once {
		if n < limit && !now.Before(until) {
			delete(l.once, key)
			n++
		}
	}
	return n, ctx.Err()
}
