package account

import (
	"net/http"
	"slices"
	"sync"
)

const (
	// maxStreams is how many streams one session may have in this process.
	maxStreams = 4
	// maxStreamsHTTP1 is how many of them over HTTP/1.x, where a browser has six connections for all of its tabs.
	maxStreamsHTTP1 = 2
)

// place is a stream's place among those of its session.
type place struct {
	http1      bool
	superseded chan struct{}   // closed when a newer one took it
	draining   <-chan struct{} // closed when its server begins to shut down
}

// streams are the open event streams of one frontend in this process.
type streams struct {
	mu      sync.Mutex
	open    map[string][]*place // by the session's handle, the oldest first
	servers map[*http.Server]chan struct{}
	closed  chan struct{} // closed by close
	close   func()        // ends all streams, and those that come later at once
}

func newStreams() *streams {
	closed := make(chan struct{})
	return &streams{
		open: map[string][]*place{}, servers: map[*http.Server]chan struct{}{},
		closed: closed, close: sync.OnceFunc(func() { close(closed) }),
	}
}

// join makes room for a stream of this session. leave gives it up again.
func (s *streams) join(handle string, r *http.Request) (p *place, leave func()) {
	p = &place{http1: r.ProtoMajor < 2, superseded: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.draining = s.drainOf(r)
	list := append(s.open[handle], p)
	if p.http1 {
		list = supersede(list, maxStreamsHTTP1, func(o *place) bool { return o.http1 })
	}
	s.open[handle] = supersede(list, maxStreams, func(*place) bool { return true })
	return p, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		list := slices.DeleteFunc(s.open[handle], func(o *place) bool { return o == p })
		if s.open[handle] = list; len(list) == 0 {
			delete(s.open, handle)
		}
	}
}

// supersede takes the oldest of a kind out until at most so many are left.
func supersede(list []*place, most int, kind func(*place) bool) []*place {
	n := 0
	for _, p := range list {
		if kind(p) {
			n++
		}
	}
	return slices.DeleteFunc(list, func(p *place) bool {
		if n <= most || !kind(p) {
			return false
		}
		n--
		close(p.superseded)
		return true
	})
}

// drainOf is closed when the server that a request came to begins to shut down: http.Server.Shutdown waits for
// running requests, and a stream would have it wait in vain. nil where there is no such server. s.mu is held.
func (s *streams) drainOf(r *http.Request) <-chan struct{} {
	server, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if !ok {
		return nil
	}
	drain := s.servers[server]
	if drain == nil {
		drain = make(chan struct{})
		s.servers[server] = drain // stays: a server that was shut down comes back to nobody, and there are few
		server.RegisterOnShutdown(sync.OnceFunc(func() { close(drain) }))
	}
	return drain
}
