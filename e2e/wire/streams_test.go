package wire

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// TestStreams has a thousand requests under way on one connection. Half of them are held until all others have their
// answers: nobody may wait behind them.
func TestStreams(t *testing.T) {
	const half = 500
	a := newAuthority(t)
	for _, upstream := range []string{"http", "h2c", "standard"} {
		t.Run(upstream, func(t *testing.T) {
			held, release := make(chan struct{}, half), make(chan struct{})
			address, connection := serveUpstream(t, upstream, a, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/api/slow/") {
					held <- struct{}{}
					select {
					case <-release:
					case <-r.Context().Done():
						return
					}
				}
				fmt.Fprint(w, r.URL.Path)
			}))
			f := startFront(t, secure, a, fmt.Sprintf("{path: /api/, upstream: %q%s}", address, connection))
			var dialled atomic.Int32
			transport := &http2.Transport{
				TLSClientConfig: f.tls.Clone(), StrictMaxConcurrentStreams: true,
				DialTLSContext: func(ctx context.Context, network, addr string, cfg *tls.Config) (net.Conn, error) {
					dialled.Add(1)
					return (&tls.Dialer{Config: cfg}).DialContext(ctx, network, addr)
				},
			}
			defer transport.CloseIdleConnections()
			get := func(path string) {
				res, err := transport.RoundTrip(f.request("GET", path, nil))
				if err != nil {
					t.Error(err)
					return
				}
				defer res.Body.Close()
				if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 || string(b) != path {
					t.Errorf("%s: %s %q %v", path, res.Status, b, err)
				}
			}
			get("/api/first") // so that the client knows how many streams the server takes
			var slow, fast sync.WaitGroup
			for i := range half {
				slow.Go(func() { get(fmt.Sprintf("/api/slow/%d", i)) })
			}
			for range half {
				receive(t, "a request that is held", held)
			}
			for i := range half {
				fast.Go(func() { get(fmt.Sprintf("/api/fast/%d", i)) })
			}
			receive(t, "all that nobody holds", over(&fast))
			close(release)
			receive(t, "those that were held", over(&slow))
			if n := dialled.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func over(g *sync.WaitGroup) <-chan struct{} {
	done := make(chan struct{})
	go func() { g.Wait(); close(done) }()
	return done
}
