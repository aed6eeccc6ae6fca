package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/oidc"
)

// flightTime bounds one conversation with the provider. It is the flight's own: clients that go away cancel nothing.
const flightTime = 30 * time.Second

// driver carries the things of one flight that the rules do not look at.
type driver struct {
	m        *Manager
	l        *Live
	target   oidc.Target // what the access token is to be for
	circuit  *circuit
	turn     *rate.Reservation // at the provider
	place    bool              // one of the provider's slots is ours
	probe    bool              // whether the provider is well again is ours to find out
	exchange oidc.Exchange     // the answer
	refused  error             // the answer is good to save, and the session over all the same
	loaded   *opened           // a newer token set
	said     *oidc.Error       // with which words the provider refused for good
	err      error             // what waiters get, nil = look again
	degraded bool
	last     int // tries after the process was told to stop
}

// do carries out one effect and returns what came of it.
func (d *driver) do(e effect) stepEvent {
	switch e.do {
	case queue:
		return d.queue(e.patience)
	case take:
		return d.take(e.lease)
	case release:
		return d.release(e.lease)
	case present:
		return d.present(e.until)
	case save:
		return d.save()
	case load:
		if e.news { // another process is at it
			d.left()
		}
		return d.load()
	case adopt:
		d.l.mu.Lock()
		d.l.show(false)
		d.l.mu.Unlock()
	case publish:
		d.publish()
	case revoke:
		d.revoke()
	case mark:
		return d.mark(e.lease)
	case end:
		d.end(e.reason)
	}
	return nil
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
	p := m.Providers[s.Provider]
	if d.turn == nil { // the one more time within the provider's window: nobody waits, but it counts
		d.circuit.pace.AllowN(time.Now(), 1)
	}
	d.turn = nil
	stop := d.beat()
	ctx, cancel := context.WithTimeout(context.Background(), flightTime)
	x, err := p.Provider.Refresh(ctx, old, d.target, oidc.Expect{Issuer: s.Issuer, Subject: s.Subject, AuthTime: s.AuthTime})
	cancel()
	stop()
	if err != nil && !oidc.IsKind(err, oidc.Rejected) {
		return d.failed(err)
	}
	if err != nil && x.Tokens.Access == "" { // nothing came that could be used
		return d.failed(err)
	}
	d.worked()
	d.refused = err
	x.Tokens.Generation = old.Generation + 1
	x.Tokens = m.dated(x.Tokens, old)
	d.exchange = x
	rotated := x.Tokens.Refresh != old.Refresh
	if rotated {
		d.circuit.rotates.Store(true)
	}
	return answered{when: m.when(), rotated: rotated}
}

// failed classifies what the provider said.
func (d *driver) failed(err error) stepEvent {
	e := failed{when: d.m.when()}
	var oe *oidc.Error
	if !errors.As(err, &oe) {
		oe = &oidc.Error{Kind: oidc.Ambiguous, Err: err}
	}
	e.retryAfter = oe.RetryAfter
	if d.target != (oidc.Target{}) && says(oe) {
		e.outcome = denied
		d.l.deny(d.target, oe, e.when)
		d.worked()
		return e
	}
	switch oe.Kind {
	case oidc.Definitive:
		e.outcome = definitive
		d.said = oe
		d.worked()
		return e
	case oidc.StepUp:
		e.outcome = stepUp
		d.l.demanded(oe)
		d.worked()
		d.err = nil
		return e
	case oidc.Ambiguous, oidc.Rejected:
		e.outcome = ambiguous
	case oidc.Transient, oidc.Misconfigured:
		e.outcome = transient
	}
	d.unwell(e.when, e.retryAfter)
	return e
}

// publish lets callers use what was saved. An ID token of somebody else ends the session now that nothing is lost.
func (d *driver) publish() {
	d.l.mu.Lock()
	d.l.demand = demand{}
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
			d.m.emit(event.Audit{Kind: event.RefreshRejected, Provider: s.Provider, Session: s.Handle, Detail: d.refusal()})
		case ReasonRefreshLost:
			d.m.emit(event.Audit{Kind: event.RefreshLost, Provider: s.Provider, Session: s.Handle})
		}
	}
	d.err = ErrEnded
}

// refusal is what the provider said, in words that are safe to log.
func (d *driver) refusal() string {
	if d.said == nil {
		return ""
	}
	return strings.TrimSpace(d.said.Code + " " + string(d.said.Meaning))
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
