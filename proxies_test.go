package cloakroom_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/testserver"
	"github.com/goccy/go-yaml"
)

// Proxies of other makers, run from the example files as they are, but for addresses: see examples/.
var proxies = []struct {
	name  string
	files []string
	args  []string
}{
	{"nginx", []string{"nginx.conf"}, []string{"-p", ".", "-c", "nginx.conf"}},
	{"caddy", []string{"Caddyfile"}, []string{"run", "--config", "Caddyfile", "--adapter", "caddyfile"}},
	{"haproxy", []string{"haproxy.cfg", "cloakroom.lua"}, []string{"-db", "-f", "haproxy.cfg"}},
}

// fronted is the rig behind such a proxy.
type fronted struct {
	*browser
	address string // the proxy's
	verify  *httptest.Server
	judged  atomic.Value // the address that Cloakroom was asked about, as the proxy wrote it
}

func newFronted(t *testing.T, name string, files, args []string) *fronted {
	t.Helper()
	example, err := config.Load("examples/forward-auth/cloakroom.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f := &fronted{address: "127.0.0.1:" + testserver.FreePort(t)}
	r := newRig(t, func(c *config.Config) {
		c.Frontends[0].URL = "http://" + f.address
		c.Frontends[0].Routes = example.Frontends[0].Routes
		c.TrustedProxies = example.TrustedProxies
	})
	f.verify = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f.judged.Store(req.Header.Get("X-Original-Uri") + req.Header.Get("X-Forwarded-Uri"))
		r.h.Verify().ServeHTTP(w, req)
	}))
	t.Cleanup(f.verify.Close)
	dir := t.TempDir()
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join("examples", name, file))
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.NewReplacer(
			"127.0.0.1:8000", f.address, "127.0.0.1:8080", hostPort(r.url), "127.0.0.1:9081", hostPort(f.verify.URL), "127.0.0.1:3000", hostPort(r.api.URL),
		).Replace(string(text)))
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil { // nginx's workers are of another user
		t.Fatal(err)
	}
	server := testserver.Proxy(t, name, dir, f.address, args...)
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(server.Log)
			t.Logf("%s said:\n%s\nCloakroom said:\n%s", name, text, r.log)
		}
	})
	r.url = "http://" + f.address
	f.browser = r.browser()
	return f
}

func hostPort(url string) string { return strings.TrimPrefix(url, "http://") }

// last is the newest request that reached the service, nil if none did since the count was n.
func (f *fronted) last(n int) *http.Request {
	f.api.mu.Lock()
	defer f.api.mu.Unlock()
	if len(f.api.seen) <= n {
		return nil
	}
	return f.api.seen[len(f.api.seen)-1]
}

// send writes a request as it stands, so that no client can tidy it up, and reads the answer.
func (f *fronted) send(request ...string) (*http.Response, string) {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.address)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	text := strings.Join(append(request, "Host: "+f.address, "Connection: close", "", ""), "\r\n")
	if _, err := io.WriteString(conn, text); err != nil {
		f.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{}}, "" // cut off: no answer at all
	}
	body, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	return res, string(body)
}

// lines are headers as they go over the wire.
func lines(pairs ...string) (list []string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, pairs[i]+": "+pairs[i+1])
	}
	return list
}

func TestProxies(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			f := newFronted(t, p.name, p.files, p.args)
			f.loggedOut(t)
			f.login()
			f.loggedIn(t)
			f.spoofing(t)
			f.paths(t)
			f.webSocket(t)
			f.takenBack(t)
			f.verify.Close()
			n := f.api.count()
			if a := f.fetch("GET", "/api/orders"); a.StatusCode < 400 || f.last(n) != nil {
				t.Errorf("Cloakroom is gone: %d", a.StatusCode)
			}
		})
	}
}

func (f *fronted) loggedOut(t *testing.T) {
	if a := f.fetch("GET", "/api/orders"); a.StatusCode != 401 || a.code(t) != "session_required" {
		t.Errorf("a fetch: %d %s", a.StatusCode, a.body)
	}
	if a := f.navigate("/start?a=b"); a.StatusCode != 302 || !strings.HasSuffix(a.Header.Get("Location"), "/auth/login?return_to=%2Fstart%3Fa%3Db") {
		t.Errorf("a person: %d %v", a.StatusCode, a.Header)
	}
	if a := f.do(f.request("GET", "/start", nil, linked...)); a.StatusCode != 401 || !strings.Contains(a.Header.Get("Content-Type"), "text/html") {
		t.Errorf("a person from elsewhere: %d %v", a.StatusCode, a.Header)
	}
	// What a client says of the request must not become what is judged.
	facts := []string{
		"X-Original-Method", "GET", "X-Original-URI", "/public/", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/public/", "X-Forwarded-Host", "evil.example",
		"X-Original-Host", "evil.example", "X-Forwarded-Proto", "https", "X_Original_URI", "/public/", "Forwarded", "host=evil.example;for=203.0.113.66", "X-Forwarded-For", "203.0.113.66", "X-Real-IP", "203.0.113.66",
	}
	f.fetch("GET", "/auth/session", facts...)
	if !logged(f.log, `"path":"/auth/session"`, `"client":"127.0.0.1"`) {
		t.Error("/auth/session: the log does not name the client")
	}
	if a := f.fetch("POST", "/api/orders", facts...); a.StatusCode != 401 || a.code(t) != "session_required" {
		t.Errorf("facts of the client's own: %d %s", a.StatusCode, a.body)
	}
	if !logged(f.log, `"path":"/api/orders"`, `"client":"127.0.0.1"`, `"method":"POST"`) || strings.Contains(f.log.String(), "203.0.113.66") {
		t.Error("a client chose its address")
	}
	if n := f.api.count(); n != 0 {
		t.Errorf("%d requests reached the service", n)
	}
	if a := f.fetch("GET", "/public/x"); a.StatusCode != 200 {
		t.Errorf("an open route: %d %s", a.StatusCode, a.body)
	}
	if got := f.last(0); got == nil || got.Header.Get("Authorization") != "" || got.Header.Get("X-Auth-User") != "" {
		t.Errorf("an open route: %v", got)
	}
}

func (f *fronted) loggedIn(t *testing.T) {
	var body []byte
	f.api.mu.Lock()
	f.api.handler = func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("X-Served-By", "the service")
		w.WriteHeader(http.StatusTeapot)
	}
	f.api.mu.Unlock()
	defer func() { f.api.mu.Lock(); f.api.handler = nil; f.api.mu.Unlock() }()
	want := bytes.Repeat([]byte("a large order "), 20_000)
	req := f.request("POST", "/api/orders?x=%2Fy&x=1", bytes.NewReader(want), fetched...)
	req.Header.Set("Cookie", "theirs=1")
	a := f.do(req)
	got := f.last(0)
	if a.StatusCode != http.StatusTeapot || a.Header.Get("X-Served-By") == "" || got.RequestURI != "/api/orders?x=%2Fy&x=1" || got.Method != "POST" || !bytes.Equal(body, want) {
		t.Errorf("a post: %d %v, reached as %s %s with %d bytes", a.StatusCode, a.Header, got.Method, got.RequestURI, len(body))
	}
	h := got.Header
	if !strings.HasPrefix(h.Get("Authorization"), "Bearer access-canary-") || h.Get("X-Auth-User") != "alice" || h.Get("X-Auth-Provider") != "main" || h.Get("X-Auth-Session") == "" {
		t.Errorf("the identity did not arrive: %v", h)
	}
	if c := h.Get("Cookie"); c != "theirs=1" {
		t.Errorf("cookies: %q", c)
	}
	if strings.Contains(a.body, "canary") || a.Header.Get("Authorization") != "" || a.Header.Get("X-Auth-User") != "" {
		t.Errorf("the browser got the identity: %v", a.Header)
	}
	if a := f.navigate("/start"); a.StatusCode != http.StatusTeapot {
		t.Errorf("a person: %d %s", a.StatusCode, a.body)
	}
	n := f.api.count()
	evil := f.request("POST", "/api/orders", strings.NewReader("x=1"), "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Origin", "https://evil.example")
	if a := f.do(evil); a.StatusCode != 403 || a.code(t) != "cross_origin" || f.last(n) != nil {
		t.Errorf("another site's post: %d %s", a.StatusCode, a.body)
	}
	if strings.Contains(f.log.String(), "access-canary") {
		t.Error("a token in the log")
	}
}

// spoofing sends what only Cloakroom may say, in every spelling, with and without a session.
func (f *fronted) spoofing(t *testing.T) {
	ticket := "Cookie: cloakroom-" + f.address[strings.LastIndexByte(f.address, ':')+1:] + "=" + f.ticket()
	lies := lines(
		"Authorization", "Bearer forged", "authorization", "Bearer forged", "X-Auth-User", "root", "x-auth-user", "root", "X_Auth_User", "root", "X-Auth_User", "root",
		"X-AUTH-EMAIL", "root@app.example", "X_Auth_Email", "root@app.example", "X-Auth-Session", "forged", "X-Auth-Provider", "forged", "DPoP", "forged",
		"Forwarded", "for=forged", "X-Forwarded-For", "forged", "X-Forwarded-Proto", "forged",
	)
	for _, tc := range []struct {
		path   string
		more   []string
		passed bool
	}{{"/api/x", []string{ticket}, true}, {"/public/x", nil, false}} {
		n := f.api.count()
		res, body := &http.Response{StatusCode: http.StatusBadRequest}, ""
		for _, left := range []string{"", "authorization:", "_"} { // what some servers refuse: names twice, names with "_"
			if res.StatusCode == http.StatusBadRequest {
				kept := slices.DeleteFunc(slices.Clone(lies), func(l string) bool { return left != "" && strings.Contains(l, left) })
				res, body = f.send(slices.Concat([]string{"GET " + tc.path + " HTTP/1.1"}, lines(fetched...), kept, tc.more)...)
			}
		}
		got := f.last(n)
		if res.StatusCode != 200 || got == nil {
			t.Errorf("%s: %d %s", tc.path, res.StatusCode, body)
			continue
		}
		for name, values := range got.Header {
			for _, v := range values {
				if strings.Contains(v, "root") || strings.Contains(v, "forged") {
					t.Errorf("%s: %s: %q reached the service", tc.path, name, v)
				}
			}
			plain := strings.ReplaceAll(strings.ToLower(name), "_", "-")
			if (plain == "authorization" || strings.HasPrefix(plain, "x-auth-")) && (len(values) != 1 || name != http.CanonicalHeaderKey(plain)) {
				t.Errorf("%s: %s: %q", tc.path, name, values)
			}
		}
		if strings.HasPrefix(got.Header.Get("Authorization"), "Bearer access-") != tc.passed || (got.Header.Get("X-Auth-User") == "alice") != tc.passed {
			t.Errorf("%s: %v", tc.path, got.Header)
		}
	}
}

// paths are shapes that two programs may read in two ways. Nobody is logged in: what is not refused must be a path
// below /public/ for the service, too, and byte for byte the one that was judged.
func (f *fronted) paths(t *testing.T) {
	for _, target := range []string{
		"/public/../api/x", "/public/%2e%2e/api/x", "/public/%2E%2E/api/x", "/public%2f..%2fapi/x", "/public/..%2fapi/x", "/public/%252e%252e/api/x", "/public/..;/api/x", "/public/..;a=b/api/x",
		`/public/..\api/x`, "/public/..%5capi/x", "/public/./../api/x", "//api/x", "/public//../api/x", "/public/;/../api/x", "/public%00/../api/x", "/api/x%00", "/api/x%20", "/api%2Fx", "/%61pi/x",
		"/public?/../api/x", "/public/?/../api/x", "/public#/../api/x", "/public/#/../../api/x", "/public%23/../api/x", "/api", "/API/x", "/api/x?a=/public/", "/public/%", "/public/%zz", "/public/x|y", "/public/ü",
		"/public/x%7Cy", "/public/x;y=z", "http://" + f.address + "/api/x", "http://evil.example/public/x", "http://evil.example/api/x", "*", "/auth/../api/x", "/auth/%2e%2e/api/x", "/public/../auth/session",
		"/public/x/", "/public/.x", "/public/...", "/public/a%2Eb", "/public/~x", "/public/%7Ex", "/public/a+b", "/public/a%2Bb", "/public/a,b=c@d:e$f!g'h(i)j*k", "/_verify", "/@refusal", "/verify/nginx", "/verify/nginx/refusal",
	} {
		n := f.api.count()
		res, _ := f.send(slices.Concat([]string{"GET " + target + " HTTP/1.1"}, lines(fetched...))...)
		got := f.last(n)
		if got == nil {
			if res.StatusCode < 300 && !strings.HasPrefix(target, "/auth/") && !strings.HasPrefix(target, "http://evil.example") {
				t.Errorf("%s: %d, but nothing reached the service", target, res.StatusCode)
			}
			continue
		}
		if judged := f.judged.Load(); got.RequestURI != judged || !strings.HasPrefix(got.RequestURI, "/public/") {
			t.Errorf("%s: reached the service as %s, judged as %s", target, got.RequestURI, judged)
		}
		if strings.Contains(target, "..") && !strings.Contains(target, "...") && !strings.Contains(target, "?") {
			t.Errorf("%s: passed", target)
		}
	}
	// Methods: what is judged is what is done.
	for _, method := range []string{"get", "PATCH", "OPTIONS", "PROPFIND"} {
		n := f.api.count()
		f.send(slices.Concat([]string{method + " /public/x HTTP/1.1"}, lines(fetched...), lines("X-HTTP-Method-Override", "GET"))...)
		if got := f.last(n); got != nil && got.Method != method {
			t.Errorf("%s: reached the service as %s", method, got.Method)
		}
	}
}

func (f *fronted) webSocket(t *testing.T) {
	f.api.mu.Lock()
	f.api.handler = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") == "" {
			http.Error(w, "no handshake", http.StatusBadRequest)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + r.Header.Get("Sec-WebSocket-Key") + "\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = rw.WriteString("echo " + line)
		_ = rw.Flush()
	}
	f.api.mu.Unlock()
	defer func() { f.api.mu.Lock(); f.api.handler = nil; f.api.mu.Unlock() }()
	ticket := "cloakroom-" + f.address[strings.LastIndexByte(f.address, ':')+1:] + "=" + f.ticket()
	for origin, status := range map[string]int{f.url: 101, "https://evil.example": 403, "": 403} {
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", f.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		request := slices.Concat([]string{"GET /api/ws HTTP/1.1", "Host: " + f.address}, lines(
			"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Cookie", ticket), []string{"Origin: " + origin, "", ""})
		if origin == "" {
			request = slices.DeleteFunc(request, func(l string) bool { return l == "Origin: " })
		}
		if _, err := io.WriteString(conn, strings.Join(request, "\r\n")); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != status {
			t.Errorf("a WebSocket from %q: %v %v", origin, res, err)
		} else if status == 101 {
			_, _ = io.WriteString(conn, "hello\n")
			if line, err := r.ReadString('\n'); line != "echo hello\n" {
				t.Errorf("the WebSocket answered %q %v", line, err)
			}
			if got := f.last(0); !strings.HasPrefix(got.Header.Get("Authorization"), "Bearer access-") {
				t.Errorf("the WebSocket came without the token: %v", got.Header)
			}
		}
		_ = conn.Close()
	}
}

// takenBack is a ticket that opens nothing: the browser must be told.
func (f *fronted) takenBack(t *testing.T) {
	name := "cloakroom-" + f.address[strings.LastIndexByte(f.address, ':')+1:]
	dead := "Cookie: " + name + "=" + strings.Repeat("A", 43)
	res, body := f.send(slices.Concat([]string{"GET /api/x HTTP/1.1"}, lines(fetched...), []string{dead})...)
	cookies := res.Cookies()
	if res.StatusCode != 401 || !strings.Contains(body, "session_ended") || len(cookies) != 1 || cookies[0].Name != name || cookies[0].MaxAge >= 0 {
		t.Errorf("a dead ticket: %d %v %s", res.StatusCode, res.Header, body)
	}
}

// other is what an example says to a proxy that cannot be installed here.
type other struct {
	manner  string
	removed []string // headers of the client's that are taken away first
	sent    []string // that go along, nil for all
	copied  []string // that are taken from the answer
	blocked bool     // names with "_" are refused as a whole
}

// TestExamplesOfOthers replays what Traefik and Envoy do with their examples, by their documentation and source.
func TestExamplesOfOthers(t *testing.T) {
	for name, o := range map[string]other{"traefik": traefikExample(t), "envoy": envoyExample(t)} {
		t.Run(name, func(t *testing.T) {
			a := newAsker(t, nil)
			mine := a.signedIn()
			lies := []string{
				"Authorization", "Bearer forged", "X-Auth-User", "forged", "X_Auth_User", "forged", "X-Auth_Email", "forged", "X_Auth-Session", "forged",
				"X-Auth-Email", "forged", "X-Auth-Session", "forged", "X-Auth-Provider", "forged", "DPoP", "forged",
			}
			for path, passed := range map[string]bool{"/orders/": true, "/maybe/": false} {
				headers := join(fetched, lies)
				if passed {
					headers = join(headers, mine)
				}
				client := http.Header{}
				for i := 0; i < len(headers); i += 2 {
					if !o.blocked || !strings.Contains(headers[i], "_") {
						client.Add(headers[i], headers[i+1])
					}
				}
				for _, name := range o.removed {
					client.Del(name)
				}
				asked := a.question(o.manner, "POST", path)
				for name, values := range client {
					if o.sent == nil || slices.Contains(o.sent, strings.ToLower(name)) {
						asked.Header[name] = values
					}
				}
				ans := a.put(asked)
				if ans.StatusCode != 200 {
					t.Fatalf("%s: %d %s", path, ans.StatusCode, ans.body)
				}
				for _, name := range o.copied {
					delete(client, http.CanonicalHeaderKey(name))
					client[http.CanonicalHeaderKey(name)] = ans.Header.Values(name)
				}
				for name, values := range client {
					if strings.Contains(strings.Join(values, " "), "forged") || strings.Contains(strings.Join(values, " "), "cloakroom-") {
						t.Errorf("%s: %s: %q reaches the service", path, name, values)
					}
				}
				if got := strings.HasPrefix(client.Get("Authorization"), "Bearer access-") && client.Get("X-Auth-User") == "alice"; got != passed {
					t.Errorf("%s: %v", path, client)
				}
			}
			// Another site's request is one only if its headers go along.
			for _, name := range []string{"cookie", "origin", "accept", "upgrade", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "x-cloakroom", "x-cloakroom-passive", "x-forwarded-proto", "x-forwarded-for"} {
				if o.sent != nil && !slices.Contains(o.sent, name) {
					t.Errorf("%s does not go along", name)
				}
			}
		})
	}
}

// readYAML reads what a test needs of an example.
func readYAML(t *testing.T, path string, into any) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(path, err)
	}
	return string(text)
}

func traefikExample(t *testing.T) other {
	var c struct {
		HTTP struct {
			Routers     map[string]struct{ Middlewares []string }
			Middlewares map[string]struct {
				Headers     struct{ CustomRequestHeaders map[string]string }
				ForwardAuth struct {
					Address             string
					TrustForwardHeader  bool
					AuthRequestHeaders  []string
					AuthResponseHeaders []string
				}
			}
		}
	}
	var lower func(v any) any // Traefik does not mind the case of its keys
	lower = func(v any) any {
		m, ok := v.(map[string]any)
		if !ok {
			return v
		}
		out := map[string]any{}
		for k, v := range m {
			if k != "customRequestHeaders" {
				v = lower(v)
			}
			out[strings.ToLower(k)] = v
		}
		return out
	}
	var raw map[string]any
	readYAML(t, "examples/traefik/dynamic.yml", &raw)
	text, err := yaml.Marshal(lower(raw))
	if err == nil {
		err = yaml.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	ask, clean := c.HTTP.Middlewares["ask"].ForwardAuth, c.HTTP.Middlewares["underscores"].Headers.CustomRequestHeaders
	if !strings.HasSuffix(ask.Address, "/verify/forwarded") || ask.TrustForwardHeader || len(ask.AuthRequestHeaders) > 0 || !slices.Equal(c.HTTP.Routers["service"].Middlewares, []string{"underscores", "ask"}) {
		t.Errorf("traefik: %+v", c)
	}
	return other{manner: "forwarded", removed: slices.Collect(maps.Keys(clean)), copied: ask.AuthResponseHeaders}
}

func envoyExample(t *testing.T) other {
	type exact struct{ Patterns []struct{ Exact string } }
	type filter struct {
		Name   string
		Config struct {
			Mutations struct {
				Request []struct{ Remove string } `yaml:"request_mutations"`
			}
			FailureModeAllow bool  `yaml:"failure_mode_allow"`
			AllowedHeaders   exact `yaml:"allowed_headers"`
			Service          struct {
				Prefix   string `yaml:"path_prefix"`
				Response struct {
					Upstream exact `yaml:"allowed_upstream_headers"`
				} `yaml:"authorization_response"`
			} `yaml:"http_service"`
		} `yaml:"typed_config"`
	}
	var c struct {
		Static struct {
			Listeners []struct {
				Chains []struct {
					Filters []struct {
						Config struct {
							Remote  bool `yaml:"use_remote_address"`
							Options struct {
								Underscores string `yaml:"headers_with_underscores_action"`
							} `yaml:"common_http_protocol_options"`
							Filters []filter `yaml:"http_filters"`
						} `yaml:"typed_config"`
					}
				} `yaml:"filter_chains"`
			}
		} `yaml:"static_resources"`
	}
	readYAML(t, "examples/envoy/envoy.yaml", &c)
	manager := c.Static.Listeners[0].Chains[0].Filters[0].Config
	clean, ask := manager.Filters[0].Config, manager.Filters[1].Config
	o := other{manner: "envoy", sent: []string{}, blocked: manager.Options.Underscores == "REJECT_REQUEST"}
	for _, m := range clean.Mutations.Request {
		o.removed = append(o.removed, m.Remove)
	}
	for _, p := range ask.AllowedHeaders.Patterns {
		o.sent = append(o.sent, p.Exact)
	}
	for _, p := range ask.Service.Response.Upstream.Patterns {
		o.copied = append(o.copied, p.Exact)
	}
	if !manager.Remote || ask.FailureModeAllow || ask.Service.Prefix != "/verify/envoy" || manager.Filters[2].Name != "envoy.filters.http.router" {
		t.Errorf("envoy: %+v", c)
	}
	return o
}
