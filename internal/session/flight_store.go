package session

import (
	"context"
	"errors"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// What a flight reads and writes in the store. Every write is a compare-and-swap.

// take writes our lease into the record.
func (d *driver) take(ls lease) stepEvent {
	began := d.m.when().mono
	version, err := d.write(ls)
	if err != nil {
		return d.unsaved(err)
	}
	return leased{when: d.m.when(), lease: ls, version: version, began: began}
}

// release writes what became of our lease.
func (d *driver) release(ls lease) stepEvent {
	if _, err := d.write(ls); err != nil {
		return d.unsaved(err)
	}
	return released{when: d.m.when()}
}

// mark writes that the session is over. Unlike a deletion it cannot hit what another process saved meanwhile, however
// long this one stood still since it looked.
func (d *driver) mark(ls lease) stepEvent {
	if _, err := d.write(ls); err != nil {
		return d.unsaved(err)
	}
	return marked{when: d.m.when()}
}

// write saves the record that is open with another lease; all that is sealed stays as it is.
func (d *driver) write(ls lease) (uint64, error) {
	l, m := d.l, d.m
	l.mu.Lock()
	o := *l.open
	l.mu.Unlock()
	env, err := envelopeOf(o.record)
	if err != nil {
		return 0, err
	}
	env.Copied = nil // a server uses it now
	if o.record.Blob, err = env.with(ls); err != nil {
		return 0, err
	}
	o.record.Head.LastActive, o.lease = time.Unix(0, l.active.Load()), ls
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	if o.record.Version, err = m.Store.Save(ctx, o.record); err != nil {
		return 0, err
	}
	l.mu.Lock()
	l.open = &o
	l.mu.Unlock()
	return o.record.Version, nil
}

// unsaved says why a write did not succeed.
func (d *driver) unsaved(err error) stepEvent {
	why := unavailable
	switch {
	case errors.Is(err, store.ErrConflict):
		why = conflict
	case errors.Is(err, store.ErrNotFound):
		why = gone
	}
	return unsaved{when: d.m.when(), why: why}
}

// beat renews the lease until stop is called, so that those who wait see that somebody is at it.
func (d *driver) beat() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(leaseBeat)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			d.l.mu.Lock()
			ls := d.l.open.lease
			d.l.mu.Unlock()
			if _, err := d.write(ls); errors.Is(err, store.ErrConflict) && !d.still(ls) || errors.Is(err, store.ErrNotFound) {
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// still reads a record again that changed under our lease, and reports whether the lease is still ours.
func (d *driver) still(ls lease) bool {
	o, err := d.read()
	return err != nil || o.lease == ls
}

// save writes the new token set before anyone uses it, and gives the lease back with it.
func (d *driver) save() stepEvent {
	l, m := d.l, d.m
	l.mu.Lock()
	o := *l.open
	rotates := l.state.rotates
	l.mu.Unlock()
	o.tokens, o.rotates, o.lease = d.exchange.Tokens, rotates, lease{}
	o.session, o.providerEnd = renewedSession(o.session, o.providerEnd, d.exchange.Claims)
	o.record.Head.LastActive = time.Unix(0, l.active.Load())
	if err := m.encode(&o); err != nil {
		return d.unsaved(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	version, err := m.Store.Save(ctx, o.record)
	if err != nil {
		return d.unsaved(err)
	}
	o.record.Version = version
	l.mu.Lock()
	l.open = &o
	l.mu.Unlock()
	m.Feed.saved(m, &o)
	w := m.when()
	return saved{when: w, record: o.facts(w)}
}

// load reads the record again, with the data key that is at hand.
func (d *driver) load() stepEvent {
	o, err := d.read()
	w := d.m.when()
	switch {
	case errors.Is(err, errOver):
		return reread{when: w, gone: true, record: record{lease: o.lease}}
	case errors.Is(err, store.ErrNotFound), errors.Is(err, errRecord):
		return reread{when: w, gone: true}
	case err != nil:
		return reread{when: w, failed: true}
	}
	return reread{when: w, record: o.facts(w)}
}

// read opens the record as it is in the store now. It becomes the one in use, unless its token set is a newer one:
// that is for the rules to say. If it is an older one, a failover took ours back, and what is written next goes over it.
func (d *driver) read() (*opened, error) {
	l, m := d.l, d.m
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	rec, err := m.Store.Load(ctx, l.id)
	if err != nil {
		return nil, err
	}
	env, err := envelopeOf(rec)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	o, err := m.decodeWith(rec, env, l.open.key)
	if errors.Is(err, errOver) {
		return &opened{lease: env.lease()}, err
	}
	if err != nil {
		return nil, err
	}
	advance(&l.active, rec.Head.LastActive.UnixNano())
	d.loaded = o
	switch ours := *l.open; {
	case o.tokens.Generation == ours.tokens.Generation && o.tokens.Expires.Equal(ours.tokens.Expires):
		l.open = o
	case o.tokens.Generation <= ours.tokens.Generation:
		ours.record.Version = rec.Version
		l.open = &ours
	}
	return o, nil
}
