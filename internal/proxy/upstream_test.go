package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/web"
)

// plainListener serves HTTP/1.1 and HTTP/2 without TLS.
func plainListener(t *testing.T, network, address string, h http.Handler) string {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	_ = server.Listener.Close()
	server.Listener = ln
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return ln.Addr().String()
}

// However an upstream is spoken to: what was matched arrives byte for byte, both directions run, trailers pass.
func TestUpstreamSchemes(t *testing.T) {
	var mu sync.Mutex
	var seen *http.Request
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = r
		mu.Unlock()
		if r.ProtoMajor == 1 {
			_ = http.NewResponseController(w).EnableFullDuplex()
		}
		w.Header().Set("Trailer", "Grpc-Status")
		_ = http.NewResponseController(w).Flush() // an answer whose length is known has no trailers in HTTP/1.1
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("Grpc-Status", "0")
	})
	tcp, socket := plainListener(t, "tcp", "127.0.0.1:0", h), plainListener(t, "unix", filepath.Join(t.TempDir(), "a.sock"), h)
	for address, want := range map[string][2]string{
		"http://" + tcp: {"HTTP/1.1", tcp}, "h2c://" + tcp: {"HTTP/2.0", tcp}, "unix:" + socket: {"HTTP/1.1", "localhost"}, "unix+h2c:" + socket: {"HTTP/2.0", "localhost"},
	} {
		for _, addresses := range [][]string{{address}, {address, "unix:/nowhere/else.sock"}} {
			s := newSetup(t, nil, func(r *config.Route) { r.Upstream, r.Upstreams = "", addresses })
			for _, target := range []string{"/api/a%20b;v=1/(c)?q=%2F&r=|", "/api/a|b^c", "/api/%C3%BC?"} {
				r, err := http.NewRequestWithContext(t.Context(), "POST", s.front.URL, strings.NewReader("body"))
				if err != nil {
					t.Fatal(err)
				}
				path, query, _ := strings.Cut(target, "?")
				r.URL.Opaque, r.URL.RawQuery, r.URL.ForceQuery = path, query, strings.HasSuffix(target, "?")
				r.Header.Set("Te", "trailers")
				res, err := http.DefaultTransport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if string(body) != "body" || err != nil || res.Trailer.Get("Grpc-Status") != "0" {
					t.Errorf("%s of %d: %d %q %v %v", address, len(addresses), res.StatusCode, body, err, res.Trailer)
					continue
				}
				mu.Lock()
				if got := [2]string{seen.Proto, seen.Host}; got != want || seen.RequestURI != target || seen.Header.Get("Te") != "trailers" {
					t.Errorf("%s of %d: %s arrived as %s in %v", address, len(addresses), target, seen.RequestURI, got)
				}
				mu.Unlock()
			}
		}
	}
}

// The request's event names the address that failed; the client does not see it.
func TestUpstreamNamedInTheLog(t *testing.T) {
	for _, address := range []string{"unix:/nowhere/api.sock", "h2c://127.0.0.1:9", "https://127.0.0.1:9"} {
		for _, addresses := range [][]string{{address}, {address, strings.Replace(address, "nowhere", "elsewhere", 1) + "9"}} {
			s := newSetup(t, nil, func(r *config.Route) { r.Upstream, r.Upstreams = "", addresses })
			w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/api/", nil)
			r = web.WithInfo(r, web.NewInfo(r, nil))
			serve(s.proxy, w, r)
			if w.Code != 502 || !strings.Contains(w.Body.String(), "upstream_unreachable") || strings.Contains(w.Body.String(), "where") || strings.Contains(w.Body.String(), ":9") {
				t.Errorf("%s: %d %s", address, w.Code, w.Body)
			}
			if cause := fmt.Sprint(web.InfoOf(r).Cause); !strings.Contains(cause, "upstream "+address) && !strings.Contains(cause, "upstream "+addresses[len(addresses)-1]) {
				t.Errorf("%s: %s", address, cause)
			}
		}
	}
}

// One dead address of two costs no request, and is told once.
func TestOneAddressIsDead(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	alive := plainListener(t, "tcp", "127.0.0.1:0", h)
	s := newSetup(t, nil, func(r *config.Route) {
		r.Upstream, r.Upstreams = "", []string{"http://" + alive, "unix:/nowhere/api.sock"}
	})
	for range 100 {
		res, err := http.Post(s.front.URL+"/api/", "text/plain", strings.NewReader("order"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != 200 || string(body) != "order" {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) != 1 || s.events[0].(*event.Audit).Kind != event.UpstreamOut || !strings.HasPrefix(s.events[0].(*event.Audit).Detail, "unix:/nowhere/api.sock: ") {
		t.Errorf("%v", s.events)
	}
}
