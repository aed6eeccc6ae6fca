package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/testserver"
	"github.com/cloakroom/cloakroom/internal/web"
)

// TestUpstreamEndsFirst: what an upstream of HTTP/2 says last, and its end, reach a client that has not ended its own
// half and says nothing more, as it is with gRPC. The same where the answer breaks off.
func TestUpstreamEndsFirst(t *testing.T) {
	for _, path := range []string{"/api/whole", "/api/broken"} {
		t.Run(path, func(t *testing.T) {
			up := plainListener(t, "tcp", "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadFull(r.Body, make([]byte, 5))
				_, _ = io.WriteString(w, "said")
				_ = http.NewResponseController(w).Flush()
				if r.URL.Path == "/api/broken" {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", "8")
			}))
			s := newSetup(t, nil, func(r *config.Route) { r.Upstream = "h2c://" + up })
			front := plainListener(t, "tcp", "127.0.0.1:0", s.front.Config.Handler)
			only := new(http.Protocols)
			only.SetUnencryptedHTTP2(true)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			body, in := io.Pipe()
			context.AfterFunc(ctx, func() { _ = in.Close() }) // the client, too, waits for its body
			go func() { _, _ = io.WriteString(in, "hello") }()
			req, err := http.NewRequestWithContext(ctx, "POST", "http://"+front+path, body)
			if err != nil {
				t.Fatal(err)
			}
			res, err := (&http.Transport{Protocols: only}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(res.Body)
			if string(text) != "said" || ctx.Err() != nil || (err == nil) != (path == "/api/whole") {
				t.Errorf("%q %v", text, err)
			}
			if path == "/api/whole" && res.Trailer.Get("Grpc-Status") != "8" {
				t.Errorf("%v", res.Trailer)
			}
			cancel()
			_ = res.Body.Close()
		})
	}
}

// TestAnHourOfEvents: nothing between two time-outs of ours ends a stream that says something every five minutes.
func TestAnHourOfEvents(t *testing.T) {
	s := newSetup(t, nil, nil)
	rt := s.proxy.routes[0]
	synctest.Test(t, func(t *testing.T) {
		front, api := testserver.NewMemory(), testserver.NewMemory()
		upstream := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 13 {
				_, _ = fmt.Fprintf(w, ": %d\n", i)
				_ = http.NewResponseController(w).Flush()
				time.Sleep(5 * time.Minute)
			}
		})}
		go func() { _ = upstream.Serve(api) }()
		to := &http.Transport{DialContext: api.Dial}
		rt.base, rt.serve = "", s.proxy.forwarder(rt, aimed{to})
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			serve(s.proxy, w, web.WithInfo(r, web.NewInfo(r, nil)))
		})}
		go func() { _ = server.Serve(front) }()
		client := &http.Transport{DialContext: front.Dial}
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://app.example/api/", nil)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		res, err := client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		if took := time.Since(begun); err != nil || strings.Count(string(text), "\n") != 13 || took != 65*time.Minute {
			t.Errorf("%q after %v: %v", text, took, err)
		}
		_ = res.Body.Close()
		client.CloseIdleConnections()
		to.CloseIdleConnections()
		_ = server.Close()
		_ = upstream.Close()
	})
}

// aimed sends requests to the only upstream there is.
type aimed struct{ next http.RoundTripper }

func (a aimed) RoundTrip(r *http.Request) (*http.Response, error) {
	r.URL.Scheme, r.URL.Host, r.Host = "http", "api.example", "api.example"
	return a.next.RoundTrip(r)
}
