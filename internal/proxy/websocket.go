package proxy

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what RFC 6455 says
	"encoding/base64"
	"errors"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// tunnel is the answer to a WebSocket that came over HTTP/2, as a CONNECT with ":protocol" (RFC 8441). It is judged and
// forwarded as the GET of HTTP/1.1 (RFC 6455) that says the same.
type tunnel struct {
	http.ResponseWriter
	in   *http.Request // as it came
	key  string        // of the handshake with the upstream
	mu   sync.Mutex    // held while something is written
	over bool          // the handler is
}

// protocol is where net/http puts the pseudo-header.
const protocol = ":protocol"

// asUpgrade translates a WebSocket of HTTP/2. Everything else stays as it is.
func asUpgrade(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request) {
	if r.Method != http.MethodConnect || len(r.Header[protocol]) != 1 || !strings.EqualFold(r.Header[protocol][0], "websocket") {
		return w, r
	}
	var nonce [16]byte
	_, _ = rand.Read(nonce[:])
	t := &tunnel{ResponseWriter: w, in: r, key: base64.StdEncoding.EncodeToString(nonce[:])}
	in := r.WithContext(r.Context())
	in.Method, in.Body, in.ContentLength, in.Trailer = http.MethodGet, http.NoBody, 0, nil
	in.Header = maps.Clone(r.Header)
	delete(in.Header, protocol)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Key": t.key,
		"Sec-Fetch-Mode": "websocket", // never a page: that would be an answer of 200, which is a yes here
	} {
		in.Header[name] = []string{value}
	}
	setIfAbsent(in.Header, "Sec-Websocket-Version", []string{"13"})
	return t, in
}

// check says what is wrong with the upstream's answer. A success that opens no WebSocket would look like one that does.
func (t *tunnel) check(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		if sum := sha1.Sum([]byte(t.key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")); res.Header.Get("Sec-Websocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) { //nolint:gosec // as above
			return errors.New("the upstream accepted another handshake")
		}
	case res.StatusCode < http.StatusMultipleChoices:
		return errors.New("the upstream opened no WebSocket")
	}
	return nil
}

func (t *tunnel) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// Hijack gives httputil.ReverseProxy what it takes for the client's connection.
func (t *tunnel) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn := tunnelConn{t, http.NewResponseController(t.ResponseWriter)}
	return conn, bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(&tunnelHead{conn: conn})), nil
}

// tunnelHead takes the answer's head in HTTP/1.1 and sends that of HTTP/2 instead.
type tunnelHead struct {
	conn tunnelConn
	sent bool
}

func (h *tunnelHead) Write(b []byte) (int, error) {
	if h.sent {
		return len(b), nil
	}
	h.sent = true
	header := h.conn.Header()
	without(header, hopByHop)
	delete(header, "Sec-Websocket-Accept")
	delete(header, "Content-Length")
	h.conn.WriteHeader(http.StatusOK)
	return len(b), h.conn.rc.Flush()
}

// tunnelConn is a stream of HTTP/2 as a connection. It has no half of its own to close: the handler's end is that.
type tunnelConn struct {
	*tunnel
	rc *http.ResponseController
}

func (c tunnelConn) Read(b []byte) (int, error) { return c.in.Body.Read(b) }

func (c tunnelConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return 0, net.ErrClosed
	}
	n, err := c.ResponseWriter.Write(b)
	if err == nil {
		err = c.rc.Flush()
	}
	return n, err
}

// Close keeps everybody from writing: net/http panics if that happens after the handler's end.
func (c tunnelConn) Close() error {
	if !c.mu.TryLock() { // a write waits for the client
		_ = c.rc.SetWriteDeadline(past)
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	c.over = true
	return nil
}

func (c tunnelConn) LocalAddr() net.Addr {
	local, _ := c.in.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return local
}

func (c tunnelConn) RemoteAddr() net.Addr { return tunnelAddr(c.in.RemoteAddr) }

func (c tunnelConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c tunnelConn) SetReadDeadline(t time.Time) error  { return c.rc.SetReadDeadline(t) }
func (c tunnelConn) SetWriteDeadline(t time.Time) error { return c.rc.SetWriteDeadline(t) }

type tunnelAddr string

func (tunnelAddr) Network() string  { return "tcp" }
func (a tunnelAddr) String() string { return string(a) }
