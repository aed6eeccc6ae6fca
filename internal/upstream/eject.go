package upstream

import (
	"math/rand/v2"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
)

const (
	ejectAfter   = 5 // failures in a row
	firstPause   = 10 * time.Second
	longestPause = 5 * time.Minute
)

// well notes that a member answered.
func (m *member) well() {
	if m.failed.Load() != 0 { // looked at first: writing would take the line from other cores
		m.failed.Store(0)
	}
}

// fault notes that a member failed.
func (p *Pool) fault(m *member, cause string) {
	if m.failed.Add(1) >= ejectAfter {
		p.eject(m, cause)
	}
}

// eject leaves a member alone for a while, twice as long as the last time if it has failed again so soon; never more
// than half of the members. When it is back, its first failure ejects it again.
func (p *Pool) eject(m *member, cause string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := 0
	for _, o := range p.members {
		if o.ejected || o.ill {
			left++
		}
	}
	if m.ejected || p.closed || !m.ill && 2*(left+1) > len(p.members) {
		return
	}
	if m.back.IsZero() || time.Since(m.back) > m.pause {
		m.pause = firstPause
	} else {
		m.pause = min(2*m.pause, longestPause)
	}
	pause := m.pause + rand.N(m.pause/10) //nolint:gosec // so that not all replicas come back at once
	m.timer = time.AfterFunc(pause, func() { p.readmit(m) })
	m.ejected = true
	p.leave(m, "failures", cause)
}

// readmit gives a member that was ejected another chance.
func (p *Pool) readmit(m *member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	m.ejected, m.back = false, time.Now()
	m.failed.Store(ejectAfter - 1)
	p.enter(m, "pause_over")
}

// checked notes what a member's health checks have come to; "" is well.
func (p *Pool) checked(m *member, ill string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if m.ill = ill != ""; m.ill {
		p.leave(m, "health", ill)
	} else {
		p.enter(m, "health")
	}
}

// leave and enter tell of a change and choose anew where requests go. The lock is held.
func (p *Pool) leave(m *member, reason, cause string) {
	m.reason = reason + ": " + cause
	p.choose()
	p.events.Emit(&event.Audit{Time: time.Now(), Kind: event.UpstreamOut, Reason: reason, Detail: m.name + ": " + cause})
}

func (p *Pool) enter(m *member, reason string) {
	if m.ejected || m.ill {
		return
	}
	m.reason = ""
	p.choose()
	p.events.Emit(&event.Audit{Time: time.Now(), Kind: event.UpstreamIn, Reason: reason, Detail: m.name})
}

// choose takes the members that are well; all if none is.
func (p *Pool) choose() {
	var live []*member
	for _, m := range p.members {
		if !m.ejected && !m.ill {
			live = append(live, m)
		}
	}
	if live == nil {
		live = p.members
	}
	p.live.Store(&live)
}

// out names the members that are left out, each with the reason.
func (p *Pool) out() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string]string{}
	for _, m := range p.members {
		if m.ejected || m.ill {
			all[m.name] = m.reason
		}
	}
	return all
}
