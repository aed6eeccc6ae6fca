package session

import (
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
)

// What a flight has to do with its provider's circuit: it waits for its turn, takes a slot, and tells how it went.

// queue waits for a turn. What another process saved meanwhile is looked at first.
func (d *driver) queue(patience time.Duration) stepEvent {
	c, now := d.circuit, time.Now()
	if d.turn == nil {
		var wait time.Duration
		if d.turn, wait = c.turn(now, patience); d.turn == nil {
			return d.hold(d.m.when().now.Add(wait))
		}
	}
	if again := d.wait(d.turn.DelayFrom(now), nil); again != nil {
		return again
	}
	if again := d.wait(patience, c.slots); again != nil {
		return again
	}
	w, ok := d.m.when(), false
	c.change(func(b breaker) breaker {
		b, d.probe, ok = b.enter(w.now)
		return b
	})
	if !ok {
		d.degraded = true
		return d.hold(c.look().hold(w.now))
	}
	return admitted{w}
}

// wait lets the time pass, or until there is a slot. nil: it is so.
func (d *driver) wait(most time.Duration, slots chan<- struct{}) stepEvent {
	if slots == nil && most <= 0 || d.place {
		return nil
	}
	select {
	case slots <- struct{}{}:
		d.place = true
		return nil
	default:
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case slots <- struct{}{}:
		d.place = true
		return nil
	case <-timer.C:
		if slots == nil {
			return nil
		}
	case <-d.l.news:
		return d.load()
	case <-d.m.closing.Done():
	}
	return d.hold(d.m.when().now.Add(firstBackoff))
}

// hold gives the turn back.
func (d *driver) hold(until time.Time) stepEvent {
	d.left()
	return held{d.m.when(), until}
}

// left: whatever was taken at the provider is given back, once.
func (d *driver) left() {
	if d.turn != nil {
		d.turn.CancelAt(time.Now())
		d.turn = nil
	}
	d.leave()
	if d.probe {
		d.probe = false
		d.circuit.change(breaker.left)
	}
}

func (d *driver) leave() {
	if d.place {
		d.place = false
		<-d.circuit.slots
	}
}

// worked: the provider gave an OAuth answer, so it is well.
func (d *driver) worked() {
	d.probe = false
	d.leave()
	now := d.m.when().now
	if was, is := d.circuit.change(func(b breaker) breaker { return b.worked(now) }); was.opened > 0 && is.opened == 0 {
		d.m.emit(event.Audit{Kind: event.ProviderWell, Provider: d.l.Session().Provider})
	}
}

// unwell: it did not. The session goes on with the token it has.
func (d *driver) unwell(w when, retryAfter time.Duration) {
	d.degraded = true
	probe := d.probe
	d.probe = false
	d.leave()
	if was, is := d.circuit.change(func(b breaker) breaker { return b.failed(w, probe, retryAfter) }); was.opened == 0 && is.opened > 0 {
		d.m.emit(event.Audit{Kind: event.ProviderIll, Provider: d.l.Session().Provider, Detail: "refreshing waits, and one session at a time asks whether it is well again"})
	}
}
