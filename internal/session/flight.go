package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/store"
)

// flightTime bounds one conversation with the provider. It is the flight's own: clients that go away cancel nothing.
const flightTime = 30 * time.Second

// driver carries the things of one flight that the rules do not look at.
type driver struct {
	m        *Manager
	l        *Live
	exchange oidc.Exchange // the answer
	refused  error         // the answer is good to save, and the session over all the same
	loaded   *opened       // a newer token set
	err      error         // what waiters get, nil = look again
	degraded bool
	last     int // tries after the process was told to stop
}

// do carries out one effect and returns what came of it.
func (d *driver) do(e effect) stepEvent {
	switch e.do {
	case take:
		return d.take(e.lease)
	case release:
		return d.release(e.lease)
	case present:
		return d.present(e.until)
	case save:
		return d.save()
	case load:
		return d.load()
	case adopt:
		d.l.mu.Lock()
		d.l.show(false)
		d.l.mu.Unlock()
	case publish:
		d.publish()
	case revoke:
		d.revoke()
	case end:
		d.end(e.reason)
	}
	return nil
}

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

// present sends the refresh token, unless it is too late for that.
func (d *driver) present(until time.Duration) stepEvent {
	l, m := d.l, d.m
	if w := m.when(); w.mono > until {
		return failed{when: w, outcome: transient}
	}
	l.mu.Lock()
	old, s := l.open.tokens, l.open.session
	l.mu.Unlock()
	c, p := m.circuits[s.Provider], m.Providers[s.Provider]
	stop := d.beat()
	ctx, cancel := context.WithTimeout(context.Background(), flightTime)
	x, err := p.Provider.Refresh(ctx, old, oidc.Expect{Issuer: s.Issuer, Subject: s.Subject, AuthTime: s.AuthTime})
	cancel()
	stop()
	if err != nil && !oidc.IsKind(err, oidc.Rejected) {
		return d.failed(err, c)
	}
	if err != nil && x.Tokens.Access == "" { // nothing came that could be used
		return d.failed(err, c)
	}
	c.worked()
	d.refused = err
	x.Tokens = m.dated(x.Tokens)
	x.Tokens.Generation = old.Generation + 1
	d.exchange = x
	rotated := x.Tokens.Refresh != old.Refresh
	if rotated {
		c.rotates.Store(true)
	}
	return answered{when: m.when(), rotated: rotated}
}

// failed classifies what the provider said.
func (d *driver) failed(err error, c *circuit) stepEvent {
	e := failed{when: d.m.when()}
	var oe *oidc.Error
	if !errors.As(err, &oe) {
		oe = &oidc.Error{Kind: oidc.Ambiguous, Err: err}
	}
	e.retryAfter = oe.RetryAfter
	switch oe.Kind {
	case oidc.Definitive:
		e.outcome = definitive
		c.worked()
		return e
	case oidc.StepUp:
		e.outcome = stepUp
		c.worked()
		d.err = nil
		return e
	case oidc.Ambiguous, oidc.Rejected:
		e.outcome = ambiguous
	case oidc.Transient, oidc.Misconfigured:
		e.outcome = transient
	}
	c.failed(e.now, e.jitter, e.retryAfter)
	d.degraded = true
	return e
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
	if err != nil {
		return nil, err
	}
	advance(&l.active, rec.Head.LastActive.UnixNano())
	d.loaded = o
	switch ours := *l.open; {
	case o.tokens.Generation == ours.tokens.Generation:
		l.open = o
	case o.tokens.Generation < ours.tokens.Generation:
		ours.record.Version = rec.Version
		l.open = &ours
	}
	return o, nil
}

// publish lets callers use what was saved. An ID token of somebody else ends the session now that nothing is lost.
func (d *driver) publish() {
	d.l.mu.Lock()
	d.l.show(false)
	d.l.mu.Unlock()
	if d.refused == nil {
		return
	}
	var e *oidc.Error
	reason := ReasonRefreshRejected
	if errors.As(d.refused, &e) && e.Code == ReasonSubjectChanged {
		reason = ReasonSubjectChanged
		d.m.emit(event.Audit{Kind: event.SubjectChanged, Provider: d.l.Session().Provider, Session: d.l.Session().Handle})
	}
	d.end(reason)
	d.revoke()
}

func (d *driver) revoke() {
	if d.exchange.Tokens.Access == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), revokeTime)
	defer cancel()
	p := d.m.Providers[d.l.Session().Provider]
	if err := p.Provider.Revoke(ctx, d.exchange.Tokens); err != nil {
		d.m.emit(event.Audit{Kind: event.SessionEnded, Session: d.l.Session().Handle, Revoked: "no", Detail: fmt.Sprintf("revoking what a late refresh brought: %v", err)})
	}
}

// end ends the session for a reason that the refresh found. If the store does not answer the session is over in
// this process all the same, and its record ends by its own time.
func (d *driver) end(reason string) {
	if reason == "" {
		reason = ReasonEndedElsewhere
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	mine, err := d.m.over(ctx, d.l, reason)
	if err != nil {
		d.l.finish(reason)
		mine = d.l.settled.CompareAndSwap(false, true)
	}
	if mine {
		s := d.l.Session()
		a := event.Audit{Kind: event.SessionEnded, Provider: s.Provider, Session: s.Handle, Reason: reason, Revoked: "no"}
		if err != nil {
			a.Detail = err.Error()
		}
		d.m.emit(a)
		switch reason {
		case ReasonRefreshRejected:
			d.m.emit(event.Audit{Kind: event.RefreshRejected, Provider: s.Provider, Session: s.Handle})
		case ReasonRefreshLost:
			d.m.emit(event.Audit{Kind: event.RefreshLost, Provider: s.Provider, Session: s.Handle})
		}
	}
	d.err = ErrEnded
}

// sleep waits before an effect. When the process is told to stop, what is in memory is to be saved before it is gone:
// a few more tries follow quickly. Who has nothing to save stops. false: enough.
func (d *driver) sleep(e effect) bool {
	closing, news := d.m.closing.Done(), d.l.news
	if !e.news {
		news = nil
	}
	if d.m.closing.Err() != nil {
		if d.last++; d.last > 10 || d.exchange.Tokens.Access == "" {
			return d.giveUp()
		}
		closing, e.wait = nil, min(e.wait, 200*time.Millisecond)
	}
	timer := time.NewTimer(e.wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-news:
	case <-closing:
	}
	return true
}

// giveUp ends a flight of a process that is told to stop.
func (d *driver) giveUp() bool {
	d.err = &Unavailable{Err: context.Canceled}
	if d.exchange.Tokens.Access != "" {
		d.emitLost()
	}
	return false
}

func (d *driver) emitLost() {
	d.m.emit(event.Audit{
		Kind: event.RefreshLost, Session: d.l.Session().Handle,
		Detail: "the store did not take the new token set before the process ended",
	})
}
