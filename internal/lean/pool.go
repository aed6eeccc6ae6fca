package lean

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"time"
)

// When many requests come at once, not each dials: those that wait a moment take the connections that the first ones
// are done with.
const (
	dialsAtOnce = 16
	dialPause   = 50 * time.Millisecond // then it is no burst: the upstream is slow, and nobody waits for others
)

// dialing is a dial in progress. It belongs to no request: whoever waits longest gets the connection. So with an error,
// but only if the dial began after the wait did: an older one says how things were.
type dialing struct {
	cancel context.CancelFunc
	since  time.Time
}

// waiter is a request that waits for a connection.
type waiter struct {
	ctx        context.Context
	since      time.Time
	begun      int         // how many dials had begun by then
	ready      chan result // has room for the one result
	prev, next *waiter
	in         bool // in the line
}

type result struct {
	c   *conn
	err error
}

// waiters is the line.
type waiters struct {
	first, last *waiter
	n           int
}

func (l *waiters) len() int { return l.n }

func (l *waiters) push(w *waiter) {
	w.in, w.prev = true, l.last
	if l.last != nil {
		l.last.next = w
	} else {
		l.first = w
	}
	l.last = w
	l.n++
}

// remove takes a waiter out of the line and says whether it was in it.
func (l *waiters) remove(w *waiter) bool {
	if !w.in {
		return false
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.last = w.prev
	}
	w.in, w.prev, w.next = false, nil, nil
	l.n--
	return true
}

// serve gives a result to the one who waits longest, and says whether there is one.
func (l *waiters) serve(r result) bool {
	w := l.first
	if w == nil {
		return false
	}
	l.remove(w)
	w.ready <- r
	return true
}

// take returns a connection for a request. One that is sent again does not try its luck with another idle one, since an
// upstream that ends closes them all; one that was in use until now may come first.
func (t *Transport) take(ctx context.Context, trace *httptrace.ClientTrace, req *http.Request, again bool) (*conn, error) {
	if ctx.Err() != nil {
		return nil, canceled(ctx)
	}
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(req.URL.Host)
	}
	for {
		c, err := t.next(ctx, again)
		if err != nil {
			return nil, err
		}
		if c.reused && !c.usable() {
			c.kill()
			continue
		}
		if trace != nil && trace.GotConn != nil {
			info := httptrace.GotConnInfo{Conn: c.nc, Reused: c.reused, WasIdle: !c.idleSince.IsZero()}
			if info.WasIdle {
				info.IdleTime = time.Since(c.idleSince)
			}
			trace.GotConn(info)
		}
		return c, nil
	}
}

// next returns an idle connection unless one in use or a new one is asked for, or waits for one.
func (t *Transport) next(ctx context.Context, notIdle bool) (*conn, error) {
	t.mu.Lock()
	t.closeIdle = false
	n := len(t.idle)
	if n > 0 && !notIdle {
		c := t.idle[n-1]
		t.idle[n-1] = nil
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		return c, nil
	}
	var inPlaceOf *conn
	if n > 0 && !t.room() {
		inPlaceOf = t.idle[0]
		t.idle = slices.Delete(t.idle, 0, 1)
	}
	w := &waiter{ctx: ctx, since: time.Now(), begun: t.begun, ready: make(chan result, 1)}
	t.waiting.push(w)
	t.dialMore()
	t.mu.Unlock()
	if inPlaceOf != nil {
		inPlaceOf.retire() // which dials
	}
	return t.wait(w)
}

func (t *Transport) wait(w *waiter) (*conn, error) {
	pause := time.NewTimer(dialPause)
	defer pause.Stop()
	for {
		select {
		case r := <-w.ready:
			return r.c, r.err
		case <-pause.C:
			t.mu.Lock()
			if w.in && (t.wantsDial() || t.begun == w.begun) { // what began before may all hang
				t.dialAnew(w)
			}
			t.mu.Unlock()
		case <-w.ctx.Done():
			t.mu.Lock()
			waited := t.waiting.remove(w)
			t.mu.Unlock()
			if !waited { // what came at the same moment is for the next one
				if r := <-w.ready; r.c != nil {
					t.put(r.c)
				}
			}
			return nil, canceled(w.ctx)
		}
	}
}

// room says whether there may be one connection more.
func (t *Transport) room() bool { return t.opt.MaxConns <= 0 || t.open < t.opt.MaxConns }

// dialMore begins as many dials as there are requests waiting, but no more than a few at once.
func (t *Transport) dialMore() {
	for len(t.dials) < min(t.waiting.len(), dialsAtOnce) && t.room() {
		t.dial(t.waiting.last.ctx)
	}
}

// wantsDial says whether there is a request more waiting than dials in progress. Those that are older than who waits are
// left from requests that are gone: they may hang.
func (t *Transport) wantsDial() bool {
	fresh, oldest := 0, t.waiting.first.since
	for d := range t.dials {
		if !d.since.Before(oldest) {
			fresh++
		}
	}
	return fresh < t.waiting.len()
}

// dialAnew dials for who has waited in vain. The oldest dial that is left from a request that is gone is given up if there
// are many of them, or if they take the room.
func (t *Transport) dialAnew(w *waiter) {
	room := t.room()
	if room {
		t.dial(w.ctx)
	}
	if room && len(t.dials) <= t.waiting.len()+dialsAtOnce {
		return
	}
	var oldest *dialing
	for d := range t.dials {
		if d.since.Before(t.waiting.first.since) && (oldest == nil || d.since.Before(oldest.since)) {
			oldest = d
		}
	}
	if oldest != nil {
		t.giveUp(oldest)
	}
}

// giveUp ends a dial of which nobody is to hear.
func (t *Transport) giveUp(d *dialing) {
	d.cancel()
	delete(t.dials, d)
}

func (t *Transport) dial(of context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(of), t.opt.DialTimeout)
	d := &dialing{cancel, time.Now()}
	t.dials[d] = struct{}{}
	t.begun++
	t.open++
	go func() {
		defer cancel()
		nc, err := t.opt.Dial(ctx)
		t.dialed(d, nc, err)
	}()
}

func (t *Transport) dialed(d *dialing, nc net.Conn, err error) {
	if err != nil {
		t.mu.Lock()
		_, wanted := t.dials[d] // else it was given up
		delete(t.dials, d)
		t.open--
		w := t.waiting.first
		theirs := w != nil && wanted && !d.since.Before(w.since)
		if theirs {
			t.waiting.serve(result{err: err})
		}
		t.dialMore()
		if w != nil && !theirs && t.room() && t.wantsDial() { // it may have waited for this one alone
			t.dialAnew(w)
		}
		t.mu.Unlock()
		return
	}
	c := t.newConn(nc)
	t.mu.Lock()
	delete(t.dials, d)
	t.mu.Unlock()
	t.put(c)
}

// put gives a connection back that can be used again, and says whether it is kept.
func (t *Transport) put(c *conn) bool {
	t.mu.Lock()
	if t.waiting.serve(result{c: c}) {
		t.dialMore()
		t.mu.Unlock()
		return true
	}
	if len(t.idle) >= t.opt.MaxIdle || t.closeIdle {
		t.mu.Unlock()
		c.retire()
		return false
	}
	c.reused, c.idleSince = true, time.Now() // also a new one that nobody waited for: it is looked at before it is used
	t.idle = append(t.idle, c)
	if t.opt.IdleTimeout > 0 && !t.sweeping {
		t.sweepIn(t.opt.IdleTimeout)
	}
	t.mu.Unlock()
	return true
}

// gone counts a connection that is closed, or no longer ours, and lets another take its place.
func (t *Transport) gone() {
	t.mu.Lock()
	t.open--
	t.dialMore()
	t.mu.Unlock()
}

func (t *Transport) sweepIn(d time.Duration) {
	t.sweeping = true
	if t.sweeper == nil {
		t.sweeper = time.AfterFunc(d, t.sweep)
	} else {
		t.sweeper.Reset(d)
	}
}

// sweep closes what has been idle for too long. The longest idle are at the front.
func (t *Transport) sweep() {
	t.mu.Lock()
	t.sweeping = false
	old := 0
	for old < len(t.idle) && time.Since(t.idle[old].idleSince) >= t.opt.IdleTimeout {
		old++
	}
	gone := append([]*conn(nil), t.idle[:old]...)
	n := copy(t.idle, t.idle[old:])
	clear(t.idle[n:])
	t.idle = t.idle[:n]
	if n > 0 {
		t.sweepIn(time.Until(t.idle[0].idleSince.Add(t.opt.IdleTimeout)))
	}
	t.mu.Unlock()
	for _, c := range gone {
		c.retire()
	}
}
