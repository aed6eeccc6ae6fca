package lean

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	atHand    = 8 << 10 // a body up to this size that is in memory goes out with the header
	probeTime = 200 * time.Millisecond
	chunkedTE = "chunked"
)

// outgoing is a request that may be sent, and how.
type outgoing struct {
	req    *http.Request
	host   string
	body   io.ReadCloser // nil: none
	length int64         // of the body, -1: not known
	unsure bool          // there may be no body
	chunks bool          // the body is sent in chunks
	expect bool          // the body waits for "100 Continue"
	closes bool          // the connection ends with the answer
}

// plan checks a request. The rules are those of http.Transport; where that one cleans up what nobody means to send (a
// host that is none, a second Host under another spelling), this one refuses.
func plan(req *http.Request) (outgoing, error) {
	out := outgoing{req: req, body: req.Body, host: req.Host}
	if req.URL == nil {
		return out, unfit("no URL")
	}
	if req.Header == nil {
		return out, unfit("no header")
	}
	if out.host == "" {
		out.host = req.URL.Host
	}
	switch {
	case out.host == "":
		return out, unfit("no host")
	case !all(out.host, isHost):
		return out, unfit("the host is not valid")
	case !all(req.Method, isToken):
		return out, unfit("the method is not valid")
	case req.Method == http.MethodConnect:
		return out, unfit("CONNECT")
	}
	out.host = withoutZone(out.host)
	if err := checkFields(req.Header, "header"); err != nil {
		return out, err
	}
	if err := checkTrailer(req.Trailer); err != nil {
		return out, err
	}
	return out, out.measure()
}

// measure decides how the body is sent.
func (out *outgoing) measure() error {
	req := out.req
	if req.ContentLength != 0 && req.Body == nil {
		return unfit("a length without a body")
	}
	if req.Body == http.NoBody {
		out.body = nil
	}
	if len(req.TransferEncoding) > 0 && req.TransferEncoding[0] != chunkedTE && req.TransferEncoding[0] != "identity" {
		return unfit("an unknown transfer coding")
	}
	out.closes = req.Close || hasToken(req.Header["Connection"], "close")
	if out.body == nil {
		return nil
	}
	out.length = req.ContentLength
	if out.length <= 0 { // a body that may have no length has none that is known
		out.length = -1
	}
	if len(req.TransferEncoding) > 0 && req.TransferEncoding[0] == chunkedTE {
		out.length = -1
	} else {
		out.unsure = out.length < 0 && usuallyWithout(req.Method)
	}
	out.chunks = out.length < 0
	out.expect = req.ProtoAtLeast(1, 1) && hasToken(req.Header["Expect"], "100-continue")
	return nil
}

// usuallyWithout are methods whose requests rarely have a body; many servers take an empty one in chunks amiss.
func usuallyWithout(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions, "PROPFIND", "SEARCH":
		return true
	}
	return false
}

// settle finds out whether there is a body. It is not read before there is a connection: if there is none, another
// upstream may have it.
func (out *outgoing) settle() {
	if !out.unsure {
		return
	}
	out.unsure = false
	if out.peek(); out.body == nil {
		out.chunks, out.expect = false, false
	}
}

// peek finds out whether a body has a first byte. If that takes long, it has one.
func (out *outgoing) peek() {
	body := out.body
	p := &peeked{ReadCloser: body, found: make(chan struct{})}
	go func() {
		defer close(p.found)
		p.n, p.err = body.Read(p.first[:])
	}()
	late := time.NewTimer(probeTime)
	defer late.Stop()
	select {
	case <-p.found:
		if p.n == 0 && p.err == io.EOF { //nolint:errorlint // an io.Reader returns it bare
			closeBody(body)
			out.body, out.length = nil, 0
			return
		}
	case <-late.C:
	case <-out.req.Context().Done():
	}
	out.body = p
}

// peeked is a body whose first byte was read ahead.
type peeked struct {
	io.ReadCloser
	found chan struct{}
	first [1]byte
	n     int
	err   error
}

func (p *peeked) Read(b []byte) (int, error) {
	if p.found == nil {
		return p.ReadCloser.Read(b)
	}
	if len(b) == 0 {
		return 0, nil
	}
	<-p.found
	if p.n == 1 {
		b[0] = p.first[0]
		p.n = 0
		if p.err == nil {
			p.found = nil
		}
		return 1, nil
	}
	if err := p.err; err != nil {
		return 0, err
	}
	p.found = nil
	return p.ReadCloser.Read(b)
}

// rewound is the request with its body from the start, after the first one was closed.
func (out outgoing) rewound() (outgoing, error) {
	if out.body == nil {
		return out, nil
	}
	body, err := out.req.GetBody()
	if err != nil {
		return out, fmt.Errorf("lean: the body again: %w", err)
	}
	out.body = body
	return out, nil
}

// small returns a body that is in memory and small enough to go out with the header.
func (out *outgoing) small() io.Reader {
	if out.length <= 0 || out.length > atHand || out.expect {
		return nil
	}
	return inMemory(out.body)
}

var (
	nopCloser         = reflect.TypeOf(io.NopCloser(nil))
	nopCloserWriterTo = reflect.TypeOf(io.NopCloser(struct {
		io.Reader
		io.WriterTo
	}{}))
)

// inMemory returns the reader that http.NewRequest wraps, if reading it does not wait for anything.
func inMemory(r io.Reader) io.Reader {
	switch r := r.(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader:
		return r
	}
	if t := reflect.TypeOf(r); t == nopCloser || t == nopCloserWriterTo {
		if inner, ok := reflect.TypeAssert[io.Reader](reflect.ValueOf(r).Field(0)); ok {
			return inMemory(inner)
		}
	}
	return nil
}

// field is a line of the header, for sorting.
type field struct {
	name   string
	values []string
}

// header appends the request's header to what the connection puts it together in. Its bytes are those of
// http.Request.Write.
func (out *outgoing) header(c *conn, trace *httptrace.ClientTrace) ([]byte, error) {
	req := out.req
	b := append(c.out[:0], method(req.Method)...)
	b = append(b, ' ')
	var err error
	if b, err = appendTarget(b, req); err != nil {
		return b, err
	}
	b = append(b, " HTTP/1.1\r\n"...)
	h := head{b, trace}
	h.add("Host", out.host)
	if agent, ok := req.Header["User-Agent"]; !ok {
		h.add("User-Agent", "Go-http-client/1.1")
	} else if len(agent) > 0 && agent[0] != "" {
		h.add("User-Agent", trim(agent[0]))
	}
	if req.Close && !hasToken(req.Header["Connection"], "close") {
		h.add("Connection", "close")
	}
	out.framing(&h)
	defer func() { clear(c.fields) }()
	c.fields = c.fields[:0]
	for name, values := range req.Header {
		switch name {
		case "Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer":
		default:
			c.fields = append(c.fields, field{name, values})
		}
	}
	slices.SortFunc(c.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	for _, f := range c.fields {
		for _, v := range f.values {
			h.add(f.name, trim(v))
		}
	}
	return append(h.b, "\r\n"...), nil
}

// framing writes where the body ends.
func (out *outgoing) framing(h *head) {
	switch {
	case out.chunks:
		h.add("Transfer-Encoding", chunkedTE)
		if len(out.req.Trailer) > 0 {
			names := make([]string, 0, len(out.req.Trailer))
			for name := range out.req.Trailer {
				names = append(names, http.CanonicalHeaderKey(name))
			}
			slices.Sort(names)
			h.add("Trailer", strings.Join(names, ","))
		}
	case out.length > 0 || out.sendsZero():
		var digits [20]byte
		n := strconv.AppendInt(digits[:0], out.length, 10)
		h.b = append(append(append(h.b, "Content-Length: "...), n...), "\r\n"...)
		h.wrote("Content-Length", n)
	}
}

// sendsZero says whether a request without a body says so: many servers want a length with these methods.
func (out *outgoing) sendsZero() bool {
	switch out.req.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return true
	}
	return false
}

// head is a header that grows.
type head struct {
	b     []byte
	trace *httptrace.ClientTrace
}

func (h *head) add(name, value string) {
	h.b = append(append(append(append(h.b, name...), ": "...), value...), "\r\n"...)
	if h.trace != nil && h.trace.WroteHeaderField != nil {
		h.trace.WroteHeaderField(name, []string{value})
	}
}

func (h *head) wrote(name string, value []byte) {
	if h.trace != nil && h.trace.WroteHeaderField != nil {
		h.trace.WroteHeaderField(name, []string{string(value)})
	}
}

// appendTarget appends what URL.RequestURI returns, without making a string of it.
func appendTarget(b []byte, req *http.Request) ([]byte, error) {
	u, from := req.URL, len(b)
	if u.Opaque != "" {
		if strings.HasPrefix(u.Opaque, "//") {
			b = append(append(b, u.Scheme...), ':')
		}
		b = append(b, u.Opaque...)
	} else if path := u.EscapedPath(); path != "" {
		b = append(b, path...)
	} else {
		b = append(b, '/')
	}
	if u.ForceQuery || u.RawQuery != "" {
		b = append(append(b, '?'), u.RawQuery...)
	}
	for _, ch := range b[from:] {
		if ch <= ' ' || ch == 0x7f {
			return b, unfit("a space or a control character in the URL")
		}
	}
	return b, nil
}

func method(m string) string {
	if m == "" {
		return http.MethodGet
	}
	return m
}

func closeBody(body io.ReadCloser) {
	if body != nil {
		body.Close()
	}
}
