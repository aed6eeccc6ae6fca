package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/store"
	"github.com/fxamacker/cbor/v2"
)

// Copy moves live sessions from one store to another. The outer layer of each is put under the key that seals now; what
// its ticket protects stays as it is, so no ticket is needed. It can be run again: while servers still use From it
// catches up with what changed and ended there, and the last run, when they have stopped, has little left to do.
//
// Logout marks come along, so that a logout just before the move still meets a login just after it. What Store.Once
// knows does not: no store lists it, and it guards logins in progress for some minutes, whose codes the provider takes
// only once anyway.
type Copy struct {
	From, To  store.Store
	Frontends []string // whose sessions, by URL
	Ring      *seal.Ring
	DryRun    bool // look, and write nothing
}

// CopyCount says what a Copy did, or would do.
type CopyCount struct {
	New, Updated, Same int // sessions
	Ended              int // sessions that a copy before had brought, and that ended in From meanwhile
	Marks              int
	Newer              int // To has changed them itself, or has them from a later state of From
	Unreadable         int // of no frontend that is configured, or under a key that is not in the ring
}

var (
	// ErrInUse says that a server uses the store that would be written to.
	ErrInUse = errors.New("a server uses the store that is copied to")
	// ErrCopyNewer says that the store that would be written to is ahead.
	ErrCopyNewer = errors.New("the store that is copied to has sessions that did not come from this copy, or changed since")
	// ErrCopyEmpty says that there is nothing to copy, though a copy before has brought sessions.
	ErrCopyEmpty = errors.New("the store that is copied from has no sessions, and the other one has: is it the right one?")
)

// copied is what a copy says in a record that it wrote: which version of the original it is, and that nobody has used
// it since. A server that saves the record leaves this out; one that only touches it moves LastActive on.
type copied struct {
	Version uint64 `cbor:"1,keyasint"`
	Active  int64  `cbor:"2,keyasint"` // milliseconds
}

// copyWorkers write at the same time: stores put together what waits together.
const copyWorkers = 32

// Run copies. Before it writes anything it looks whether it may.
func (c *Copy) Run(ctx context.Context) (CopyCount, error) {
	if err := c.unused(ctx); err != nil {
		return CopyCount{}, err
	}
	look := c.newRun(true)
	if err := look.all(ctx); err != nil {
		return look.count, err
	}
	switch n := look.count; {
	case n.Newer > 0:
		return n, ErrCopyNewer
	case n.Ended > 0 && n.New+n.Updated+n.Same == 0:
		return n, ErrCopyEmpty
	case c.DryRun:
		return n, nil
	}
	write := c.newRun(false)
	err := errors.Join(write.all(ctx), write.refused())
	return write.count, err
}

// unused makes sure that no server works on To: what it ended or changed would be undone.
func (c *Copy) unused(ctx context.Context) error {
	replicas, err := replicasIn(ctx, c.To)
	if err != nil {
		return err
	}
	now := time.Now()
	if clock, ok := c.To.(store.Clock); ok {
		if now, err = clock.Now(ctx); err != nil {
			return &Unavailable{Err: err}
		}
	}
	for _, r := range replicas {
		if r.Lives(now) {
			return fmt.Errorf("%w: its last sign was at %s (one that is gone is forgotten after three minutes)", ErrInUse, r.Seen.UTC().Format(time.TimeOnly))
		}
	}
	return nil
}

// copyRun is one pass over both stores.
type copyRun struct {
	*Copy
	dry      bool
	managers []*Manager // only to open and seal

	mu    sync.Mutex
	count CopyCount
	seen  map[store.ID]bool // in From
	err   error
}

func (c *Copy) newRun(dry bool) *copyRun {
	r := &copyRun{Copy: c, dry: dry, seen: map[store.ID]bool{}}
	for _, f := range c.Frontends {
		r.managers = append(r.managers, &Manager{Options: Options{Frontend: f, Ring: c.Ring}})
	}
	return r
}

func (r *copyRun) all(ctx context.Context) error {
	err := scan(ctx, r.From, func(records []store.Record) error {
		limit := make(chan struct{}, copyWorkers)
		var wait sync.WaitGroup
		for _, rec := range records {
			r.seen[rec.ID] = true
			limit <- struct{}{}
			wait.Go(func() {
				defer func() { <-limit }()
				r.note(r.one(ctx, rec))
			})
		}
		wait.Wait()
		return r.err
	})
	if err != nil {
		return err
	}
	return r.endGone(ctx)
}

// note counts what became of a record.
func (r *copyRun) note(which *int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.err = err
	} else if which != nil {
		*which++
	}
}

// refused is the error of a pass that met something it must leave alone after the look before had seen nothing.
func (r *copyRun) refused() error {
	if r.count.Newer > 0 {
		return ErrCopyNewer
	}
	return nil
}

// one copies a record and returns the counter that it belongs to.
func (r *copyRun) one(ctx context.Context, rec store.Record) (*int, error) {
	switch {
	case len(rec.Blob) > 0 && (rec.Blob[0] == NoSession || rec.Blob[0] == 0 && rec.Head.Subject == replicasIndex):
		return nil, nil
	case len(rec.Blob) > 0 && rec.Blob[0] == 0:
		return r.mark(ctx, rec)
	}
	out, ours, ok := r.rewrap(rec)
	if !ok {
		return &r.count.Unreadable, nil
	}
	there, err := r.To.Load(ctx, rec.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		out.Version = 0
		return r.save(ctx, out, &r.count.New)
	case err != nil:
		return nil, &Unavailable{Err: err}
	}
	theirs := readable(there)
	switch {
	case untouched(there, theirs) && *theirs.Copied == *ours.Copied && there.Head.Subject == out.Head.Subject && r.Ring.Current(theirs.Key):
		return &r.count.Same, nil
	case untouched(there, theirs) && theirs.Copied.Version > rec.Version: // From is an older state of itself
		return &r.count.Newer, nil
	case untouched(there, theirs):
		out.Version = there.Version
		return r.save(ctx, out, &r.count.Updated)
	case bytes.Equal(theirs.Tokens, ours.Tokens): // a server has used or rewrapped it there, and no more
		return &r.count.Same, nil
	}
	return &r.count.Newer, nil
}

// readable is a record's envelope, an empty one where it cannot be read: whoever wrote that knows better.
func readable(rec store.Record) envelope {
	env, err := envelopeOf(rec)
	if err != nil {
		return envelope{}
	}
	return env
}

// untouched reports whether a record is as a copy left it.
func untouched(rec store.Record, env envelope) bool {
	return env.Copied != nil && env.Copied.Active == rec.Head.LastActive.UnixMilli()
}

func (r *copyRun) save(ctx context.Context, rec store.Record, which *int) (*int, error) {
	if r.dry {
		return which, nil
	}
	_, err := r.To.Save(ctx, rec)
	switch {
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotFound): // changed or ended there just now
		return &r.count.Newer, nil
	case err != nil:
		return nil, &Unavailable{Err: err}
	}
	return which, nil
}

// mark copies a mark. One that is there already stays: marks of one name differ by seconds at most.
func (r *copyRun) mark(ctx context.Context, rec store.Record) (*int, error) {
	if r.dry {
		return &r.count.Marks, nil
	}
	rec.Version = 0
	if _, err := r.To.Save(ctx, rec); err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
		return nil, &Unavailable{Err: err}
	}
	return &r.count.Marks, nil
}

// rewrap is a session's record as it is to be in To. Which frontend's it is only shows by what opens it.
func (r *copyRun) rewrap(rec store.Record) (store.Record, envelope, bool) {
	for _, m := range r.managers {
		out, _, err := m.Rewrap(rec)
		if err != nil {
			continue
		}
		env := readable(out)
		env.Copied = &copied{Version: rec.Version, Active: rec.Head.LastActive.UnixMilli()}
		body, err := cbor.Marshal(env)
		out.Blob = append([]byte{envelopeVersion}, body...)
		return out, env, err == nil
	}
	return rec, envelope{}, false
}

// endGone ends in To what a copy before has brought and what is not in From any more: it ended there meanwhile.
func (r *copyRun) endGone(ctx context.Context) error {
	return scan(ctx, r.To, func(records []store.Record) error {
		var gone []store.ID
		for _, rec := range records {
			env, err := envelopeOf(rec)
			if err != nil || r.seen[rec.ID] || !untouched(rec, env) {
				continue
			}
			switch _, err := r.From.Load(ctx, rec.ID); {
			case errors.Is(err, store.ErrNotFound):
				gone = append(gone, rec.ID)
			case err != nil:
				return &Unavailable{Err: err}
			}
		}
		r.count.Ended += len(gone)
		if r.dry || len(gone) == 0 {
			return nil
		}
		if err := r.To.Delete(ctx, gone...); err != nil {
			return &Unavailable{Err: err}
		}
		return nil
	})
}
