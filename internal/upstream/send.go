package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
)

// Error says at which address a request failed.
type Error struct {
	Address string
	Err     error
}

func (e *Error) Error() string { return "upstream " + e.Address + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// RoundTrip sends the request to one of the addresses, whose scheme and host it writes into the request itself; the
// caller has made it for this purpose, with only the path and the query in its URL. Where nothing of it can have had an
// effect, it is sent once more, to another address.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) {
	if len(p.members) == 1 {
		m := p.members[0]
		res, err := m.send(r)
		if err != nil {
			return nil, &Error{m.name, err}
		}
		return res, nil
	}
	body := hold(r)
	defer body.release()
	m := p.pick(nil)
	res, err := p.try(m, r, body)
	if err == nil || !repeatable(r, body, err) {
		return res, err
	}
	other := p.pick(m)
	if other == nil {
		return nil, err
	}
	body.reopen()
	again, to := *r, *r.URL // the first transport may still be reading them
	again.URL = &to
	return p.try(other, &again, body)
}

// send aims the request at the member and sends it.
func (m *member) send(r *http.Request) (*http.Response, error) {
	r.URL.Scheme, r.URL.Host, r.Host = m.scheme, m.target.Host, m.target.Host
	if r.Header["Upgrade"] != nil {
		return m.upgrade.RoundTrip(r)
	}
	return m.main.RoundTrip(r)
}

// try sends the request to one member and notes what comes of it.
func (p *Pool) try(m *member, r *http.Request, body *held) (*http.Response, error) {
	m.running.Add(1)
	res, err := m.send(r)
	if err != nil {
		m.running.Add(-1)
		if !ours(r, body) {
			p.fault(m, err.Error())
		}
		return nil, &Error{m.name, err}
	}
	switch res.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		p.fault(m, "it answers "+strconv.Itoa(res.StatusCode))
	default:
		m.well()
	}
	switch b := res.Body.(type) {
	case io.ReadWriteCloser: // another protocol
		res.Body = &duplex{b, counted{b, m, new(atomic.Bool)}}
	default:
		if res.Body == http.NoBody {
			m.running.Add(-1)
			break
		}
		res.Body = &counted{b, m, new(atomic.Bool)}
	}
	return res, nil
}

// ours reports whether a request failed by itself, not by the upstream: the client went away, or its body broke off
// or is too large.
func ours(r *http.Request, body *held) bool { return r.Context().Err() != nil || body.broke() }

// repeatable reports whether a request that failed can have had no effect, or may have it twice: no connection was
// made, or it broke before an answer came to a request that is idempotent (RFC 9110 section 9.2.2) and has no body.
// After a time-out the upstream may still be at work.
func repeatable(r *http.Request, body *held, err error) bool {
	if ours(r, body) || !body.whole() {
		return false
	}
	if _, ok := errors.AsType[*notSent](err); ok {
		return true
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return body == nil && broken(err)
	}
	return false
}

// broken reports whether a connection ended.
func broken(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return !op.Timeout()
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// counted is the body of an answer, which is under way until it is closed.
type counted struct {
	io.ReadCloser
	m    *member
	over *atomic.Bool
}

func (c *counted) Close() error {
	if !c.over.Swap(true) {
		c.m.running.Add(-1)
	}
	return c.ReadCloser.Close()
}

// duplex is the same for a connection that has changed to another protocol.
type duplex struct {
	io.ReadWriteCloser
	counted
}

func (d *duplex) Read(b []byte) (int, error) { return d.ReadWriteCloser.Read(b) }
func (d *duplex) Close() error               { return d.counted.Close() }

// CloseWrite ends our direction alone, which httputil.ReverseProxy looks for.
func (d *duplex) CloseWrite() error {
	if c, ok := d.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return fmt.Errorf("CloseWrite: %w", http.ErrNotSupported)
}

// held is the body of a request, which outlives an attempt that did not read it. A transport closes the body of every
// request that fails.
type held struct {
	io.ReadCloser
	mu     sync.Mutex
	read   bool
	failed bool // reading did
	over   bool // no attempt follows
	wanted bool // a transport has closed it
	closed bool // it is
}

// hold puts the body into a held one; nil without a body. It works on nil then.
func hold(r *http.Request) *held {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	h := &held{ReadCloser: r.Body}
	r.Body = h
	return h
}

func (h *held) Read(b []byte) (int, error) {
	h.mu.Lock()
	h.read = true
	h.mu.Unlock()
	n, err := h.ReadCloser.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		h.mu.Lock()
		h.failed = true
		h.mu.Unlock()
	}
	return n, err
}

// Close waits for the end of all attempts while nothing was read.
func (h *held) Close() error {
	h.mu.Lock()
	h.wanted = true
	return h.settle()
}

// reopen forgets that the transport of an attempt has closed the body: the next one may read it after its answer came.
func (h *held) reopen() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wanted = false
}

// release ends the attempts.
func (h *held) release() {
	if h == nil {
		return
	}
	h.mu.Lock()
	h.over = true
	_ = h.settle()
}

// settle closes the body if it is time, and unlocks.
func (h *held) settle() error {
	now := h.wanted && (h.read || h.over) && !h.closed
	h.closed = h.closed || now
	h.mu.Unlock()
	if now {
		return h.ReadCloser.Close()
	}
	return nil
}

// whole reports whether nothing of the body was read.
func (h *held) whole() bool {
	if h == nil {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.read
}

// broke reports whether reading the body failed.
func (h *held) broke() bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}
