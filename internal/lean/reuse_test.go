package lean_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/lean"
)

const okHello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

// A request on a connection that breaks before an answer came is sent again, if that cannot do harm.
func TestSentAgain(t *testing.T) {
	for _, tc := range []struct {
		name, method string
		body         io.Reader
		mod          func(*http.Request)
		partial      string // what the upstream sends before it closes
		again        bool
	}{
		{name: "GET", method: "GET", again: true},
		{name: "HEAD", method: "HEAD", again: true},
		{name: "POST", method: "POST"},
		{name: "PUT", method: "PUT", body: strings.NewReader("hello")},
		{name: "POST that the upstream knows again", method: "POST", body: strings.NewReader("hello"), mod: func(r *http.Request) { r.Header.Set("Idempotency-Key", "a") }, again: true},
		{name: "GET with a body that comes once", method: "GET", body: &closeCounter{Reader: strings.NewReader("hello")}},
		{name: "the same with a key", method: "POST", body: &closeCounter{Reader: strings.NewReader("hello")}, mod: func(r *http.Request) { r.Header.Set("X-Idempotency-Key", "a") }},
		{name: "GET with half an answer", method: "GET", partial: "HTTP/1.1 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			both(t, func(t *testing.T, k kit) {
				var seen atomic.Int32
				up := newUpstream(t, func(c net.Conn, br *bufio.Reader) {
					for {
						if _, err := readHead(br); err != nil {
							return
						}
						if seen.Add(1) == 2 {
							_, _ = io.WriteString(c, tc.partial)
							if tc.body != nil {
								_, _ = br.Peek(5)
							}
							return
						}
						_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
					}
				})
				rt := k.make(up.address, lean.Options{})
				if got := outcome(t, rt, http.MethodGet, up.address); !strings.Contains(got, "204") {
					t.Fatal(got)
				}
				body := tc.body
				if s, ok := body.(*strings.Reader); ok {
					_, _ = s.Seek(0, io.SeekStart)
				} else if body != nil {
					body = &closeCounter{Reader: strings.NewReader("hello")}
				}
				req := request(within(t), t, tc.method, up.address, body)
				if tc.mod != nil {
					tc.mod(req)
				}
				res, err := rt.RoundTrip(req)
				if err == nil {
					res.Body.Close()
				}
				if (err == nil) != tc.again {
					t.Errorf("sent again: %v, want %v", err, tc.again)
				}
				if c, ok := body.(*closeCounter); ok {
					eventually(t, "the body is closed", func() bool { return c.closed.Load() == 1 })
				}
			})
		})
	}
}

// A fresh connection that breaks is a failure of the upstream.
func TestNotSentAgain(t *testing.T) {
	both(t, func(t *testing.T, k kit) {
		up := newUpstream(t, func(_ net.Conn, br *bufio.Reader) { _, _ = readHead(br) })
		if got := outcome(t, k.make(up.address, lean.Options{}), http.MethodGet, up.address); got != "refused" || up.conns.Load() != 1 {
			t.Errorf("%s over %d connections", got, up.conns.Load())
		}
	})
}

// What the upstream has done to an idle connection is seen before a request is written to it: a POST is not lost.
func TestIdleConnections(t *testing.T) {
	for _, transport := range []string{"tcp", "unix", "tls"} {
		for _, tc := range []struct {
			name string
			do   func(c net.Conn)
			same bool
		}{
			{"left alone", func(net.Conn) {}, true},
			{"closed", func(c net.Conn) { c.Close() }, false},
			{"reset", func(c net.Conn) {
				if tcp, ok := c.(*net.TCPConn); ok {
					_ = tcp.SetLinger(0)
				}
				c.Close()
			}, false},
			{"an answer nobody asked for", func(c net.Conn) { _, _ = io.WriteString(c, okHello) }, false},
		} {
			t.Run(transport+" "+tc.name, func(t *testing.T) {
				idle, done := make(chan struct{}), make(chan struct{})
				o, conns := listen(t, transport, func(c net.Conn) {
					br := bufio.NewReader(c)
					for first := true; ; first = false {
						if _, err := readHead(br); err != nil {
							return
						}
						_, _ = io.WriteString(c, okHello)
						if first {
							<-idle
							tc.do(c)
							done <- struct{}{}
						}
					}
				})
				rt := lean.New(o)
				for i := range 2 {
					res, err := rt.RoundTrip(request(within(t), t, http.MethodPost, "upstream", nil))
					if err != nil {
						t.Fatal(err)
					}
					if got := answerOf(res); !strings.Contains(got, `"hello"`) {
						t.Error(got)
					}
					if i == 0 {
						idle <- struct{}{}
						<-done
						close(idle)
						go func() { <-done }()
					}
				}
				if same := conns.Load() == 1; same != tc.same {
					t.Errorf("the same connection: %v", same)
				}
			})
		}
	}
}

// listen serves over a kind of socket and returns how to reach it.
func listen(t *testing.T, kind string, serve func(net.Conn)) (lean.Options, *atomic.Int32) {
	t.Helper()
	network, address := "tcp", "127.0.0.1:0"
	if kind == "unix" {
		network, address = "unix", filepath.Join(t.TempDir(), "s")
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var config *tls.Config
	if kind == "tls" {
		srv := httptest.NewTLSServer(nil)
		config = srv.TLS.Clone()
		config.NextProtos = nil
		srv.Close()
	}
	var conns atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			if config != nil {
				c = tls.Server(&holding{Conn: c}, config)
			}
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	return lean.Options{Dial: func(ctx context.Context) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, l.Addr().String())
		if err != nil || config == nil {
			return c, err
		}
		s := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		return s, s.HandshakeContext(ctx)
	}}, &conns
}

// The answer says over what it came, as ReverseProxy's users expect.
func TestTLSState(t *testing.T) {
	o, _ := listen(t, "tls", func(c net.Conn) { answers(okHello, false)(c, bufio.NewReader(c)) })
	res, err := lean.New(o).RoundTrip(request(within(t), t, http.MethodGet, "upstream", nil))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.TLS == nil || !res.TLS.HandshakeComplete {
		t.Errorf("%+v", res.TLS)
	}
}

// A body that is closed early costs the connection only if its rest is not there yet.
func TestCloseEarly(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for name, tc := range map[string]struct {
		raw  string
		same bool
	}{
		"length":            {okHello, true},
		"chunks":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n", true},
		"not all there":     {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", false},
		"no last chunk":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false},
		"more than a bit":   {"HTTP/1.1 200 OK\r\nContent-Length: 102400\r\n\r\n" + long, false},
		"until close":       {"HTTP/1.1 200 OK\r\n\r\nhello", false},
		"more than the end": {okHello + "x", false},
	} {
		t.Run(name, func(t *testing.T) {
			up := newUpstream(t, answers(tc.raw, false))
			rt := lean.New(lean.Options{
				ReadBuffer: 4096, ResponseHeaderTimeout: time.Minute,
				Dial: func(ctx context.Context) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", up.address)
				},
			})
			for range 3 {
				res, err := rt.RoundTrip(request(within(t), t, http.MethodGet, up.address, nil))
				if err != nil {
					t.Fatal(err)
				}
				var one [1]byte
				if _, err := res.Body.Read(one[:]); err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if _, err := res.Body.Read(one[:]); !errors.Is(err, http.ErrBodyReadAfterClose) {
					t.Error(err)
				}
			}
			if same := up.conns.Load() == 1; same != tc.same {
				t.Errorf("the same connection: %v", same)
			}
		})
	}
}

// Who asks for the end of the connection gets it, even if the upstream keeps it.
func TestCloseAsked(t *testing.T) {
	both(t, func(t *testing.T, k kit) {
		up := newUpstream(t, answers(okHello, false))
		rt := k.make(up.address, lean.Options{})
		for range 2 {
			req := request(within(t), t, http.MethodGet, up.address, nil)
			req.Close = true
			res, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			answerOf(res)
		}
		if n := up.conns.Load(); n != 2 {
			t.Errorf("%d connections", n)
		}
	})
}

// Over TLS an answer that nobody asked for may have been read from the socket together with the one before.
func TestUnaskedInTLS(t *testing.T) {
	o, conns := listen(t, "tls", func(c net.Conn) {
		br := bufio.NewReader(c)
		for {
			if _, err := readHead(br); err != nil {
				return
			}
			held, _ := c.(*tls.Conn).NetConn().(*holding)
			held.hold()
			_, _ = io.WriteString(c, okHello)
			_, _ = io.WriteString(c, okHello)
			held.flush()
		}
	})
	rt := lean.New(o)
	for range 2 {
		res, err := rt.RoundTrip(request(within(t), t, http.MethodPost, "upstream", nil))
		if err != nil {
			t.Fatal(err)
		}
		answerOf(res)
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// holding is a connection that can hold back what is written, and write it at once.
type holding struct {
	net.Conn
	held []byte
	on   bool
}

func (h *holding) hold()  { h.on = true }
func (h *holding) flush() { h.on = false; _, _ = h.Conn.Write(h.held); h.held = nil }

func (h *holding) Write(p []byte) (int, error) {
	if h.on {
		h.held = append(h.held, p...)
		return len(p), nil
	}
	return h.Conn.Write(p)
}

// Both call the hooks of a trace at the same points, as far as an observer can tell.
func TestTrace(t *testing.T) {
	for _, with := range []string{"none", "at hand", "beside", "expect"} {
		t.Run(with, func(t *testing.T) {
			var seen [][]string
			both(t, func(t *testing.T, k kit) {
				up := newUpstream(t, func(c net.Conn, br *bufio.Reader) {
					for range 2 {
						head, err := readHead(br)
						if err != nil {
							return
						}
						if with == "expect" {
							_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
						}
						if strings.Contains(head, "Content-Length: 5") {
							_, _ = io.ReadFull(br, make([]byte, 5))
						}
						_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"+okHello)
					}
				})
				rt := k.make(up.address, lean.Options{ExpectContinueTimeout: time.Hour})
				for range 2 {
					var mu sync.Mutex
					var events []string
					add := func(s string) { mu.Lock(); events = append(events, s); mu.Unlock() }
					put := make(chan struct{})
					ctx := httptrace.WithClientTrace(within(t), &httptrace.ClientTrace{
						GetConn:              func(host string) { add("GetConn") },
						GotConn:              func(i httptrace.GotConnInfo) { add(map[bool]string{true: "GotConn again", false: "GotConn"}[i.Reused]) },
						PutIdleConn:          func(err error) { close(put) },
						GotFirstResponseByte: func() { add("GotFirstResponseByte") },
						Got100Continue:       func() { add("Got100Continue") },
						Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
							add("Got1xxResponse " + http.StatusText(code) + h.Get("Link"))
							return nil
						},
						WroteHeaderField: func(name string, v []string) { add(name + ": " + strings.Join(v, "|")) },
						WroteHeaders:     func() { add("WroteHeaders") },
						Wait100Continue:  func() { add("Wait100Continue") },
						WroteRequest:     func(i httptrace.WroteRequestInfo) { add("WroteRequest"); _ = i.Err },
					})
					var body io.Reader
					switch with {
					case "at hand":
						body = strings.NewReader("hello")
					case "beside", "expect":
						body = &closeCounter{Reader: strings.NewReader("hello")}
					}
					req := request(ctx, t, http.MethodPost, up.address, body)
					req.Host = "upstream.test"
					if body != nil {
						req.ContentLength = 5
					}
					if with == "expect" {
						req.Header.Set("Expect", "100-continue")
					}
					res, err := rt.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					answerOf(res)
					<-put
					mu.Lock()
					slices.Sort(events) // two goroutines of net/http's
					seen = append(seen, events)
					mu.Unlock()
				}
			})
			if len(seen) == 4 && (!slices.Equal(seen[0], seen[2]) || !slices.Equal(seen[1], seen[3])) {
				t.Errorf("net/http %q\nlean     %q", seen[:2], seen[2:])
			}
		})
	}
}

// An error of the one who gets the interim answers ends the exchange.
func TestInterimRefused(t *testing.T) {
	mine := errors.New("mine")
	both(t, func(t *testing.T, k kit) {
		up := newUpstream(t, answers("HTTP/1.1 103 Early Hints\r\n\r\n"+okHello, false))
		ctx := httptrace.WithClientTrace(within(t), &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { return mine }})
		res, err := k.make(up.address, lean.Options{}).RoundTrip(request(ctx, t, http.MethodGet, up.address, nil))
		if err == nil {
			res.Body.Close()
		}
		if !errors.Is(err, mine) {
			t.Error(err)
		}
	})
}

// A connection that was made for a request that did not wait for it is looked at, too, before it is used: upstreams close
// those that say nothing, some with an answer.
func TestUnclaimedConnection(t *testing.T) {
	for _, last := range []string{"", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"} {
		closed := make(chan struct{})
		up := newUpstream(t, func(c net.Conn, br *bufio.Reader) {
			select {
			case <-closed:
				answers(okHello, false)(c, br)
			default:
				_, _ = io.WriteString(c, last)
				c.Close()
				close(closed)
			}
		})
		ctx, cancel := context.WithCancel(within(t))
		rt := lean.New(lean.Options{Dial: func(dial context.Context) (net.Conn, error) {
			cancel()
			return new(net.Dialer).DialContext(dial, "tcp", up.address)
		}})
		_ = get(ctx, t, rt)
		eventually(t, "the connection is idle", func() bool { return rt.Idle() == 1 })
		<-closed
		if got := outcome(t, rt, http.MethodPost, up.address); !strings.Contains(got, `"hello"`) {
			t.Error(got)
		}
	}
}

// An upstream that ends closes all idle connections, one of them just when it is used: the request is sent again over a
// new one.
func TestAllCloseAtOnce(t *testing.T) {
	for _, most := range []int{0, 4} {
		var ending atomic.Bool
		var busy sync.WaitGroup
		busy.Add(4)
		up := newUpstream(t, func(c net.Conn, br *bufio.Reader) {
			if ending.Load() {
				answers(okHello, false)(c, br)
				return
			}
			_, _ = readHead(br)
			busy.Done()
			busy.Wait()
			_, _ = io.WriteString(c, okHello)
			_, _ = readHead(br)
			ending.Store(true)
		})
		rt := kits[1].make(up.address, lean.Options{MaxConns: most})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := get(within(t), t, rt); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := get(within(t), t, rt); err != nil {
			t.Error(err)
		}
	}
}

// An upstream that closes each connection after one answer, and does not say so, fails no request that may be sent again,
// however many wait for connections.
func TestClosesUnannounced(t *testing.T) {
	both(t, func(t *testing.T, k kit) {
		for _, most := range []int{1, 4} {
			up := newUpstream(t, func(c net.Conn, br *bufio.Reader) {
				_, _ = readHead(br)
				_, _ = io.WriteString(c, okHello)
				_, _ = readHead(br)
			})
			rt := k.make(up.address, lean.Options{MaxConns: most})
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if err := get(within(t), t, rt); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
	})
}
