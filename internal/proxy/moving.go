package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// stallTime is how long a client may take nothing of an answer that is there for it. A stream may be silent for as
	// long as it likes: there is no time-out for writing, only for a write that does not move.
	stallTime = 2 * time.Minute
	// smallAnswer fits into the socket's buffers, so that writing it does not wait for the client.
	smallAnswer = 64 << 10
)

// stalled calls cut when something has taken too long, but never after it has ended: then the handler is over, and its
// ResponseWriter is nobody's.
type stalled struct {
	stall time.Duration
	timer *time.Timer

	mu    sync.Mutex
	ended bool
}

func newStalled(stall time.Duration, cut func()) *stalled {
	s := &stalled{stall: stall}
	s.timer = time.AfterFunc(stall, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.ended {
			cut()
		}
	})
	s.timer.Stop()
	return s
}

func (s *stalled) begin() { s.timer.Reset(s.stall) }
func (s *stalled) pause() { s.timer.Stop() }
func (s *stalled) end() {
	s.timer.Stop()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
}

// moving is the body of an answer that is copied to a client: from the end of one read to the beginning of the next it
// is being written. A write that takes too long is ended, and with it the request at the upstream.
type moving struct {
	io.ReadCloser
	client *stalled
}

var past = time.Unix(1, 0)

func newMoving(body io.ReadCloser, w http.ResponseWriter, stall time.Duration) *moving {
	return &moving{body, newStalled(stall, func() { _ = http.NewResponseController(w).SetWriteDeadline(past) })}
}

func (m *moving) Read(p []byte) (int, error) {
	m.client.pause()
	n, err := m.ReadCloser.Read(p)
	m.client.begin()
	return n, err
}

func (m *moving) Close() error {
	m.client.end()
	return m.ReadCloser.Close()
}

// clientWriter is for what is written to a client by others: files, and what is said on a WebSocket. Each write, of 64 KiB at
// most, ends as that of moving does.
type clientWriter struct {
	http.ResponseWriter
	stall   time.Duration
	written int
	client  *stalled // nil while everything fits into the socket's buffers
}

func (c *clientWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *clientWriter) Write(b []byte) (int, error) {
	total := 0
	for {
		piece := b[:min(len(b), smallAnswer)]
		if c.client == nil && c.written+len(piece) > smallAnswer {
			c.client = newStalled(c.stall, func() { _ = http.NewResponseController(c.ResponseWriter).SetWriteDeadline(past) })
		}
		if c.client != nil {
			c.client.begin()
		}
		n, err := c.ResponseWriter.Write(piece)
		if c.client != nil {
			c.client.pause()
		}
		total += n
		c.written += n
		if b = b[len(piece):]; err != nil || len(b) == 0 {
			return total, err
		}
	}
}

// end says that the handler is over.
func (c *clientWriter) end() {
	if c.client != nil {
		c.client.end()
	}
}

func (c *clientWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(c.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // that of whoever was asked
	}
	return &clientConn{conn, newStalled(c.stall, func() { _ = conn.SetWriteDeadline(past) })}, buf, nil
}

type clientConn struct {
	net.Conn
	client *stalled
}

func (c *clientConn) Write(b []byte) (int, error) {
	c.client.begin()
	defer c.client.pause()
	return c.Conn.Write(b)
}

// CloseWrite lets httputil.ReverseProxy close one direction, where the connection can.
func (c *clientConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *clientConn) Close() error {
	c.client.end()
	return c.Conn.Close()
}

// clientBody is the body of a request, whose faults are the client's: they are no fault of an upstream. One of known
// length is a message, not a stream: a client that sends nothing of it for too long is cut off.
//
// Nobody may read it after the handler is over. A transport that closes it does not close that of an HTTP/1.1 client:
// that would read the rest of it. That of HTTP/2 is closed, or a transport of HTTP/2 would wait for what the client
// sends next when the upstream has said its last, and the client for what it said.
type clientBody struct {
	body   io.ReadCloser
	h2     bool
	client *stalled // nil for a stream
	closed atomic.Bool
}

func newClientBody(w http.ResponseWriter, r *http.Request, stall time.Duration) *clientBody {
	b := &clientBody{body: r.Body, h2: r.ProtoMajor == 2}
	if r.ContentLength > 0 {
		b.client = newStalled(stall, func() { _ = http.NewResponseController(w).SetReadDeadline(past) })
	}
	return b
}

// bodyError is a fault of the client's body.
type bodyError struct{ error }

func (e *bodyError) Unwrap() error { return e.error }

func (b *clientBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if b.client != nil {
		b.client.begin()
		defer b.client.pause()
	}
	n, err := b.body.Read(p)
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

func (b *clientBody) Close() error {
	if !b.closed.Swap(true) && b.h2 {
		return b.body.Close()
	}
	return nil
}

// end says that the handler is over.
func (b *clientBody) end() {
	b.closed.Store(true)
	if b.client != nil {
		b.client.end()
	}
}
