package proxy

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/web"
)

const (
	connectTime   = 5 * time.Second
	tlsTime       = 5 * time.Second
	firstByteTime = 60 * time.Second
	idleConns     = 512 // to one upstream: the default of 2 makes most requests open a connection
	bufferSize    = 32 << 10
)

// upstream is one address that routes lead to, with its connections.
type upstream struct {
	url       *url.URL
	transport *http.Transport
}

// upstream returns the upstream of this address; routes to the same address share its connections.
func (p *Proxy) upstream(address string) (*upstream, error) {
	if up := p.upstreams[address]; up != nil {
		return up, nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: connectTime, KeepAlive: 30 * time.Second}
	up := &upstream{u, &http.Transport{
		DialContext: dialer.DialContext, TLSHandshakeTimeout: tlsTime, ResponseHeaderTimeout: firstByteTime,
		MaxIdleConnsPerHost: idleConns, IdleConnTimeout: 90 * time.Second, DisableCompression: true,
		ExpectContinueTimeout: time.Second, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 256 << 10,
		WriteBufferSize: 8 << 10, ReadBufferSize: 8 << 10,
	}}
	p.upstreams[address] = up
	return up, nil
}

// buffers are reused for copying bodies.
type buffers struct{ pool sync.Pool }

var copyBuffers = &buffers{sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}}

func (b *buffers) Get() []byte  { return *b.pool.Get().(*[]byte) } //nolint:forcetypeassert,errcheck // only we put
func (b *buffers) Put(x []byte) { b.pool.Put(&x) }

// passKey carries a request's pass to the round trip.
type passKey struct{}

// sending is what the outgoing request needs to know.
type sending struct {
	pass gate.Pass
	path string
	in   *http.Request
}

// forwarder makes what forwards a route's requests.
func (p *Proxy) forwarder(rt *route, up *upstream) func(http.ResponseWriter, *http.Request, string, gate.Pass) {
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(pr *httputil.ProxyRequest) { p.rewrite(rt, up, pr) },
		Transport:      &renewer{next: up.transport, gate: p.Gate, wanted: rt.need.Token},
		BufferPool:     copyBuffers,
		FlushInterval:  -1, // what an upstream sends goes on at once: events must not wait for a buffer
		ModifyResponse: func(res *http.Response) error { return p.answer(rt, res) },
		ErrorHandler:   func(w http.ResponseWriter, r *http.Request, err error) { p.failed(w, r, up, err) },
		ErrorLog:       log.New(discard{}, "", 0),
	}
	return func(w http.ResponseWriter, r *http.Request, path string, pass gate.Pass) {
		ctx := context.WithValue(r.Context(), passKey{}, &sending{pass: pass, path: path, in: r})
		if pass.Live != nil {
			var cancel context.CancelCauseFunc
			ctx, cancel = context.WithCancelCause(ctx)
			defer cancel(nil)
			if stop := closeWith(ctx, pass, cancel, r); stop != nil {
				defer stop()
			}
		}
		if r.ProtoMajor == 1 && r.ContentLength != 0 {
			// Otherwise net/http reads the rest of the body before the first byte of an early answer, and stops at 256 KiB.
			_ = http.NewResponseController(w).EnableFullDuplex()
		}
		proxy.ServeHTTP(w, r.WithContext(ctx))
	}
}

// errEnded cuts a stream whose session is over.
var errEnded = errors.New("the session has ended")

// streamAfter is how long an answer may take before it counts as a stream that ends with its session.
const streamAfter = time.Second

// closeWith ends a long answer or a WebSocket when its session ends. Ordinary requests are over before a timer or a
// goroutine would be worth its cost.
func closeWith(ctx context.Context, pass gate.Pass, cancel context.CancelCauseFunc, r *http.Request) (stop func() bool) {
	watch := func() {
		select {
		case <-pass.Live.Done():
			cancel(errEnded)
		case <-ctx.Done():
		}
	}
	if r.Header.Get("Upgrade") != "" {
		go watch()
		return nil
	}
	return time.AfterFunc(streamAfter, watch).Stop
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// failed answers what could not be forwarded.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, up *upstream, err error) {
	if r.Context().Err() != nil && !errors.Is(context.Cause(r.Context()), errEnded) { // the client is gone
		if info := web.InfoOf(r); info != nil {
			info.Cause = fmt.Errorf("the client went away: %w", err)
		}
		panic(http.ErrAbortHandler)
	}
	var timeout interface{ Timeout() bool }
	var tooLarge *http.MaxBytesError
	problem := web.NewProblem(web.CodeUpstreamUnreachable, "Try again in a moment.")
	switch {
	case errors.As(err, &tooLarge):
		problem = web.NewProblem(web.CodeTooLarge, "The request is too large.")
	case errors.As(err, &timeout) && timeout.Timeout():
		problem = web.NewProblem(web.CodeUpstreamTimeout, "Try again in a moment.")
	}
	p.refuse(w, r, problem.Because(fmt.Errorf("upstream %s: %w", up.url.Host, err)))
}

// single joins two paths with one slash.
func single(base, path string) string {
	return strings.TrimSuffix(base, "/") + path
}
