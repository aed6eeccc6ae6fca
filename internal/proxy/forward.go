package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

const bufferSize = 32 << 10

// buffers are reused for copying bodies.
type buffers struct{ pool sync.Pool }

var copyBuffers = &buffers{sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}}

func (b *buffers) Get() []byte  { return *b.pool.Get().(*[]byte) }
func (b *buffers) Put(x []byte) { b.pool.Put(&x) }

// sending is what the steps of forwarding one request hand on: decided before, used when the outgoing request is
// built and when its answer comes.
type sending struct {
	pass gate.Pass
	path string
	in   *http.Request

	values [4]string // of headers that are this request's own
	used   int

	w            http.ResponseWriter
	header, kept http.Header // what is set for the final answer, and where it goes
}

// sendingOf returns what was handed on with a request of ours.
func sendingOf(ctx context.Context) *sending {
	if info := web.InfoFrom(ctx); info != nil {
		s, _ := info.Handoff.(*sending)
		return s
	}
	return nil
}

// forwarder makes what forwards a route's requests. ReverseProxy flushes at once where an answer has no length or is
// an event stream; flushing every answer would cost a write more each.
func (p *Proxy) forwarder(rt *route, up http.RoundTripper) func(http.ResponseWriter, *http.Request, string, gate.Pass) {
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(pr *httputil.ProxyRequest) { p.rewrite(rt, pr) },
		Transport:      &renewer{next: up, gate: p.Gate, wanted: rt.token()},
		BufferPool:     copyBuffers,
		ModifyResponse: func(res *http.Response) error { return p.answer(rt, res) },
		ErrorHandler:   p.failed,
		ErrorLog:       log.New(discard{}, "", 0),
	}
	return func(w http.ResponseWriter, r *http.Request, path string, pass gate.Pass) {
		info := web.InfoOf(r)
		if info == nil {
			info = &web.Info{}
			r = web.WithInfo(r, info)
		}
		s := &sending{pass: pass, path: path, in: r}
		s.keep(w)
		info.Handoff = s
		if r.ProtoMajor == 1 && r.ContentLength != 0 {
			// Otherwise net/http reads the rest of the body before the first byte of an early answer, and stops at 256 KiB.
			_ = http.NewResponseController(w).EnableFullDuplex()
		}
		if r.Header["Upgrade"] == nil { // ReverseProxy copies the header, and rewrite makes a new one anyway
			bare := *r
			bare.Header = http.Header{}
			if r.ContentLength != 0 {
				body := newClientBody(w, r, p.stall)
				defer body.end()
				bare.Body = body
			}
			r = &bare
		}
		proxy.ServeHTTP(w, r)
		if r.ProtoMajor == 2 { // the last bytes go out after this, and only when the client's window lets them
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(p.stall))
		}
	}
}

const (
	// streamAfter is how long an answer may take before it counts as a stream that ends with its session.
	streamAfter = time.Second
	// streamFrom is the size from which an answer may take that long.
	streamFrom = 1 << 20
)

// endWithSession closes a stream or a WebSocket when its session ends. An answer of known, small size is over before
// a timer or a goroutine would be worth its cost.
func endWithSession(res *http.Response, live *session.Live) {
	body, gone := res.Body, res.Request.Context().Done()
	watch := func() {
		defer live.Watch()() // so that an end by time, or one that the change feed did not tell, is noticed
		select {
		case <-live.Done():
			_ = body.Close()
		case <-gone:
		}
	}
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		go watch()
	case res.ContentLength < 0 || res.ContentLength >= streamFrom:
		res.Body = &watched{body, time.AfterFunc(streamAfter, watch)}
	}
}

// watched is a body whose timer ends with it.
type watched struct {
	io.ReadCloser
	timer *time.Timer
}

func (w *watched) Close() error {
	w.timer.Stop()
	return w.ReadCloser.Close()
}

func isBodyError(err error) bool {
	_, ok := errors.AsType[*bodyError](err)
	return ok
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// failed answers what could not be forwarded.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	sendingOf(r.Context()).giveBack()
	if r.Context().Err() != nil { // the client is gone
		if info := web.InfoOf(r); info != nil {
			info.Cause = fmt.Errorf("the client went away: %w", err)
		}
		panic(http.ErrAbortHandler)
	}
	if step, ok := errors.AsType[errStepUp](err); ok {
		p.Gate.Refuse(w, r, p.Gate.StepUp(p.Gate.Facts(r), step.wanted))
		return
	}
	if errors.Is(err, session.ErrStepUp) {
		p.Gate.Refuse(w, r, p.Gate.Wanted(p.Gate.Facts(r)))
		return
	}
	var timeout interface{ Timeout() bool }
	var tooLarge *http.MaxBytesError
	problem := web.NewProblem(web.CodeUpstreamUnreachable, "Try again in a moment.")
	switch {
	case errors.As(err, &tooLarge):
		problem = web.NewProblem(web.CodeTooLarge, "The request is too large.")
	case isBodyError(err):
		problem = web.NewProblem(web.CodeInvalidRequest, "The body of the request breaks off or is malformed.")
	case errors.As(err, &timeout) && timeout.Timeout():
		problem = web.NewProblem(web.CodeUpstreamTimeout, "Try again in a moment.")
	}
	p.refuse(w, r, problem.Because(err))
}
