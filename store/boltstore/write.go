package boltstore

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"

	"github.com/cloakroom/cloakroom/store"
)

// change is one call's part of a write transaction. It may run more than once, each time in a new transaction; it
// must look before it writes, so that one that answers ErrNotFound or ErrConflict has written nothing.
type change struct {
	do    func(*bbolt.Tx) (wrote bool, err error)
	bytes int // about how much it writes
	err   error
	done  chan struct{}
}

// What waits is written together, up to these bounds, in one transaction with one fsync.
const (
	groupChanges = 512
	groupBytes   = 4 << 20
)

var (
	errClosed    = errors.New("the store is closed")
	errUnchanged = errors.New("no change in the group wrote anything")
)

// update has the writer run do. The answer is always definite: a context that ends while the call waits for its turn
// takes the call back, and nothing is written; from then on update waits for the disk.
func (s *Store) update(ctx context.Context, bytes int, do func(*bbolt.Tx) (bool, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &change{do: do, bytes: bytes, done: make(chan struct{})}
	select {
	case s.queue <- c:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stop:
		return wrap(errClosed)
	}
	<-c.done
	return wrap(c.err)
}

// write is the one goroutine that changes the file. While the disk syncs a group, the next one gathers.
func (s *Store) write() {
	defer close(s.stopped)
	debug.SetPanicOnFault(true) // a page that the disk cannot read is an error, not the end of the process
	for {
		select {
		case <-s.stop:
			return
		case first := <-s.queue:
			s.commit(s.gather(first))
		}
	}
}

// gather takes what waits now. The queue has no buffer: what is taken is written.
func (s *Store) gather(first *change) []*change {
	group, bytes := []*change{first}, first.bytes
	for len(group) < groupChanges && bytes < groupBytes {
		select {
		case c := <-s.queue:
			group, bytes = append(group, c), bytes+c.bytes
		default:
			return group
		}
	}
	return group
}

// commit writes the group in one transaction and answers every caller. A change that fails is taken out and the
// others start again without it.
func (s *Store) commit(group []*change) {
	for len(group) > 0 {
		failed, err := s.try(group)
		if failed >= 0 {
			group[failed].err = err
			close(group[failed].done)
			group = append(group[:failed], group[failed+1:]...)
			continue
		}
		s.failing.Store(err != nil)
		for _, c := range group {
			if err != nil { // even an ErrConflict may have been about a neighbour that is not written now
				c.err = err
			}
			close(c.done)
		}
		return
	}
}

// try runs one transaction. failed is the index of the change that went wrong by itself, or -1.
func (s *Store) try(group []*change) (failed int, err error) {
	failed = -1
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("writing failed: %v", p)
		}
	}()
	err = s.db.Update(func(tx *bbolt.Tx) error {
		anything := false
		for i, c := range group {
			wrote, err := run(tx, c)
			if err != nil && !contract(err) {
				failed = i
				return err
			}
			c.err = err
			anything = anything || wrote
		}
		if !anything {
			return errUnchanged // no need to wait for the disk
		}
		return nil
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	return failed, err
}

// run turns a panic over a damaged page into an error.
func run(tx *bbolt.Tx, c *change) (wrote bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			wrote, err = false, fmt.Errorf("the file is damaged: %v", p)
		}
	}()
	return c.do(tx)
}

// view reads, in the caller's goroutine.
func (s *Store) view(ctx context.Context, read func(*bbolt.Tx) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("boltstore: the file is damaged: %v", p)
		}
	}()
	return wrap(s.db.View(read))
}

// contract says whether err is one of the answers that callers act on.
func contract(err error) bool {
	return errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict)
}

// wrap names the room where the error is not one of the contract.
func wrap(err error) error {
	if err == nil || contract(err) {
		return err
	}
	return fmt.Errorf("boltstore: %w", err)
}
