package proxy

import (
	"context"
	"io"
	"net/http"
	"sync"
)

// open are the answers that have no end of their own: WebSockets and event streams. Whoever drains a server would wait
// for them in vain.
type open struct {
	mu       sync.Mutex
	draining bool
	streams  map[*http.Response]io.Closer
}

// endWithDrain has a stream end when the process drains. The client opens it anew, and gets to another process.
func (o *open) endWithDrain(res *http.Response) {
	if res.StatusCode != http.StatusSwitchingProtocols && !isEventStream(res.Header) {
		return
	}
	body := res.Body
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.draining {
		_ = body.Close()
		return
	}
	if o.streams == nil {
		o.streams = map[*http.Response]io.Closer{}
	}
	o.streams[res] = body
	context.AfterFunc(res.Request.Context(), func() { // done when the handler returns
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.streams, res)
	})
}

// Drain ends all WebSockets and event streams, and those that come later at once. It says how many it ended.
func (p *Proxy) Drain() int {
	p.open.mu.Lock()
	streams := p.open.streams
	p.open.draining, p.open.streams = true, nil
	p.open.mu.Unlock()
	for _, s := range streams {
		_ = s.Close()
	}
	return len(streams)
}
