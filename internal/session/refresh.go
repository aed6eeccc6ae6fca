package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/store"
)

const (
	// flightTime bounds one conversation with the provider. It is the flight's own: clients that go away cancel
	// nothing.
	flightTime = 30 * time.Second
	// waitTime is how long one request waits for a flight before it is told to come again.
	waitTime = 40 * time.Second
)

// Fresh returns an access token that is not over. Close to its end one refresh runs ahead while everyone goes on
// with the valid one; past its end callers wait for the one result.
//
// Errors: ErrEnded, ErrStepUp, *Unavailable. For a fresh token it takes no lock and allocates nothing.
func (m *Manager) Fresh(ctx context.Context, l *Live) (oidc.TokenSet, error) {
	v := l.view.Load()
	if l.over.Load() {
		return oidc.TokenSet{}, ErrEnded
	}
	if v.freshTil.IsZero() || m.now().Before(v.freshTil) {
		return v.tokens, nil
	}
	return m.freshen(ctx, l, false)
}

// Renew is asked after an upstream said invalid_token about the token of this generation. It returns the current
// token if that is a newer one, else refreshes, at most once per generation. false: there is nothing newer to try.
func (m *Manager) Renew(ctx context.Context, l *Live, rejected uint64) (oidc.TokenSet, bool, error) {
	if v := l.view.Load(); v.tokens.Generation > rejected {
		t, err := m.Fresh(ctx, l)
		return t, err == nil, err
	}
	l.mu.Lock()
	asked := l.state.forced && l.flight == nil
	l.mu.Unlock()
	if asked {
		return oidc.TokenSet{}, false, nil
	}
	t, err := m.freshen(ctx, l, true)
	var u *Unavailable
	if errors.As(err, &u) || errors.Is(err, ErrStepUp) {
		return oidc.TokenSet{}, false, nil // the session stays; the upstream's own answer is the better one
	}
	return t, err == nil && t.Generation > rejected, err
}

// Rejected is told that a renewed token of this generation was rejected, too: refreshing does not help, so the
// upstream's answers pass through for this generation.
func (m *Manager) Rejected(l *Live, generation uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.generation == generation {
		l.state.forced = true
	}
}

// freshen sees to it that a refresh runs if the rules want one, and waits for it where there is no valid token.
func (m *Manager) freshen(ctx context.Context, l *Live, force bool) (oidc.TokenSet, error) {
	deadline := time.NewTimer(waitTime)
	defer deadline.Stop()
	for {
		t, f, err := m.want(l, force)
		if f == nil {
			return t, err
		}
		select {
		case <-f.done:
			if f.err != nil {
				return oidc.TokenSet{}, f.err
			}
			force = false
		case <-ctx.Done():
			return oidc.TokenSet{}, &Unavailable{Err: ctx.Err()}
		case <-deadline.C:
			return oidc.TokenSet{}, &Unavailable{RetryAfter: 5 * time.Second, Err: errors.New("the refresh takes long")}
		}
	}
}

// want tells the rules that a token is wanted. It returns the token to use, or the flight to wait for, or why
// there is neither.
func (m *Manager) want(l *Live, force bool) (oidc.TokenSet, *flight, error) {
	now := m.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.phase == over || l.over.Load() {
		return oidc.TokenSet{}, nil, ErrEnded
	}
	hold := m.circuits[l.open.session.Provider].holds()
	var effects []effect
	l.state, effects = step(l.state, needed{now: now, hold: hold, force: force})
	if len(effects) > 0 {
		l.flight = &flight{done: make(chan struct{})}
		f := l.flight
		m.work.Go(func() { m.fly(l, f, effects) })
	}
	switch {
	case l.flight != nil && (force || !l.state.liveAt(now)):
		return oidc.TokenSet{}, l.flight, nil
	case l.state.liveAt(now):
		return l.open.tokens, nil, nil
	case l.state.stepUp:
		return oidc.TokenSet{}, nil, ErrStepUp
	case !l.state.canRefresh:
		return oidc.TokenSet{}, nil, ErrEnded
	}
	at := l.state.notBefore
	if hold.After(at) {
		at = hold
	}
	return oidc.TokenSet{}, nil, &Unavailable{RetryAfter: max(at.Sub(now), time.Second), Err: errors.New("the provider does not give a token now")}
}

// fly does what the rules say until they have nothing more to say. It is the only place that presents a refresh
// token, and there is one flight per session.
func (m *Manager) fly(l *Live, f *flight, todo []effect) {
	d := &driver{m: m, l: l}
	for len(todo) > 0 {
		e := todo[0]
		todo = todo[1:]
		if e.wait > 0 && !d.sleep(e.wait) {
			break
		}
		next := d.do(e)
		if next == nil {
			continue
		}
		l.mu.Lock()
		var more []effect
		l.state, more = step(l.state, next)
		l.mu.Unlock()
		todo = append(todo, more...)
	}
	l.mu.Lock()
	f.err = d.err
	if l.state.phase == over && f.err == nil {
		f.err = ErrEnded
	}
	l.flight = nil
	l.show(d.degraded)
	l.mu.Unlock()
	close(f.done)
}

// driver carries the things of one flight that the rules do not look at.
type driver struct {
	m        *Manager
	l        *Live
	exchange oidc.Exchange // the answer
	refused  error         // the answer is good to save, and the session over all the same
	loaded   *opened
	err      error // what waiters get, nil = look again
	degraded bool
	last     int // tries after the process was told to stop
}

// do carries out one effect and returns what came of it.
func (d *driver) do(e effect) stepEvent {
	switch e.do {
	case present:
		return d.present()
	case save:
		return d.save()
	case load:
		return d.load()
	case adopt:
		d.l.mu.Lock()
		d.l.take(d.loaded)
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

func (d *driver) present() stepEvent {
	l, m := d.l, d.m
	l.mu.Lock()
	old, s := l.open.tokens, l.open.session
	l.mu.Unlock()
	p := m.Providers[s.Provider]
	ctx, cancel := context.WithTimeout(context.Background(), flightTime)
	defer cancel()
	x, err := p.Provider.Refresh(ctx, old, oidc.Expect{Issuer: s.Issuer, Subject: s.Subject, AuthTime: s.AuthTime})
	c := m.circuits[s.Provider]
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
	return answered{now: m.now(), rotated: rotated}
}

// failed classifies what the provider said.
func (d *driver) failed(err error, c *circuit) stepEvent {
	e := failed{now: d.m.now(), jitter: rand.Float64()} //nolint:gosec // jitter is no secret
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

// save writes the new token set before anyone uses it.
func (d *driver) save() stepEvent {
	l, m := d.l, d.m
	l.mu.Lock()
	o := *l.open
	if d.loaded != nil { // merge into what was loaded after a conflict
		o.record, o.sealedKey = d.loaded.record, d.loaded.sealedKey
	}
	rotates := l.state.rotates
	l.mu.Unlock()
	o.tokens, o.rotates = d.exchange.Tokens, rotates
	o.session, o.providerEnd = renewedSession(o.session, o.providerEnd, d.exchange.Claims)
	o.record.Head.LastActive = time.Unix(0, l.active.Load())
	now := m.now()
	if err := m.encode(&o); err != nil {
		return unsaved{now: now, why: unavailable}
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	version, err := m.Store.Save(ctx, o.record)
	switch {
	case err == nil:
		o.record.Version = version
		l.mu.Lock()
		l.open = &o
		l.mu.Unlock()
		m.Feed.wrote(m, l.id, &o)
		t := o.tokens
		return saved{
			now: now, generation: t.Generation, expires: t.Expires, canRefresh: t.Refresh != "",
			lead: leadOf(t.Expires.Sub(t.Obtained), rand.Float64()), //nolint:gosec // jitter
		}
	case errors.Is(err, store.ErrConflict):
		return unsaved{now: now, why: conflict}
	case errors.Is(err, store.ErrNotFound):
		return unsaved{now: now, why: gone}
	}
	return unsaved{now: now, why: unavailable, jitter: rand.Float64()} //nolint:gosec // jitter
}

// load reads the record again, with the data key that is at hand.
func (d *driver) load() stepEvent {
	l, m := d.l, d.m
	now, jitter := m.now(), rand.Float64() //nolint:gosec // jitter
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	rec, err := m.Store.Load(ctx, l.id)
	if errors.Is(err, store.ErrNotFound) {
		return reread{now: now, gone: true}
	}
	if err != nil {
		return reread{now: now, failed: true, jitter: jitter}
	}
	l.mu.Lock()
	key := l.open.key
	l.mu.Unlock()
	env, err := envelopeOf(rec)
	if err == nil {
		d.loaded, err = m.decodeWith(rec, env, key)
	}
	if err != nil {
		return reread{now: now, failed: !errors.Is(err, errRecord), gone: errors.Is(err, errRecord), jitter: jitter}
	}
	t := d.loaded.tokens
	return reread{
		now: now, generation: t.Generation, expires: t.Expires, canRefresh: t.Refresh != "",
		lead: leadOf(t.Expires.Sub(t.Obtained), jitter),
	}
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
	err := d.m.Store.Delete(ctx, d.l.id)
	if err == nil {
		d.m.Feed.wrote(d.m, d.l.id, nil)
	}
	if d.l.finish(reason) {
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

// sleep waits between tries. When the process is told to stop a few more tries follow quickly: what is in memory
// is to be saved before it is gone. false: enough.
func (d *driver) sleep(wait time.Duration) bool {
	closing := d.m.closing.Done()
	if d.m.closing.Err() != nil {
		if d.last++; d.last > 10 {
			d.m.emit(event.Audit{Kind: event.RefreshLost, Session: d.l.Session().Handle, Detail: "the store did not take the new token set before the process ended"})
			d.err = ErrEnded
			return false
		}
		closing, wait = nil, min(wait, 200*time.Millisecond)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-closing:
	}
	return true
}
