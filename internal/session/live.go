package session

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/store"
)

// Live is a session that is open in this process. There is at most one per session, however many requests hold it:
// that is what makes one refresh of many. Reading it takes no lock.
type Live struct {
	manager   *Manager
	id        store.ID
	view      atomic.Pointer[view]
	active    atomic.Int64 // last activity, Unix nanoseconds
	touched   atomic.Int64 // the last activity that was handed to the flusher
	over      atomic.Bool
	watched   atomic.Int64           // streams that want to hear of changes
	ending    atomic.Pointer[string] // why this process is about to end it
	exchanges mints
	settled   atomic.Bool // this process has accounted for the end: revoked, audited
	reason    string      // why it ended; set before done is closed
	done      chan struct{}

	mu      sync.Mutex // guards what follows
	open    *opened    // the newest record that is saved
	state   state
	flight  *flight
	asides  map[oidc.Target]*aside
	demand  demand        // what the provider wants to see before it refreshes
	heard   uint64        // the newest version that the feed told of
	news    chan struct{} // rings for the flight when the feed tells of a change
	changed chan struct{} // closed and replaced when what the session says of itself changes
}

// view is what requests read: immutable, swapped as a whole.
type view struct {
	session  *Session
	tokens   oidc.TokenSet
	own      oidc.AccessToken // of the set
	further  []furtherToken   // for other targets
	freshTil time.Time        // nothing to do before; zero = no end known
	end      time.Time        // the earliest known end other than idleness
	endWhy   string
	idle     time.Duration
	slack    time.Duration // 1/20 of the idle timeout: how coarse activity is written
	degraded bool
}

// furtherToken is an access token with when to think of the next one.
type furtherToken struct {
	token    oidc.AccessToken
	freshTil time.Time // zero = no end known
}

func further(t oidc.AccessToken, w when) furtherToken {
	f := furtherToken{token: t.Ready()}
	if !t.Expires.IsZero() {
		f.freshTil = t.Expires.Add(-leadOf(t.Expires.Sub(t.Obtained), w.jitter))
	}
	return f
}

func (f *furtherToken) freshAt(now time.Time) bool {
	return f.freshTil.IsZero() || now.Before(f.freshTil)
}

func (f *furtherToken) liveAt(now time.Time) bool {
	return f.token.Expires.IsZero() || now.Before(f.token.Expires)
}

// flight is one refresh that is running.
type flight struct {
	target oidc.Target // what its access token is to be for
	done   chan struct{}
	err    error // set before done is closed; nil = look at the session again
}

// Session is what the session says of itself.
func (l *Live) Session() *Session { return l.view.Load().session }

// Degraded reports that the provider does not answer and the session is served with the token it has.
func (l *Live) Degraded() bool { return l.view.Load().degraded }

// Done is closed when the session has ended, so that its streams and WebSockets can be closed.
func (l *Live) Done() <-chan struct{} { return l.done }

// Why is the reason of the end; only once Done is closed.
func (l *Live) Why() string { return l.reason }

// Changed is closed when what the session says of itself changes: its claims, its end, whether it is degraded.
func (l *Live) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// ExpiresAt is the earliest of all known ends.
func (l *Live) ExpiresAt() time.Time {
	v := l.view.Load()
	if idle := l.idleEnd(v); idle.Before(v.end) {
		return idle
	}
	return v.end
}

// LastActive is when the session was last used, as far as this process knows.
func (l *Live) LastActive() time.Time { return time.Unix(0, l.active.Load()) }

// IdleExpiresAt is when the session ends without further activity.
func (l *Live) IdleExpiresAt() time.Time { return l.idleEnd(l.view.Load()) }

func (l *Live) idleEnd(v *view) time.Time { return time.Unix(0, l.active.Load()).Add(v.idle) }

// overAt returns why the session is over at this time, "" if it is not. Activity is written coarsely, so the idle
// end is decided that much later.
func (l *Live) overAt(v *view, now time.Time) string {
	switch {
	case !now.Before(v.end):
		return v.endWhy
	case now.UnixNano() >= l.active.Load()+int64(v.idle+v.slack):
		return ReasonIdle
	}
	return ""
}

// show swaps what requests read. l.mu is held.
func (l *Live) show(degraded bool) {
	o, m := l.open, l.manager
	idle := m.Idle
	if o.session.Remember {
		idle = m.RememberIdle
	}
	v := &view{session: o.session, tokens: o.tokens, own: o.tokens.Own().Ready(), idle: idle, slack: idle / 20, degraded: degraded}
	v.tokens.Access = v.own.Value // one copy less in memory
	v.end, v.endWhy = m.endOf(o)
	if !l.state.expires.IsZero() {
		v.freshTil = l.state.expires.Add(-l.state.lead)
	}
	spread := when{jitter: float64(l.id[0]) / 255} // the same for every view of a session
	for _, t := range o.tokens.Further {
		v.further = append(v.further, further(t, spread))
	}
	old := l.view.Swap(v)
	if old != nil && (old.session != v.session || old.degraded != v.degraded || !old.end.Equal(v.end)) {
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// endOf is the earliest known end of a session other than idleness, and what it is.
func (m *Manager) endOf(o *opened) (time.Time, string) {
	end, why := o.session.Created.Add(m.Lifetime), ReasonLifetime
	earlier := func(t time.Time, reason string) {
		if !t.IsZero() && t.Before(end) {
			end, why = t, reason
		}
	}
	earlier(o.providerEnd, ReasonProviderExpiry)
	earlier(o.tokens.RefreshEnd, ReasonProviderExpiry)
	if o.tokens.Refresh == "" && m.UserTokenNeeded {
		earlier(o.tokens.Expires, ReasonTokenOver)
	}
	return end, why
}
