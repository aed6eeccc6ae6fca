package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
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

	w http.ResponseWriter

	values [4]string // of headers that are this request's own
	used   int
	url    url.URL // of the outgoing request
	hints
}

// sendingOf returns what was handed on with a request of ours.
func sendingOf(ctx context.Context) *sending {
	if info := web.InfoFrom(ctx); info != nil {
		s, _ := info.Handoff.(*sending)
		return s
	}
	return nil
}

// forwarder makes what forwards a route's requests.
func (p *Proxy) forwarder(rt *route, up http.RoundTripper) func(http.ResponseWriter, *http.Request, string, gate.Pass) {
	send := &renewer{next: up, gate: p.Gate, wanted: rt.token()}
	upgrade := p.upgrader(rt, send)
	return func(w http.ResponseWriter, r *http.Request, path string, pass gate.Pass) {
		info := web.InfoOf(r)
		if info == nil {
			info = &web.Info{}
			r = web.WithInfo(r, info)
		}
		s := &sending{pass: pass, path: path, in: r, w: w}
		info.Handoff = s
		if r.ProtoMajor == 1 && r.ContentLength != 0 {
			// Otherwise net/http reads the rest of the body before the first byte of an early answer, and stops at 256 KiB.
			_ = http.NewResponseController(w).EnableFullDuplex()
		}
		if r.Header["Upgrade"] != nil {
			upgrade.ServeHTTP(&clientWriter{ResponseWriter: w, stall: p.stall}, r)
			return
		}
		p.forward(rt, send, s)
		p.letGo(w, r)
	}
}

// letGo is for the last bytes over HTTP/2: they go out when the handler is over, and only when the client's window lets
// them.
func (p *Proxy) letGo(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 2 {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(p.stall))
	}
}

// upgrader forwards requests that ask for another protocol, and does what the two sides then say to each other.
func (p *Proxy) upgrader(rt *route, send http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			s := sendingOf(pr.In.Context())
			pr.Out.URL = p.target(rt, s)
			pr.Out.Header = p.header(rt, s)
			pr.Out.Trailer = nil
		},
		Transport:      hinted{send},
		BufferPool:     copyBuffers,
		ModifyResponse: func(res *http.Response) error { return p.answer(rt, res) },
		ErrorHandler:   p.failed,
		ErrorLog:       log.New(discard{}, "", 0),
	}
}

// forward sends a request to the upstream, and its answer to the client. It does what httputil.ReverseProxy does, without
// making every header twice; and our rules for interim answers and trailers are not those of ReverseProxy.
func (p *Proxy) forward(rt *route, send http.RoundTripper, s *sending) {
	w, r := s.w, s.in
	s.trace.Got1xxResponse = s.interim
	out := r.WithContext(httptrace.WithClientTrace(r.Context(), &s.trace))
	out.URL, out.Header, out.Host, out.RequestURI = p.target(rt, s), p.header(rt, s), "", ""
	out.Body, out.Close, out.Trailer, out.TransferEncoding = nil, false, nil, nil // a trailer could repeat any header that is taken out
	if r.ContentLength != 0 {
		body := newClientBody(w, r, p.stall)
		defer body.end()
		out.Body = body
	}
	res, err := send.RoundTrip(out)
	s.answered()
	if err == nil && res.StatusCode == http.StatusSwitchingProtocols {
		_ = res.Body.Close()
		err = errSwitched
	}
	if err == nil {
		without(res.Header, hopByHop, connectionNames(res.Header))
		if err = p.answer(rt, res); err != nil {
			_ = res.Body.Close()
		}
	}
	if err != nil {
		p.failed(w, out, err)
		return
	}
	stream := res.ContentLength < 0 || isEventStream(res.Header)
	move(w.Header(), res.Header)
	announced := announce(w.Header(), res.Trailer)
	w.WriteHeader(res.StatusCode)
	if err := deliver(w, res.Body, stream); err != nil {
		_ = res.Body.Close()
		panic(http.ErrAbortHandler) // the answer has begun: only cutting it off tells the client
	}
	_ = res.Body.Close()
	trailers(w, res.Trailer, announced)
}

// errSwitched says that an upstream answers with another protocol, for which nobody has asked.
var errSwitched = errors.New("the upstream switches to another protocol, and was not asked to")

// isEventStream reports whether an answer is one of server-sent events, which may have a length.
func isEventStream(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
}

// deliver copies a body to the client. Each piece of a stream goes out at once, its header before the first; to flush
// every answer would cost a write more each.
func deliver(w http.ResponseWriter, body io.Reader, stream bool) error {
	flush := func() error { return nil }
	if stream {
		flush = http.NewResponseController(w).Flush
		if err := flush(); err != nil {
			return err
		}
	}
	buf := copyBuffers.Get()
	defer copyBuffers.Put(buf)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if err := flush(); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// announce names the trailers that the upstream has announced, and tells how many.
func announce(h http.Header, t http.Header) int {
	if len(t) > 0 {
		h.Add("Trailer", strings.Join(slices.Sorted(maps.Keys(t)), ", "))
	}
	return len(t)
}

// trailers sends what came after the body. Those that were not announced need a prefix for net/http.
func trailers(w http.ResponseWriter, t http.Header, announced int) {
	if len(t) == 0 {
		return
	}
	_ = http.NewResponseController(w).Flush() // so that no Content-Length is set, after which there is no trailer
	prefix := http.TrailerPrefix
	if len(t) == announced {
		prefix = ""
	}
	for name, values := range t {
		w.Header()[prefix+name] = values
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
	if s := sendingOf(r.Context()); s != nil {
		r = s.in // as the client sent it
	}
	if r.Context().Err() != nil { // the client is gone
		if info := web.InfoOf(r); info != nil {
			info.Cause = fmt.Errorf("the client went away: %w", err)
		}
		panic(http.ErrAbortHandler)
	}
	if step, ok := errors.AsType[errStepUp](err); ok {
		p.deny(w, r, p.Gate.StepUp(p.Gate.Facts(r), step.wanted))
		return
	}
	if errors.Is(err, session.ErrStepUp) {
		p.deny(w, r, p.Gate.Wanted(p.Gate.Facts(r)))
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
	problem.GRPC = resetCode(r, err)
	p.refuse(w, r, problem.Because(err))
}
