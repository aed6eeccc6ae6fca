// Package upstream sends requests to the addresses of one service: over TCP or a Unix socket, with or without TLS, in
// HTTP/1.1 or HTTP/2, to the less busy of two addresses by chance, around those that fail.
//
// It is code of ours because no kept Go library has both the balancing and the ejection for a plain
// http.RoundTripper: bufbuild/httplb knows no failures of requests and no sockets, vulcand/oxy no load, and grpc-go's
// outlier detection works on its own connections.
package upstream

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/event"
)

// Set holds the pools of a process, so that routes with the same addresses and settings share connections.
type Set struct {
	events event.Sink
	mu     sync.Mutex
	pools  map[string]*Pool
}

// NewSet makes an empty set. events gets an event whenever an address is left out and when it is used again.
func NewSet(events event.Sink) *Set { return &Set{events: events, pools: map[string]*Pool{}} }

// Pool returns the pool of these addresses with these settings, which have their defaults. Paths of the addresses do
// not matter here: they are the caller's.
func (s *Set) Pool(addresses []string, c config.Connection) (*Pool, error) {
	targets := make([]config.UpstreamURL, len(addresses))
	for i, address := range addresses {
		u, err := config.ParseUpstream(address)
		if err != nil {
			return nil, err
		}
		u.Path = ""
		targets[i] = u
	}
	slices.SortFunc(targets, func(a, b config.UpstreamURL) int { return strings.Compare(a.String(), b.String()) })
	key := keyOf(targets, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pools[key]; p != nil {
		return p, nil
	}
	p, err := newPool(targets, c, s.events)
	if err != nil {
		return nil, err
	}
	s.pools[key] = p
	return p, nil
}

// keyOf is the same text for the same addresses and settings.
func keyOf(targets []config.UpstreamURL, c config.Connection) string {
	health := config.Health{}
	if c.Health != nil {
		health = *c.Health
	}
	response := *c.ResponseTimeout
	c.Health, c.ResponseTimeout = nil, nil
	return fmt.Sprintf("%+v %+v %v %+v", targets, c, response, health)
}

// Out names the addresses that are left out, each with the reason.
func (s *Set) Out() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]string{}
	for _, p := range s.pools {
		maps.Copy(all, p.out())
	}
	return all
}

// Close ends all health checks and lets go of idle connections. Requests under way go on.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pools {
		p.close()
	}
}

// Pool is the addresses of one service, as one http.RoundTripper.
type Pool struct {
	members []*member
	live    atomic.Pointer[[]*member] // those that requests go to, never empty
	events  event.Sink
	stop    func() // ends the health checks

	mu     sync.Mutex // for the standing of the members
	closed bool
}

// member is one address of a pool.
type member struct {
	target  config.UpstreamURL
	name    string // for people: the address as it may be configured
	scheme  string // http | https, for URLs
	main    transport
	upgrade transport // for requests that change to another protocol, which HTTP/2 does not know: always HTTP/1.1

	running atomic.Int64 // requests and answers under way
	failed  atomic.Int32 // failures in a row
	standing
}

// standing is what the pool thinks of a member, under its lock.
type standing struct {
	ejected bool          // it failed, and is left alone until the timer runs
	ill     bool          // its health checks say so
	reason  string        // why it is left out
	pause   time.Duration // how long it was left alone the last time
	back    time.Time     // when that was over
	timer   *time.Timer
}

func newPool(targets []config.UpstreamURL, c config.Connection, events event.Sink) (*Pool, error) {
	p := &Pool{events: events, stop: func() {}}
	security, err := newSecurity(c)
	if err != nil {
		return nil, err
	}
	for _, target := range targets {
		p.members = append(p.members, newMember(target, c, security))
	}
	p.live.Store(&p.members)
	if c.Health != nil {
		p.stop = p.watch(*c.Health)
	}
	return p, nil
}

func (p *Pool) close() {
	p.stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, m := range p.members {
		if m.timer != nil {
			m.timer.Stop()
		}
		m.main.CloseIdleConnections()
		m.upgrade.CloseIdleConnections()
	}
}
