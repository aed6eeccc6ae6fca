package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/upstream"
	"github.com/cloakroom/cloakroom/internal/web"
)

// openGate lets everything through; the real gate has its own tests, and the root package tests both together.
type openGate struct{ pass gate.Pass }

func (g openGate) Facts(r *http.Request) gate.Facts { return gate.Facts{Method: r.Method, URL: r.URL} }

func (openGate) Wanted(gate.Facts) *gate.Refusal {
	return &gate.Refusal{Problem: web.NewProblem(web.CodeStepUpRequired, "")}
}

func (openGate) StepUp(gate.Facts, gate.StepUp) *gate.Refusal {
	return &gate.Refusal{Problem: web.NewProblem(web.CodeStepUpRequired, "")}
}

func (g openGate) Decide(context.Context, gate.Facts, gate.Requirement) (gate.Pass, *gate.Refusal) {
	return g.pass, nil
}

func (g openGate) Renew(_ context.Context, p gate.Pass) (gate.Pass, bool, error) {
	return p, false, nil
}
func (g openGate) Rejected(gate.Pass)                   {}
func (g openGate) Apply(http.ResponseWriter, gate.Pass) {}
func (g openGate) Refuse(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal) {
	refusal.Problem.Write(w, r)
}

// setup is a proxy in front of one upstream.
type setup struct {
	front  *httptest.Server
	proxy  *Proxy
	mu     sync.Mutex
	seen   *http.Request
	events []event.Event
}

func newSetup(t testing.TB, handler http.HandlerFunc, change func(*config.Route)) *setup {
	t.Helper()
	s := &setup{}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = r.Clone(context.Background())
		s.mu.Unlock()
		if handler != nil {
			handler(w, r)
		}
	}))
	t.Cleanup(up.Close)
	rt := config.Route{Path: "/api/", Upstream: up.URL, Session: "required", Token: "none"}
	if change != nil {
		change(&rt)
	}
	cookies, err := web.NewCookies("https://app.example", config.Session{})
	if err != nil {
		t.Fatal(err)
	}
	sink := func(e event.Event) { s.mu.Lock(); s.events = append(s.events, e); s.mu.Unlock() }
	pools := upstream.NewSet(sink)
	t.Cleanup(pools.Close)
	p, err := New(Options{
		Upstreams: pools,
		Routes:    []config.Route{rt}, Gate: openGate{gate.Pass{Token: oidc.AccessToken{Value: "at"}}}, Frontend: "https://app.example", Cookies: cookies,
		Events: sink,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	s.proxy = p
	trusted := []netip.Prefix{}
	s.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve(p, w, web.WithInfo(r, web.NewInfo(r, trusted)))
	}))
	t.Cleanup(s.front.Close)
	return s
}

// serve is what Handler.ServeHTTP does with a request to a route.
func serve(p *Proxy, w http.ResponseWriter, r *http.Request) {
	path, problem := CanonicalPath(r)
	if problem != nil {
		problem.Write(w, r)
		return
	}
	p.Serve(w, r, path)
}

// raw sends bytes and reads one answer.
func (s *setup) raw(t testing.TB, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.front.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	return res
}

func (s *setup) request(t testing.TB) *http.Request {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		t.Fatal("nothing reached the upstream")
	}
	return s.seen
}

// TestHeaderCorpus sends what clients send to be taken for somebody else (GO-PEERS.md section 4.2).
func TestHeaderCorpus(t *testing.T) {
	s := newSetup(t, nil, nil)
	s.raw(t, strings.Join([]string{
		"GET /api/x?a=1;b=2&c=%2f HTTP/1.1", "Host: app.example", "X_Forwarded_User: evil", "X-Forwarded-User: a", "X-Forwarded-User: b",
		"x-forwarded-uSeR: c", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Host: evil", "X-Forwarded-Proto: evil", "X-Forwarded-Prefix: /evil",
		"X-Forwarded-Uri: /public", "X-Forwarded-Method: GET", "Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6", "X-Original-URL: /public",
		"X-Rewrite-Url: /public", "X-Http-Method-Override: DELETE", "X-Auth-User: evil", "X-User-Id: evil", "Remote-User: evil", "REMOTE_USER: evil",
		"X-Cloakroom: 1", "X-Cloakroom-Passive: 1", "Authorization: Bearer evil", "DPoP: evil", "Connection: close, X-Kept, Authorization",
		"X-Kept: dropped because Connection names it", "Proxy-Authorization: evil", "Keep-Alive: x", "True-Client-IP: 6.6.6.6",
		"X-Fine: yes", "Accept-Language: de", "Traceparent: 00-1-2-01", "User-Agent: special", "", "",
	}, "\r\n"))
	got := s.request(t)
	for _, name := range []string{
		"X_forwarded_user", "X-Forwarded-User", "X-Forwarded-Prefix", "X-Forwarded-Uri", "X-Forwarded-Method", "X-Real-Ip", "X-Original-Url", "X-Rewrite-Url",
		"X-Http-Method-Override", "X-Auth-User", "X-User-Id", "Remote-User", "Remote_user", "X-Cloakroom", "X-Cloakroom-Passive", "Authorization", "Dpop", "X-Kept",
		"Proxy-Authorization", "Keep-Alive", "True-Client-Ip",
	} {
		if v := got.Header[name]; v != nil {
			t.Errorf("%s: %q reached the upstream", name, v)
		}
	}
	for name, want := range map[string]string{
		"X-Fine": "yes", "Accept-Language": "de", "Traceparent": "00-1-2-01", "User-Agent": "special",
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example", "Forwarded": `for=127.0.0.1;host="app.example";proto=https`,
	} {
		if v := got.Header.Values(name); len(v) != 1 || v[0] != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	if got.URL.RawQuery != "a=1;b=2&c=%2f" {
		t.Errorf("query %q", got.URL.RawQuery)
	}
}

func TestOurCookiesStayHere(t *testing.T) {
	s := newSetup(t, nil, nil)
	s.raw(t, "GET /api/ HTTP/1.1\r\nHost: x\r\nCookie: a=1; __Host-Http-cloakroom=secret; __Host-cloakroom-tx-1=s; b=\"2;3\"\r\nCookie: __HOST-HTTP-CLOAKROOM=secret; c=4\r\n\r\n")
	if got := s.request(t).Header.Get("Cookie"); strings.Contains(got, "secret") || strings.Contains(got, "tx-1") || !strings.Contains(got, "a=1") || !strings.Contains(got, "c=4") {
		t.Errorf("Cookie: %s", got)
	}
	s.raw(t, "GET /api/ HTTP/1.1\r\nHost: x\r\nCookie: __Host-Http-cloakroom=secret\r\n\r\n")
	if got, ok := s.request(t).Header["Cookie"]; ok {
		t.Errorf("Cookie: %q", got)
	}
}

// TestMatchedIsForwarded: the path that was matched is the path that the upstream sees, byte for byte.
func TestMatchedIsForwarded(t *testing.T) {
	s := newSetup(t, nil, nil)
	for _, path := range []string{"/api/", "/api/a%20b", "/api/%C3%BC", "/api/a;v=1/b", "/api/a%3Fb%23c", "/api/~x/(1)/*+,=$&'!", "/api/a%3bb", "/api/a|b^c", "/api/[x]{y}"} {
		if res := s.raw(t, "GET "+path+"?q=%2F HTTP/1.1\r\nHost: x\r\n\r\n"); res.StatusCode != 200 {
			t.Errorf("%s: %d", path, res.StatusCode)
			continue
		}
		if got := s.request(t).RequestURI; got != path+"?q=%2F" {
			t.Errorf("%s arrived as %s", path, got)
		}
	}
	s.mu.Lock()
	s.seen = nil
	s.mu.Unlock()
	for _, path := range []string{"/api/../x", "/api/%2e%2e/x", "/api/%2Fx", "/apix", "/other", "/api", "/Api/x"} {
		if res := s.raw(t, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); res.StatusCode != 400 && res.StatusCode != 404 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if s.seen != nil {
		t.Errorf("%s reached the upstream", s.seen.RequestURI)
	}
}

func TestStripPrefixAndBase(t *testing.T) {
	s := newSetup(t, nil, func(r *config.Route) { r.StripPrefix = true; r.Upstream += "/base/" })
	s.raw(t, "GET /api/a%20b/c HTTP/1.1\r\nHost: x\r\n\r\n")
	if got := s.request(t).RequestURI; got != "/base/a%20b/c" {
		t.Error(got)
	}
}

func TestMethods(t *testing.T) {
	s := newSetup(t, nil, func(r *config.Route) { r.Methods = []string{"GET", "POST"} })
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 200, "DELETE": 405, "get": 405, "TRACE": 405, "FOO": 405} {
		res := s.raw(t, method+" /api/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
		if res.StatusCode != want || want == 405 && res.Header.Get("Allow") != "GET, POST" {
			t.Errorf("%s: %d %q", method, res.StatusCode, res.Header.Get("Allow"))
		}
	}
}

func TestSmugglingShapes(t *testing.T) {
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }, nil)
	for name, request := range map[string]string{
		"two lengths":     "POST /api/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"bad length":      "POST /api/ HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
		"unknown coding":  "POST /api/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"space in a name": "GET /api/ HTTP/1.1\r\nHost: x\r\nX-A : b\r\n\r\n",
		"two hosts":       "GET /api/ HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"no host":         "GET /api/ HTTP/1.1\r\n\r\n",
	} {
		if res := s.raw(t, request); res.StatusCode != 400 && res.StatusCode != 501 {
			t.Errorf("%s: %d", name, res.StatusCode)
		}
	}
	if s.seen != nil {
		t.Error("something reached the upstream")
	}
}

func TestAnswersAreCleaned(t *testing.T) {
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Set-Cookie", "__Host-Http-cloakroom=evil; Path=/; Secure")
		h.Add("Set-Cookie", "__host-cloakroom-tx-1=evil")
		h.Add("Set-Cookie", "theirs=fine; Path=/")
		h.Set("Clear-Site-Data", `"cookies"`)
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Strict-Transport-Security", "max-age=0")
		h.Set("Secure-Session-Registration", "x")
		h.Set("Cache-Control", "public, max-age=60, s-maxage=600")
		h.Set("Location", "https://elsewhere.example/")
		w.WriteHeader(302)
	}, nil)
	res := s.raw(t, "GET /api/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if c := res.Header.Values("Set-Cookie"); len(c) != 1 || c[0] != "theirs=fine; Path=/" {
		t.Errorf("Set-Cookie: %q", c)
	}
	for _, name := range []string{"Clear-Site-Data", "Access-Control-Allow-Origin", "Strict-Transport-Security", "Secure-Session-Registration"} {
		if v := res.Header.Get(name); v != "" {
			t.Errorf("%s: %s", name, v)
		}
	}
	if res.StatusCode != 302 || res.Header.Get("Location") != "https://elsewhere.example/" || res.Header.Get("Cache-Control") != "private, max-age=60" ||
		res.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	dropped := 0
	for _, e := range s.events {
		if a, ok := e.(*event.Audit); ok && a.Kind == event.CookieDropped {
			dropped++
		}
	}
	if dropped != 2 {
		t.Errorf("%d audit events", dropped)
	}
}

func TestCacheControl(t *testing.T) {
	for _, tc := range []struct {
		given  string
		shared bool
		want   string
	}{
		{"", false, "private, no-store"},
		{"", true, "private, no-store"},
		{"no-store", false, "private, no-store"},
		{"public, max-age=5", false, "private, max-age=5"},
		{"public, max-age=5", true, "public, max-age=5"},
		{"s-maxage=5", false, "private"},
	} {
		h := http.Header{}
		if tc.given != "" {
			h.Set("Cache-Control", tc.given)
		}
		if private(h, tc.shared); h.Get("Cache-Control") != tc.want {
			t.Errorf("%q shared %v: %q, want %q", tc.given, tc.shared, h.Get("Cache-Control"), tc.want)
		}
	}
}

func TestUpstreamDown(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close()
	s := newSetup(t, nil, func(r *config.Route) { r.Upstream = "http://" + address })
	res := s.raw(t, "GET /api/ HTTP/1.1\r\nHost: x\r\n\r\n")
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != 502 || !strings.Contains(string(body), "upstream_unreachable") || strings.Contains(string(body), address) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestUpstreamSlow(t *testing.T) {
	release := make(chan struct{})
	s := newSetup(t, func(http.ResponseWriter, *http.Request) { <-release }, func(r *config.Route) {
		r.Connection = &config.Connection{ResponseTimeout: new(config.Duration(50 * time.Millisecond))}
	})
	defer close(release)
	res := s.raw(t, "GET /api/ HTTP/1.1\r\nHost: x\r\n\r\n")
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != 504 || !strings.Contains(string(body), "upstream_timeout") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestEventsAreNotHeldBack(t *testing.T) {
	next := make(chan string)
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for m := range next {
			fmt.Fprint(w, m)
			_ = http.NewResponseController(w).Flush()
		}
	}, nil)
	go func() { next <- "data: 1\n\n" }()
	res := s.raw(t, "GET /api/ HTTP/1.1\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(res.Body)
	for i := range 3 {
		if line, err := r.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i+1) {
			t.Fatalf("%q %v", line, err)
		}
		_, _ = r.ReadString('\n')
		if i < 2 {
			next <- fmt.Sprintf("data: %d\n\n", i+2)
		}
	}
	close(next)
}

func TestWebSocketPasses(t *testing.T) {
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" {
			w.WriteHeader(400)
			return
		}
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		line, _ := buf.ReadString('\n')
		fmt.Fprint(conn, "echo "+line)
	}, nil)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.front.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /api/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a\r\n\r\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := r.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("%q %v", line, err)
	}
}

// TestLargeBodiesStream sends 50 MB both ways and looks at the heap.
func TestLargeBodiesStream(t *testing.T) {
	const size = 50 << 20
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		_, _ = io.Copy(w, r.Body)
	}, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	res, err := http.Post(s.front.URL+"/api/echo", "application/octet-stream", io.LimitReader(rand.Reader, size))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	runtime.ReadMemStats(&after)
	if err != nil || n != size {
		t.Errorf("%d bytes, %v", n, err)
	}
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 20<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

func TestTrailersPass(t *testing.T) {
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		fmt.Fprint(w, "x")
		w.Header().Set("Grpc-Status", "0")
	}, nil)
	res, err := http.Get(s.front.URL + "/api/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); err != nil || res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%v %v", res.Trailer, err)
	}
}

func TestClientGoneEndsTheUpstream(t *testing.T) {
	ended := make(chan struct{})
	began := make(chan struct{})
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", s.front.URL+"/api/", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-began; cancel() }()
	if res, err := http.DefaultClient.Do(req); err == nil {
		res.Body.Close()
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the upstream goes on")
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for name, body := range map[string]string{
		"index.html": "<p>app</p>", "app-4f9a21c0.js": "js", "plain.css": "css", "plain.css.gz": "gz", ".env": "secret", "sub/x.txt": "sub",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link.txt")); err != nil {
		t.Fatal(err)
	}
	s := newSetup(t, nil, func(r *config.Route) {
		*r = config.Route{Path: "/app/", Files: dir, Session: "none"}
	})
	for _, tc := range []struct {
		path, accept string
		status       int
		body, cache  string
	}{
		{"/app/", "", 200, "<p>app</p>", "no-cache, no-store"},
		{"/app/some/route", "", 200, "<p>app</p>", "no-cache, no-store"},
		{"/app/app-4f9a21c0.js", "", 200, "js", "public, max-age=31536000, immutable"},
		{"/app/plain.css", "", 200, "css", "no-cache"},
		{"/app/plain.css", "br, gzip", 200, "gz", "no-cache"},
		{"/app/plain.css", "gzip;q=0", 200, "css", "no-cache"},
		{"/app/sub/x.txt", "", 200, "sub", "no-cache"},
		{"/app/missing.js", "", 404, "", ""},
		{"/app/.env", "", 404, "", ""},
		{"/app/link.txt", "", 404, "", ""},
	} {
		req, err := http.NewRequest("GET", s.front.URL+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", tc.accept)
		res, err := (&http.Transport{DisableCompression: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != tc.status || tc.status == 200 && (string(body) != tc.body || res.Header.Get("Cache-Control") != tc.cache || res.Header.Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("%s: %d %q %v", tc.path, res.StatusCode, body, res.Header)
		}
		if bytes.Contains(body, []byte("secret")) {
			t.Errorf("%s: leaked", tc.path)
		}
		if tag := res.Header.Get("Etag"); tag != "" {
			req.Header.Set("If-None-Match", tag)
			again, err := (&http.Transport{DisableCompression: true}).RoundTrip(req)
			if err != nil || again.StatusCode != 304 {
				t.Errorf("%s: with its ETag: %v %v", tc.path, again, err)
			}
		}
	}
	if res := s.raw(t, "POST /app/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); res.StatusCode != 405 || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("%d", res.StatusCode)
	}
	if _, err := newFiles(t.TempDir(), "", nil, false); err == nil {
		t.Error("a directory without index.html was taken")
	}
}

// TestHarmless: what is looked up is what would be decided.
func TestHarmless(t *testing.T) {
	s := newSetup(t, nil, nil)
	for name := range harmless {
		if !s.proxy.passes(s.proxy.routes[0], name) || http.CanonicalHeaderKey(name) != name {
			t.Errorf("%s does not pass", name)
		}
	}
}

// A session that ends closes an answer beside the one that copies it, which may be at the trailers.
func TestCloseBesideTrailers(t *testing.T) {
	trailer := http.Header{"X-Sum": {"1"}, "Set-Cookie": {"a=b"}, "Connection": {"x"}}
	body := &trailed{io.NopCloser(strings.NewReader("body")), &http.Response{Trailer: trailer}}
	if _, err := io.ReadAll(body); err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() { defer close(closed); _ = body.Close() }()
	for name := range trailer {
		if name != "X-Sum" {
			t.Error(name)
		}
	}
	<-closed
}
