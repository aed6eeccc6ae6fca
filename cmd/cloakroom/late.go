package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// errNotYet is what every call gets until the store's server has answered for the first time.
var errNotYet = errors.New("the store's server has not answered yet")

// late is a store whose server was not there at the start. It goes on trying, and is that store from then on.
type late struct {
	there atomic.Pointer[server]
	ready chan struct{} // closed when there is set
	stop  context.CancelFunc
	done  chan struct{}
}

// openLate opens a store, or begins to try again and again when its server does not answer. Any other error is one.
func openLate(ctx context.Context, open func(context.Context) (server, error), log *slog.Logger) (*late, error) {
	l := &late{ready: make(chan struct{}), done: make(chan struct{})}
	st, err := open(ctx)
	switch {
	case err == nil:
		l.stop = func() {}
		l.found(st)
		close(l.done)
		return l, nil
	case !errors.Is(err, store.ErrUnreachable):
		return nil, err
	}
	log.Error("the store does not answer; trying again", "error", err)
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(l.done)
		for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			st, err := open(ctx)
			if err == nil {
				log.Info("the store answers")
				l.found(st)
				return
			}
			if !errors.Is(err, store.ErrUnreachable) {
				log.Error("the store cannot be used", "error", err)
			}
		}
	}()
	return l, nil
}

func (l *late) found(st server) {
	l.there.Store(&st)
	close(l.ready)
}

// Close ends the tries, or closes the store.
func (l *late) Close() error {
	l.stop()
	<-l.done
	if st := l.there.Load(); st != nil {
		return (*st).Close()
	}
	return nil
}

// use calls the store if it is there.
func use[T any](l *late, call func(server) (T, error)) (T, error) {
	if st := l.there.Load(); st != nil {
		return call(*st)
	}
	var none T
	return none, errNotYet
}

func only(err error) (struct{}, error) { return struct{}{}, err }

// Load implements store.Store, as do the methods below.
func (l *late) Load(ctx context.Context, id store.ID) (store.Record, error) {
	return use(l, func(s server) (store.Record, error) { return s.Load(ctx, id) })
}

func (l *late) Save(ctx context.Context, rec store.Record) (uint64, error) {
	return use(l, func(s server) (uint64, error) { return s.Save(ctx, rec) })
}

func (l *late) Delete(ctx context.Context, ids ...store.ID) error {
	_, err := use(l, func(s server) (struct{}, error) { return only(s.Delete(ctx, ids...)) })
	return err
}

func (l *late) Touch(ctx context.Context, touches []store.Touch) error {
	_, err := use(l, func(s server) (struct{}, error) { return only(s.Touch(ctx, touches)) })
	return err
}

func (l *late) Once(ctx context.Context, key string, expires time.Time) (bool, error) {
	return use(l, func(s server) (bool, error) { return s.Once(ctx, key, expires) })
}

func (l *late) Find(ctx context.Context, q store.Query) (store.Page, error) {
	return use(l, func(s server) (store.Page, error) { return s.Find(ctx, q) })
}

func (l *late) Ping(ctx context.Context) error {
	_, err := use(l, func(s server) (struct{}, error) { return only(s.Ping(ctx)) })
	return err
}

// Now implements store.Clock.
func (l *late) Now(ctx context.Context) (time.Time, error) {
	return use(l, func(s server) (time.Time, error) { return s.Now(ctx) })
}

// Watch implements store.Watcher.
func (l *late) Watch(ctx context.Context, f store.Feed) error {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	return (*l.there.Load()).Watch(ctx, f)
}

// Prune implements store.Pruner: a store whose records vanish on their own has nothing to do.
func (l *late) Prune(ctx context.Context, limit int) (int, error) {
	if st := l.there.Load(); st != nil {
		if p, ok := (*st).(store.Pruner); ok {
			return p.Prune(ctx, limit)
		}
	}
	return 0, nil
}
