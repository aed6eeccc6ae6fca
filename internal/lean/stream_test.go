package lean_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cloakroom/cloakroom/internal/lean"
)

// closeCounter is a body of which nothing is known but that it can be read and closed.
type closeCounter struct {
	io.Reader
	closed atomic.Int32
}

func (c *closeCounter) Close() error { c.closed.Add(1); return nil }

// serveOnce reads a request, answers it, and returns its bytes; chunks are joined.
func serveOnce(c net.Conn, br *bufio.Reader) string {
	head, err := readHead(br)
	if err != nil {
		return "cut off: " + head
	}
	if strings.Contains(head, "Expect: 100-continue") {
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
	if err != nil {
		return "malformed: " + head
	}
	var body []byte
	trailer := ""
	switch {
	case len(req.TransferEncoding) > 0:
		if body, err = io.ReadAll(httputil.NewChunkedReader(br)); err == nil {
			trailer, err = readHead(br)
		}
	case req.ContentLength > 0:
		body = make([]byte, req.ContentLength)
		_, err = io.ReadFull(br, body)
	}
	if err != nil {
		return "cut off: " + head
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	return head + string(body) + trailer
}

// zeros is a body of that many bytes.
func zeros(n int64) io.ReadCloser { return io.NopCloser(io.LimitReader(zero{}, n)) }

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Bodies far larger than any buffer pass in both directions, with a length and in chunks, in little memory.
func TestHugeBodies(t *testing.T) {
	const size = 64 << 20
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if n != size || err != nil {
			t.Errorf("the upstream read %d: %v", n, err)
		}
		if r.URL.RawQuery == "length" {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		}
		_, _ = io.CopyN(w, zero{}, size)
	}))
	defer srv.Close()
	address := srv.Listener.Addr().String()
	both(t, func(t *testing.T, k kit) {
		rt := k.make(address, lean.Options{})
		for _, how := range []string{"length", "chunks"} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			req := request(within(t), t, http.MethodPost, address, zeros(size))
			if req.URL.RawQuery = how; how == "length" {
				req.ContentLength = size
			}
			res, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, res.Body)
			if n != size || err != nil {
				t.Errorf("read %d: %v", n, err)
			}
			res.Body.Close()
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
				t.Errorf("%s: allocated %d MiB", how, used>>20)
			}
		}
	})
}

// The answer comes while the body is still being sent, piece by piece.
func TestBothWays(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = rc.Flush()
		var b [64]byte
		for {
			n, err := r.Body.Read(b[:])
			_, _ = w.Write(b[:n])
			_ = rc.Flush()
			if err != nil {
				return
			}
		}
	}))
	defer srv.Close()
	address := srv.Listener.Addr().String()
	both(t, func(t *testing.T, k kit) {
		rt := k.make(address, lean.Options{})
		from, to := io.Pipe()
		res, err := rt.RoundTrip(request(within(t), t, http.MethodPost, address, from))
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"one", "two", "three"} {
			_, _ = io.WriteString(to, word)
			got := make([]byte, len(word))
			if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != word {
				t.Fatalf("%q, %v", got, err)
			}
		}
		to.Close()
		if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
		res.Body.Close()
	})
}

// An upstream refuses a large body before it has read it, and closes.
func TestEarlyAnswer(t *testing.T) {
	both(t, func(t *testing.T, k kit) {
		for _, keeps := range []bool{false, true} {
			up := newUpstream(t, func(c net.Conn, br *bufio.Reader) {
				if _, err := readHead(br); err != nil {
					return
				}
				raw := "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nsorry"
				if keeps {
					raw = strings.ReplaceAll(raw, "Connection: close\r\n", "")
				}
				_, _ = io.WriteString(c, raw)
				_, _ = br.ReadByte()
				if keeps { // it neither reads nor closes
					_, _ = io.ReadAll(io.LimitReader(br, 1))
					<-t.Context().Done()
				}
			})
			body := &closeCounter{Reader: zeros(1 << 40)}
			rt := k.make(up.address, lean.Options{})
			req := request(within(t), t, http.MethodPost, up.address, body)
			req.ContentLength = 1 << 40
			res, err := rt.RoundTrip(req)
			if err != nil {
				if k.lean() || keeps { // net/http may see the failed write first
					t.Fatal(err)
				}
				return
			}
			if got := answerOf(res); !strings.Contains(got, `"sorry"`) {
				t.Error(got)
			}
			eventually(t, "the body is closed", func() bool { return body.closed.Load() == 1 })
		}
	})
}

func TestExpectContinue(t *testing.T) {
	for _, tc := range []struct {
		name, raw string
		timeout   time.Duration
		want      string // the status of the answer
		sent      bool
		stdSent   bool
	}{
		{"continue", "HTTP/1.1 100 Continue\r\n\r\n", time.Hour, "200", true, true},
		{"silence", "", time.Millisecond, "200", true, true},
		{"no time", "", 0, "200", true, true},
		{"refused and closed", "HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", time.Hour, "417", false, false},
		// net/http sends the body so that the connection can be kept: it may be long, and nobody wants it.
		{"refused", "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n", time.Hour, "417", false, true},
		{"accepted without continue", "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", time.Hour, "202", true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			both(t, func(t *testing.T, k kit) {
				got := make(chan string, 1)
				up := newUpstream(t, func(c net.Conn, br *bufio.Reader) {
					if _, err := readHead(br); err != nil {
						return
					}
					_, _ = io.WriteString(c, tc.raw)
					var b [5]byte
					n, _ := io.ReadFull(br, b[:])
					got <- string(b[:n])
					if !strings.Contains(tc.raw, "Content-Length") {
						_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
					}
				})
				body := &closeCounter{Reader: strings.NewReader("hello")}
				rt := k.make(up.address, lean.Options{ExpectContinueTimeout: tc.timeout})
				req := request(within(t), t, http.MethodPost, up.address, body)
				req.ContentLength = 5
				req.Header.Set("Expect", "100-continue")
				res, err := rt.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if !strings.HasPrefix(res.Status, tc.want) {
					t.Error(res.Status)
				}
				sent := tc.sent
				if !k.lean() {
					sent = tc.stdSent
				}
				if b := <-got; (b == "hello") != sent {
					t.Errorf("the upstream got %q", b)
				}
				eventually(t, "the body is closed", func() bool { return body.closed.Load() == 1 })
			})
		})
	}
}

// A body that was not sent makes the connection useless, however late the answer ends.
func TestUnsentBody(t *testing.T) {
	closed := make(chan struct{}, 2)
	up := newUpstream(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := readHead(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nn")
		<-closed
		_, _ = io.WriteString(c, "o")
		_, _ = br.ReadByte()
	})
	rt := kits[1].make(up.address, lean.Options{ExpectContinueTimeout: time.Hour})
	for range 2 {
		req := request(within(t), t, http.MethodPost, up.address, &closeCounter{Reader: strings.NewReader("hello")})
		req.ContentLength = 5
		req.Header.Set("Expect", "100-continue")
		written := make(chan struct{})
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(written) }}))
		res, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		<-written
		closed <- struct{}{}
		if got := answerOf(res); !strings.Contains(got, `"no"`) {
			t.Error(got)
		}
	}
	if n := up.conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// What has come is read, though the end of the last chunk has not.
func TestChunkIsNotHeldUp(t *testing.T) {
	for _, rest := range []string{"\r\n0\r\n\r\n", "\r\n", "0\r\n\r\n", "\r\n\r\n"} {
		whole := "5\r\nhello\r\n0\r\n\r\n"
		read := make(chan struct{})
		up := newUpstream(t, func(c net.Conn, br *bufio.Reader) {
			if _, err := readHead(br); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+strings.TrimSuffix(whole, rest))
			<-read
			_, _ = io.WriteString(c, rest)
		})
		res, err := kits[1].make(up.address, lean.Options{}).RoundTrip(request(within(t), t, http.MethodGet, up.address, nil))
		if err != nil {
			t.Fatal(err)
		}
		var b [64]byte
		n, err := res.Body.Read(b[:])
		if string(b[:n]) != "hello" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		close(read)
		if more, err := io.ReadAll(res.Body); len(more) > 0 || err != nil {
			t.Errorf("%q, %v", more, err)
		}
		res.Body.Close()
	}
}

// What fails while a body is read is what the caller hears of, and its own error is among it.
func TestBodyFails(t *testing.T) {
	mine := errors.New("mine")
	both(t, func(t *testing.T, k kit) {
		up := newUpstream(t, func(_ net.Conn, br *bufio.Reader) { _, _ = io.Copy(io.Discard, br) })
		rt := k.make(up.address, lean.Options{})
		for _, length := range []int64{-1, 10} {
			body := &closeCounter{Reader: io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(mine))}
			req := request(within(t), t, http.MethodPost, up.address, body)
			req.ContentLength = length
			res, err := rt.RoundTrip(req)
			if err == nil {
				res.Body.Close()
			}
			if !errors.Is(err, mine) {
				t.Errorf("%v", err)
			}
			eventually(t, "the body is closed", func() bool { return body.closed.Load() == 1 })
		}
	})
}

// Nothing is known of a body whose method usually has none: it is looked at first.
func TestProbedBody(t *testing.T) {
	both(t, func(t *testing.T, k kit) {
		for name, body := range map[string]io.Reader{
			"": strings.NewReader(""), "a": strings.NewReader("a"), "abc": iotest.OneByteReader(strings.NewReader("abc")), "abcd": iotest.DataErrReader(strings.NewReader("abcd")),
		} {
			seen := make(chan string, 1)
			up := newUpstream(t, func(c net.Conn, br *bufio.Reader) { seen <- serveOnce(c, br) })
			req := request(within(t), t, http.MethodDelete, up.address, &closeCounter{Reader: body})
			req.ContentLength = -1
			res, err := k.make(up.address, lean.Options{}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			got := <-seen
			if !strings.HasSuffix(strings.TrimSuffix(got, "\r\n"), "\r\n"+name) || strings.Contains(got, "chunked") != (name != "") {
				t.Errorf("%q: %q", name, got)
			}
		}
	})
}

// Trailers pass both ways; those of the request are set only when its body has been read.
func TestTrailers(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Out")
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("X-Out", "got "+r.Trailer.Get("X-In"))
	}))
	defer srv.Close()
	address := srv.Listener.Addr().String()
	both(t, func(t *testing.T, k kit) {
		req := request(within(t), t, http.MethodPost, address, nil)
		req.Trailer = http.Header{"X-In": nil}
		req.ContentLength = -1
		req.Body = &trailing{Reader: strings.NewReader("hello"), into: req.Trailer}
		res, err := k.make(address, lean.Options{}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, announced := res.Trailer["X-Out"]; !announced {
			t.Error("not announced")
		}
		if got := answerOf(res); res.Trailer.Get("X-Out") != "got sum" || !strings.Contains(got, `"hello"`) {
			t.Error(got)
		}
	})
}

type trailing struct {
	io.Reader
	into http.Header
}

func (r *trailing) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		r.into.Set("X-In", "sum")
	}
	return n, err
}

func (r *trailing) Close() error { return nil }

func TestSwitchProtocols(t *testing.T) {
	both(t, func(t *testing.T, k kit) {
		up := newUpstream(t, func(c net.Conn, br *bufio.Reader) {
			if _, err := readHead(br); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nfirst ")
			_, _ = io.Copy(c, br)
			_, _ = io.WriteString(c, "last")
		})
		ctx, cancel := context.WithCancel(within(t))
		rt := k.make(up.address, lean.Options{MaxConns: 1, ResponseHeaderTimeout: time.Minute})
		for range 2 { // a connection that has switched does not count
			req := request(ctx, t, http.MethodGet, up.address, nil)
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "echo")
			res, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			rwc, ok := res.Body.(io.ReadWriteCloser)
			if !ok || res.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%T %s", res.Body, res.Status)
			}
			defer rwc.Close()
			_, _ = io.WriteString(rwc, "second ")
			if half, ok := res.Body.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
				t.Error("one direction cannot be closed")
			}
			got, err := io.ReadAll(rwc)
			if string(got) != "first second last" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		}
		cancel()
	})
}

// The body may be closed while it is read, as when a session ends: the read ends, and the connection.
func TestCloseWhileReading(t *testing.T) {
	both(t, func(t *testing.T, k kit) {
		left := make(chan struct{})
		up := newUpstream(t, func(c net.Conn, br *bufio.Reader) {
			_, _ = readHead(br)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nx")
			_, _ = br.ReadByte()
			close(left)
		})
		res, err := k.make(up.address, lean.Options{}).RoundTrip(request(within(t), t, http.MethodGet, up.address, nil))
		if err != nil {
			t.Fatal(err)
		}
		var one [1]byte
		_, _ = res.Body.Read(one[:])
		time.AfterFunc(time.Millisecond, func() { res.Body.Close() })
		for err == nil {
			_, err = res.Body.Read(one[:])
		}
		if _, again := res.Body.Read(one[:]); again == nil {
			t.Error("read after close")
		}
		<-left
	})
}

// A stream that is closed by another goroutine leaves the trailer alone, which its reader may be looking at.
func TestCloseLeavesTheTrailer(t *testing.T) {
	raw := "HTTP/1.1 200 OK\r\nTrailer: A\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n"
	res, err := scripted(&script{Reader: strings.NewReader(raw)}).RoundTrip(request(within(t), t, http.MethodGet, "upstream", nil))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); res.Body.Close() }()
	for name, v := range res.Trailer {
		if v != nil {
			t.Error(name, v)
		}
	}
	<-done
	if len(res.Trailer) != 1 {
		t.Error(res.Trailer)
	}
}

// halfWritten fails in the middle of a write.
type halfWritten struct{ script }

func (h *halfWritten) Write(p []byte) (int, error) { return len(p) / 2, net.ErrClosed }

// The body is closed though it was never sent, and the answer came all the same.
func TestLastWordsCloseTheBody(t *testing.T) {
	rt := lean.New(lean.Options{Dial: func(context.Context) (net.Conn, error) {
		return &halfWritten{script{Reader: strings.NewReader(okHello)}}, nil
	}})
	body := &closeCounter{Reader: strings.NewReader("hello")}
	res, err := rt.RoundTrip(request(within(t), t, http.MethodPost, "upstream", body))
	if err != nil {
		t.Fatal(err)
	}
	answerOf(res)
	if n := body.closed.Load(); n != 1 {
		t.Errorf("closed %d times", n)
	}
}

// lingering is a body whose end is told a little late.
type lingering struct {
	io.Reader
	end chan struct{}
}

func (l *lingering) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if err == io.EOF {
		<-l.end
	}
	return n, err
}
func (l *lingering) Close() error { return nil }

// An upstream may switch protocols as soon as it has the whole body, of which we may not have seen the end.
func TestSwitchAfterBody(t *testing.T) {
	both(t, func(t *testing.T, k kit) {
		body := &lingering{strings.NewReader("hello"), make(chan struct{})}
		up := newUpstream(t, func(c net.Conn, br *bufio.Reader) {
			_, _ = readHead(br)
			_, _ = io.ReadFull(br, make([]byte, 5))
			time.AfterFunc(5*time.Millisecond, func() { close(body.end) })
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
			_, _ = io.Copy(c, br)
		})
		req := request(within(t), t, http.MethodPost, up.address, body)
		req.ContentLength = 5
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "tcp")
		res, err := k.make(up.address, lean.Options{}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		_, _ = io.WriteString(res.Body.(io.Writer), "echo")
		got := make([]byte, 4)
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != "echo" {
			t.Errorf("%q, %v", got, err)
		}
	})
}
