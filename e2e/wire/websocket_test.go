package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
)

// sockets is an upstream of WebSockets: what it does is the last part of the path.
type sockets struct {
	closed chan websocket.CloseError // how clients closed
	begun  chan struct{}             // one for each that is open; only of /idle
}

func newSockets() *sockets {
	return &sockets{closed: make(chan websocket.CloseError, 16), begun: make(chan struct{}, 20_000)}
}

func (s *sockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
		w.WriteHeader(401)
		return
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(4 << 20)
	switch {
	case strings.HasSuffix(r.URL.Path, "/close"):
		_ = c.Close(4002, "the server's reason")
	case strings.HasSuffix(r.URL.Path, "/ping"):
		ctx := c.CloseRead(r.Context())
		if err := c.Ping(ctx); err == nil {
			_ = c.Write(ctx, websocket.MessageText, []byte("the pong came"))
		}
		<-ctx.Done()
	case strings.HasSuffix(r.URL.Path, "/idle"):
		s.begun <- struct{}{}
		_, _, _ = c.Read(r.Context())
	default:
		err := echoFrames(r.Context(), c)
		var how websocket.CloseError
		if errors.As(err, &how) {
			s.closed <- how
		}
	}
}

// echoFrames sends back every message, in pieces as they come.
func echoFrames(ctx context.Context, c *websocket.Conn) error {
	for {
		kind, in, err := c.Reader(ctx)
		if err != nil {
			return err
		}
		out, err := c.Writer(ctx, kind)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
		if err := out.Close(); err != nil {
			return err
		}
	}
}

// dialWS opens a WebSocket as a page of the app does, over HTTP/1.1.
func (f *front) dialWS(ctx context.Context, client *http.Client, path string) (*websocket.Conn, error) {
	c, res, err := websocket.Dial(ctx, f.url+path, &websocket.DialOptions{
		HTTPClient: client, HTTPHeader: http.Header{"Cookie": {f.cookie}, "Origin": {f.url}}, Subprotocols: []string{"chat"},
	})
	if err != nil {
		if res != nil {
			return nil, fmt.Errorf("%s: %w", res.Status, err)
		}
		return nil, err
	}
	c.SetReadLimit(4 << 20)
	return c, nil
}

func startSockets(t *testing.T, k kind, upstream string) (*front, *sockets) {
	t.Helper()
	s := newSockets()
	address, connection := serveUpstream(t, upstream, authority{}, s)
	return startFront(t, k, newAuthority(t), fmt.Sprintf("{path: /ws/, upstream: %q%s}", address, connection)), s
}

func TestWebSocket(t *testing.T) {
	for k, upstream := range map[kind]string{secure: "standard", plain: "http"} {
		t.Run(fmt.Sprintf("%s to %s", k, upstream), func(t *testing.T) {
			f, s := startSockets(t, k, upstream)
			client := f.client(false)
			open := func(t *testing.T, path string) (*websocket.Conn, context.Context) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				t.Cleanup(cancel)
				c, err := f.dialWS(ctx, client, path)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.CloseNow() })
				return c, ctx
			}
			t.Run("echo", func(t *testing.T) {
				c, ctx := open(t, "/ws/echo")
				if c.Subprotocol() != "chat" {
					t.Errorf("subprotocol %q", c.Subprotocol())
				}
				testEcho(t, ctx, c)
				if err := c.Close(4001, "my reason"); err != nil {
					t.Errorf("closing: %v", err)
				}
				if how := receive(t, "the close code at the server", s.closed); how.Code != 4001 || how.Reason != "my reason" {
					t.Errorf("the server saw %v", how)
				}
			})
			t.Run("client pings", func(t *testing.T) {
				c, ctx := open(t, "/ws/echo")
				ctx = c.CloseRead(ctx)
				if err := c.Ping(ctx); err != nil {
					t.Error(err)
				}
			})
			t.Run("server pings", func(t *testing.T) {
				c, ctx := open(t, "/ws/ping")
				if _, got, err := c.Read(ctx); err != nil || string(got) != "the pong came" {
					t.Errorf("%q %v", got, err)
				}
			})
			t.Run("server closes", func(t *testing.T) {
				c, ctx := open(t, "/ws/close")
				_, _, err := c.Read(ctx)
				var how websocket.CloseError
				if !errors.As(err, &how) || how.Code != 4002 || how.Reason != "the server's reason" {
					t.Errorf("the client saw %v", err)
				}
			})
			t.Run("foreign origin", func(t *testing.T) {
				_, res, err := websocket.Dial(t.Context(), f.url+"/ws/echo", &websocket.DialOptions{
					HTTPClient: client, HTTPHeader: http.Header{"Cookie": {f.cookie}, "Origin": {"https://evil.example"}},
				})
				if err == nil || res == nil || res.StatusCode != 403 {
					t.Errorf("%v %v", res, err)
				}
			})
		})
	}
}

// testEcho: each message is sent after the one before has come back.
func testEcho(t *testing.T, ctx context.Context, c *websocket.Conn) {
	t.Helper()
	for _, m := range []struct {
		name   string
		kind   websocket.MessageType
		data   []byte
		pieces int
	}{
		{"empty", websocket.MessageText, nil, 1},
		{"small", websocket.MessageText, []byte("grüß dich"), 1},
		{"binary", websocket.MessageBinary, noise(300), 1},
		{"a mebibyte", websocket.MessageBinary, noise(1 << 20), 1},
		{"fragments", websocket.MessageText, []byte(strings.Repeat("piece by piece ", 1000)), 100},
		{"large fragments", websocket.MessageBinary, noise(3 << 20), 7},
	} {
		w, err := c.Writer(ctx, m.kind)
		if err != nil {
			t.Fatal(err)
		}
		size := max(1, (len(m.data)+m.pieces-1)/m.pieces)
		for rest := m.data; len(rest) > 0; { // each Write is a frame
			n := min(size, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		kind, got, err := c.Read(ctx)
		if err != nil || kind != m.kind || !bytes.Equal(got, m.data) {
			t.Errorf("%s: %v with %d bytes came back instead of %d, %v", m.name, kind, len(got), len(m.data), err)
		}
	}
}

// idle opens a WebSocket and returns the function that waits for its end.
type idle func(ctx context.Context) (wait func(), err error)

// TestIdleWebSockets holds many that say nothing, measures them, and ends their session.
func TestIdleWebSockets(t *testing.T) {
	n := 1000
	if long {
		n = 10_000
	}
	t.Run("over HTTP/1.1", func(t *testing.T) {
		f, s := startSockets(t, plain, "http")
		client := f.client(false)
		// Two descriptors each in the proxy, and in this process, which is client and server.
		n := min(n, int(files/2)-200)
		testIdle(t, f, s, n, func(ctx context.Context) (func(), error) {
			c, err := f.dialWS(ctx, client, "/ws/idle")
			if err != nil {
				return nil, err
			}
			over := c.CloseRead(context.Background())
			return func() { <-over.Done(); _ = c.CloseNow() }, nil
		})
	})
	t.Run("over HTTP/2", func(t *testing.T) {
		f, s := startSockets(t, secure, "http")
		transport := &http2.Transport{TLSClientConfig: f.tls.Clone()}
		defer transport.CloseIdleConnections()
		// Without a first answer the transport does not know yet that the server takes CONNECT with a protocol.
		if !answers(&http.Client{Transport: transport}, f.request("GET", "/auth/session", nil)) {
			t.Fatal("the session is not there")
		}
		testIdle(t, f, s, n, func(ctx context.Context) (func(), error) { return f.connectWS(transport, "/ws/idle") })
	})
}

// connectWS opens a WebSocket over HTTP/2 (RFC 8441).
func (f *front) connectWS(transport *http2.Transport, path string) (func(), error) {
	in, out := io.Pipe()
	req := f.request("CONNECT", path, in)
	req.Header.Set("Origin", f.url)
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header[":protocol"] = []string{"websocket"}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != 200 {
		res.Body.Close()
		return nil, errors.New(res.Status)
	}
	return func() {
		_, _ = io.Copy(io.Discard, res.Body) // the session's end resets the stream
		_ = out.Close()
		_ = res.Body.Close()
	}, nil
}

func testIdle(t *testing.T, f *front, s *sockets, n int, open idle) {
	t.Helper()
	before, err := f.memory()
	if err != nil {
		t.Fatal(err)
	}
	var all, openers sync.WaitGroup
	begun := time.Now()
	work := make(chan struct{})
	for range 32 {
		openers.Go(func() {
			for range work {
				wait, err := open(t.Context())
				if err != nil {
					t.Error(err)
					continue
				}
				all.Go(wait)
			}
		})
	}
	for range n {
		work <- struct{}{}
	}
	close(work)
	openers.Wait()
	for range n {
		if t.Failed() {
			return
		}
		receive(t, "an open WebSocket at the server", s.begun)
	}
	opened := time.Since(begun)
	after, err := f.memory()
	if err != nil {
		t.Fatal(err)
	}
	begun = time.Now()
	f.logout(t)
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	receive(t, "the end of all WebSockets", done)
	closed := time.Since(begun)
	t.Logf("%d WebSockets opened in %s: %.1f KiB of the proxy's memory each (%s before, %s after); all closed %s after the logout was asked for",
		n, opened.Round(time.Millisecond), float64(after-before)/1024/float64(n), mib(before), mib(after), closed.Round(time.Millisecond))
	if closed > 2*time.Second {
		t.Errorf("the last WebSocket was closed %s after the logout was asked for", closed)
	}
}
