package lean_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/lean"
)

// A request ends at once when its context does, wherever it is, and leaves nothing behind.
func TestCancel(t *testing.T) {
	const partial = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nx"
	mine := errors.New("mine")
	for _, tc := range []struct {
		name     string
		answer   string // what the upstream sends after the header of the request
		busy     bool   // the only connection is in use
		dials    bool   // the dial does not end
		body     func() io.ReadCloser
		stdHangs bool // net/http waits for a read of the request's body
	}{
		{name: "while dialling", dials: true},
		{name: "while waiting for a connection", answer: partial, busy: true},
		{name: "while writing", body: func() io.ReadCloser { return zeros(1 << 40) }},
		{name: "while the request's body waits", stdHangs: true, body: func() io.ReadCloser { r, _ := io.Pipe(); return r }},
		{name: "while the request's body waits and hears nothing", stdHangs: true, body: func() io.ReadCloser { return &deaf{make(chan struct{})} }},
		{name: "while waiting for the header", answer: ""},
		{name: "within the header", answer: "HTTP/1.1 200 OK\r\nContent-"},
		{name: "after an interim answer", answer: "HTTP/1.1 103 Early Hints\r\n\r\n"},
		{name: "while reading the body", answer: partial},
		{name: "while reading chunks", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			both(t, func(t *testing.T, k kit) {
				if tc.stdHangs && !k.lean() {
					return // net/http waits for the body, whatever becomes of the request: there is nothing to compare
				}
				before := runtime.NumGoroutine()
				closed, canceled, heads := make(chan struct{}, 2), make(chan struct{}, 2), make(chan struct{}, 4)
				up := newUpstream(t, func(c net.Conn, br *bufio.Reader) {
					defer func() { closed <- struct{}{} }()
					if _, err := readHead(br); err != nil {
						return
					}
					heads <- struct{}{}
					if tc.body == nil {
						_, _ = io.WriteString(c, tc.answer)
						_, _ = br.ReadByte()
						return
					}
					<-canceled // it does not read before
					_, _ = io.Copy(io.Discard, br)
				})
				o := lean.Options{MaxConns: 1}
				dialling := make(chan struct{}, 1)
				if tc.dials {
					o.Dial = func(ctx context.Context) (net.Conn, error) {
						dialling <- struct{}{}
						<-ctx.Done()
						return nil, ctx.Err()
					}
				}
				rt := k.make(up.address, o)
				var body io.ReadCloser
				if tc.busy {
					res, err := rt.RoundTrip(request(within(t), t, http.MethodGet, up.address, nil))
					if err != nil {
						t.Fatal(err)
					}
					defer res.Body.Close()
				}
				for _, cause := range []error{nil, mine} {
					if cause != nil && (tc.busy || tc.dials) {
						continue // once is enough
					}
					ctx, cancel := context.WithCancelCause(within(t))
					req := request(ctx, t, http.MethodPost, up.address, nil)
					if tc.body != nil {
						body = tc.body()
						req.Body, req.ContentLength = body, 1<<40
					}
					failed := make(chan error, 1)
					read := make(chan struct{})
					go func() {
						res, err := rt.RoundTrip(req)
						if err == nil {
							_, err = res.Body.Read(make([]byte, 1))
							close(read)
							if err == nil {
								_, err = res.Body.Read(make([]byte, 1))
							}
							res.Body.Close()
						}
						failed <- err
					}()
					switch {
					case tc.dials:
						<-dialling
					case strings.Contains(tc.answer, "\r\n\r\n") && !tc.busy && !strings.Contains(tc.answer, "103"):
						<-heads
						<-read
					case !tc.busy:
						<-heads
					}
					cancel(cause)
					canceled <- struct{}{}
					err := <-failed
					if k.lean() && !errors.Is(err, context.Canceled) || cause != nil && !errors.Is(err, cause) || err == nil {
						t.Errorf("%v", err)
					}
					if !tc.dials && !tc.busy {
						<-closed
					}
				}
				rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
				if tc.busy {
					return
				}
				if d, ok := body.(*deaf); ok {
					<-d.closed
				}
				eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before+3 })
			})
		})
	}
}

// deaf is a body whose read ends only when it is closed, and whose close waits for nothing.
type deaf struct{ closed chan struct{} }

func (d *deaf) Read([]byte) (int, error) { <-d.closed; return 0, io.ErrClosedPipe }
func (d *deaf) Close() error             { close(d.closed); return nil }

// A connection whose request was cancelled is not used again, and one that was not is, without a deadline left on it.
func TestCancelAndReuse(t *testing.T) {
	up := newUpstream(t, answers("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false))
	both(t, func(t *testing.T, k kit) {
		rt := k.make(up.address, lean.Options{ResponseHeaderTimeout: time.Minute})
		up.conns.Store(0)
		for i := range 50 {
			ctx, cancel := context.WithCancel(within(t))
			res, err := rt.RoundTrip(request(ctx, t, http.MethodGet, up.address, nil))
			if err != nil {
				t.Fatal(err)
			}
			if got := answerOf(res); !strings.Contains(got, `"hello"`) {
				t.Error(i, got)
			}
			cancel() // too late to matter
		}
		if n := up.conns.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
		ctx, cancel := context.WithCancel(within(t))
		res, err := rt.RoundTrip(request(ctx, t, http.MethodGet, up.address, nil))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		eventually(t, "the read fails", func() bool {
			_, err := res.Body.Read(make([]byte, 1))
			return err != nil
		})
		res.Body.Close()
		if got := outcome(t, rt, http.MethodGet, up.address); !strings.Contains(got, `"hello"`) {
			t.Error(got)
		}
	})
}

func TestTimeouts(t *testing.T) {
	up := newUpstream(t, answers("", false))
	both(t, func(t *testing.T, k kit) {
		rt := k.make(up.address, lean.Options{ResponseHeaderTimeout: 20 * time.Millisecond})
		for _, body := range []io.Reader{nil, strings.NewReader("at hand"), &closeCounter{Reader: strings.NewReader("not at hand")}} {
			res, err := rt.RoundTrip(request(t.Context(), t, http.MethodPost, up.address, body))
			if err == nil {
				res.Body.Close()
			}
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%T %v", err, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		rt = k.make(up.address, lean.Options{})
		res, err := rt.RoundTrip(request(ctx, t, http.MethodGet, up.address, nil))
		if err == nil {
			res.Body.Close()
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%T %v", err, err)
		}
	})
}

// The end of the context comes when all of the answer is there, but before it was read.
func TestCancelAtTheEnd(t *testing.T) {
	var put error
	ctx, cancel := context.WithCancel(httptrace.WithClientTrace(within(t), &httptrace.ClientTrace{PutIdleConn: func(err error) { put = err }}))
	res, err := scripted(&script{Reader: strings.NewReader(okHello)}).RoundTrip(request(ctx, t, http.MethodGet, "upstream", nil))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if got := answerOf(res); !strings.Contains(got, `"hello"`) || put == nil {
		t.Errorf("%s, and the connection is kept: %v", got, put == nil)
	}
}
