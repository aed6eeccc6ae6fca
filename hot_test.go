package cloakroom_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/cloakroom/cloakroom"
	"github.com/cloakroom/cloakroom/config"
)

// cheapUpstream answers every request with the same bytes, and makes nothing for it: what is counted is the proxy's.
func cheapUpstream(t testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	const response = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nDate: Fri, 27 Nov 2026 00:00:00 GMT\r\n\r\n{}"
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					line, err := in.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) == 2 { // the end of the header; these requests have no body
						if _, err := io.WriteString(conn, response); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

// sameWriter takes one answer after the other.
type sameWriter struct {
	header http.Header
	status int
	bytes  int
}

func (w *sameWriter) Header() http.Header         { return w.header }
func (w *sameWriter) WriteHeader(status int)      { w.status = status }
func (w *sameWriter) Write(b []byte) (int, error) { w.bytes += len(b); return len(b), nil }

// TestRequestAllocations: the whole product, with its session, token, rules and log, makes no more for a request than a
// bare, tuned ReverseProxy does. It is the ceiling that keeps the cost from creeping back; time is measured by bench/.
func TestRequestAllocations(t *testing.T) {
	address := cheapUpstream(t)
	r := newRig(t, func(c *config.Config) { c.Frontends[0].Routes[0].Upstream = address })
	b := r.browser()
	b.login()
	h, err := cloakroom.New(r.cfg, cloakroom.Options{Store: r.st, RequestLog: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	at, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	pool := &sync.Pool{New: func() any { return make([]byte, 32<<10) }}
	bare := &httputil.ReverseProxy{
		Rewrite:    func(p *httputil.ProxyRequest) { p.SetURL(target); p.SetXForwarded() },
		Transport:  &http.Transport{MaxIdleConnsPerHost: 512, DisableCompression: true},
		BufferPool: spare{pool},
	}
	count := func(h http.Handler) float64 {
		in := httptest.NewRequest(http.MethodGet, r.url+"/api/x", nil)
		for name, value := range map[string]string{
			"Cookie": "cloakroom-" + at.Port() + "=" + b.ticket(), "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty",
			"Accept": "application/json", "User-Agent": "test",
		} {
			in.Header.Set(name, value)
		}
		w := &sameWriter{header: http.Header{}}
		return testing.AllocsPerRun(2000, func() {
			clear(w.header)
			w.status, w.bytes = 0, 0
			h.ServeHTTP(w, in)
			if w.status != 200 || w.bytes != 2 {
				t.Fatalf("status %d, %d bytes", w.status, w.bytes)
			}
		})
	}
	want, got := count(bare), count(h)
	t.Logf("%v allocations, a bare ReverseProxy %v", got, want)
	if got > want+2 { // two for what the collector takes out of the pools, and the log's own goroutine
		t.Errorf("%v allocations for a request, a bare ReverseProxy makes %v", got, want)
	}
}

type spare struct{ pool *sync.Pool }

func (s spare) Get() []byte  { return s.pool.Get().([]byte) }
func (s spare) Put(b []byte) { s.pool.Put(b) } //nolint:staticcheck // as bench/ has it
