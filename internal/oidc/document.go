package oidc

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	fetchTime    = 10 * time.Second
	firstBackoff = time.Second
	mostBackoff  = 30 * time.Second
)

// fitness says how well a document serves a caller.
type fitness int

const (
	fit   fitness = iota
	stale         // serves, and is asked for again meanwhile
	unfit         // wait for another one, if it may be asked for
)

// document is something that the provider publishes and we keep: its metadata, its keys. All who need it at once wait
// for one fetch, which goes on when they go away. A fetch that fails is tried again with backoff, and what was there
// before serves on. pause is how long after a good fetch no other one may follow, whatever callers need.
type document[T any] struct {
	load  func(context.Context) (*T, error)
	pause time.Duration

	mu       sync.Mutex
	value    *T // the last good one
	loaded   time.Time
	err      error     // why the last fetch failed; nil after a good one
	next     time.Time // no fetch before
	failures int
	flight   chan struct{} // closed when the running fetch is over
}

// peek returns what is at hand and how the last fetch failed, if it did.
func (d *document[T]) peek() (*T, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.value, d.err
}

// get returns the document after at most one fetch. With an error it may still return what was there before; asked
// tells whether a fetch was waited for.
func (d *document[T]) get(ctx context.Context, judge func(*T, time.Duration) fitness) (v *T, asked bool, err error) {
	for ; ; asked = true {
		d.mu.Lock()
		now := time.Now()
		state := unfit
		if d.value != nil {
			state = judge(d.value, now.Sub(d.loaded))
		}
		if state != fit && !asked && d.flight == nil && !now.Before(d.next) {
			d.flight = make(chan struct{})
			go d.fetch()
		}
		v, err, flight := d.value, d.failure(now), d.flight
		d.mu.Unlock()
		if state != unfit || asked || flight == nil {
			return v, asked, err
		}
		select {
		case <-flight:
		case <-ctx.Done():
			return v, false, &Error{Kind: Transient, Act: "discovery", Err: ctx.Err()}
		}
	}
}

// failure is the last fetch's error, with the time left until the next.
func (d *document[T]) failure(now time.Time) error {
	var e *Error
	if !errors.As(d.err, &e) {
		return d.err
	}
	told := *e
	told.RetryAfter = max(e.RetryAfter, d.next.Sub(now))
	return &told
}

// fetch asks and keeps what comes of it.
func (d *document[T]) fetch() {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTime)
	defer cancel()
	v, err := d.load(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.flight)
	d.flight, d.err = nil, err
	now := time.Now()
	if err != nil {
		d.next = now.Add(min(firstBackoff<<min(d.failures, 6), mostBackoff))
		d.failures++
		return
	}
	d.value, d.loaded, d.next, d.failures = v, now, now.Add(d.pause), 0
}
