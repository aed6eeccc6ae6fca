package cloakroom_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

// asker asks the verify listener as proxies do.
type asker struct {
	*browser
	verify *httptest.Server
}

// forwardAuth adds the routes of the tests.
func forwardAuth(c *config.Config) {
	c.Frontends[0].Routes = append(c.Frontends[0].Routes,
		config.Route{Path: "/orders/", ForwardAuth: true},
		config.Route{Path: "/read/", ForwardAuth: true, Methods: []string{"GET"}},
		config.Route{Path: "/home/", ForwardAuth: true, Pages: true, Token: "none"},
		config.Route{Path: "/hook/", ForwardAuth: true, Session: "none"},
		config.Route{Path: "/maybe/", ForwardAuth: true, Session: "optional"},
		config.Route{Path: "/admin/", ForwardAuth: true, Require: &config.Require{ACR: "gold"}},
	)
}

func newAsker(t testing.TB, change func(*config.Config)) *asker {
	t.Helper()
	r := newRig(t, func(c *config.Config) {
		forwardAuth(c)
		if change != nil {
			change(c)
		}
	})
	r.op.tamper = func(_, claims map[string]any) { claims["email_verified"] = true }
	a := &asker{r.browser(), httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.h.Verify().ServeHTTP(w, req) }))}
	t.Cleanup(a.verify.Close)
	return a
}

// manners are the ways of handing a request on, each with its facts. A fact without a header is part of the request.
var manners = map[string][]string{
	"nginx":     {"X-Original-Method", "X-Original-Uri", "Host", "X-Forwarded-Proto"},
	"refusal":   {"X-Original-Method", "X-Original-Uri", "Host", "X-Forwarded-Proto"},
	"forwarded": {"X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host", "X-Forwarded-Proto"},
	"envoy":     {"", "", "Host", "X-Forwarded-Proto"},
}

// question is what a proxy of that manner asks about a request.
func (a *asker) question(manner, method, target string, headers ...string) *http.Request {
	a.t.Helper()
	at := map[string]string{"nginx": "/verify/nginx", "refusal": "/verify/nginx/refusal", "forwarded": "/verify/forwarded", "envoy": "/verify/envoy"}[manner]
	host := strings.TrimPrefix(a.url, "http://")
	req, err := http.NewRequest("GET", a.verify.URL+at, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	if manner == "envoy" {
		req.Method = method
		req.URL.Opaque = at + target // as it is, whatever it is
	}
	for i, name := range manners[manner] {
		switch value := []string{method, target, host, "http"}[i]; name {
		case "":
		case "Host":
			req.Host = value
		default:
			req.Header[name] = []string{value}
		}
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	return req
}

func (a *asker) put(req *http.Request) answer {
	a.t.Helper()
	a.client.Jar = nil // a proxy has none
	ans := a.do(req)
	for name := range ans.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			a.t.Errorf("%s: %s", req.URL, name)
		}
	}
	if got := ans.Header.Get("Cache-Control"); got != "no-store" {
		a.t.Errorf("%s: Cache-Control %q", req.URL, got)
	}
	if ans.StatusCode != 200 && (ans.Header.Get("Authorization") != "" || ans.Header.Get("X-Auth-User") != "") {
		a.t.Errorf("%s: a refusal with an identity", req.URL)
	}
	return ans
}

// signedIn logs in and returns the header that carries the ticket, beside a cookie of the app's own.
func (a *asker) signedIn() []string {
	a.t.Helper()
	a.login()
	u, _ := url.Parse(a.url)
	return []string{"Cookie", "theirs=1; cloakroom-" + u.Port() + "=" + a.ticket() + "; other=a b"}
}

func join(lists ...[]string) []string { return slices.Concat(lists...) }

func TestForwardAuthPasses(t *testing.T) {
	a := newAsker(t, nil)
	mine := a.signedIn()
	spoofed := []string{"Authorization", "Bearer forged", "X-Auth-User", "root", "X_Auth_User", "root", "X-Auth-Email", "root@app.example"}
	for _, manner := range []string{"nginx", "forwarded", "envoy"} {
		ans := a.put(a.question(manner, "POST", "/orders/7?x=%2F", join(mine, fetched, spoofed)...))
		h := ans.Header
		if ans.StatusCode != 200 || !strings.HasPrefix(h.Get("Authorization"), "Bearer access-canary-") || h.Get("X-Auth-User") != "alice" ||
			h.Get("X-Auth-Email") != "alice@example.test" || h.Get("X-Auth-Provider") != "main" || len(h.Get("X-Auth-Session")) < 10 {
			t.Errorf("%s: %d %v %s", manner, ans.StatusCode, h, ans.body)
		}
		if got := h.Get("Cookie"); got != "theirs=1; other=a b" {
			t.Errorf("%s: cookies %q", manner, got)
		}
		// Nobody is logged in: what a client sent must be overwritten all the same.
		for _, path := range []string{"/hook/", "/maybe/"} {
			ans = a.put(a.question(manner, "POST", path, spoofed...))
			if ans.StatusCode != 200 {
				t.Errorf("%s %s: %d %s", manner, path, ans.StatusCode, ans.body)
			}
			for _, name := range []string{"Authorization", "Cookie", "X-Auth-User", "X-Auth-Provider", "X-Auth-Email", "X-Auth-Session"} {
				if v, ok := ans.Header[name]; !ok || len(v) != 1 || v[0] != "" {
					t.Errorf("%s %s: %s is %q", manner, path, name, v)
				}
			}
		}
		// A page of the own server, without a token.
		ans = a.put(a.question(manner, "GET", "/home/", join(mine, linked)...))
		if v := ans.Header["Authorization"]; ans.StatusCode != 200 || len(v) != 1 || v[0] != "" || ans.Header.Get("X-Auth-User") != "alice" {
			t.Errorf("%s /home/: %d %v", manner, ans.StatusCode, ans.Header)
		}
	}
	if !logged(a.log, `"path":"/orders/7"`, `"route":"/orders/"`, `"method":"POST"`, `"session":"`) {
		t.Error("the log does not tell of the original request")
	}
}

// The decisions are those of the public listener, for every way of asking.
func TestForwardAuthRefuses(t *testing.T) {
	a := newAsker(t, nil)
	mine := a.signedIn()
	double := []string{"Cookie", strings.Repeat(strings.Split(mine[1], ";")[1]+";", 2)}
	evil := []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Origin", "https://evil.example"}
	for _, tc := range []struct {
		name, method, target string
		headers              []string
		status               int
		code                 string
	}{
		{"nobody, a fetch", "GET", "/orders/", fetched, 401, "session_required"},
		{"nobody, a preflight", "OPTIONS", "/orders/", join(evil, []string{"Access-Control-Request-Method", "POST"}), 401, "session_required"},
		{"nobody, a person", "GET", "/orders/1?a=b", navigated, 302, "session_required"},
		{"nobody, a person from elsewhere", "GET", "/home/", linked, 401, "session_required"},
		{"another site's post", "POST", "/orders/", join(mine, evil), 403, "cross_origin"},
		{"another site's get", "GET", "/orders/", join(mine, evil), 403, "cross_origin"},
		{"another site's get of an open route", "GET", "/hook/", join(mine, evil), 403, "cross_origin"},
		{"another origin without metadata", "POST", "/orders/", join(mine, []string{"Origin", "https://evil.example"}), 403, "cross_origin"},
		{"metadata twice", "POST", "/orders/", join(mine, fetched, []string{"Sec-Fetch-Site", "cross-site"}), 403, "cross_origin"},
		{"a link to what is no page", "GET", "/orders/", join(mine, linked), 403, "cross_origin"},
		{"a WebSocket from elsewhere", "GET", "/orders/", join(mine, []string{"Upgrade", "websocket", "Origin", "https://evil.example"}), 403, "cross_origin"},
		{"a method that is not listed", "POST", "/read/", join(mine, fetched), 405, "method_not_allowed"},
		{"a method that is never passed", "TRACE", "/orders/", join(mine, fetched), 405, "method_not_allowed"},
		{"a stronger login", "GET", "/admin/", join(mine, fetched), 401, "step_up_required"},
		{"two tickets", "GET", "/orders/", join(double, fetched), 401, "session_ended"},
		{"a route of ours", "GET", "/api/orders", join(mine, fetched), 404, "not_found"},
		{"no route", "GET", "/nowhere", join(mine, fetched), 404, "not_found"},
		{"our own address", "POST", "/auth/logout", join(mine, fetched), 404, "not_found"},
		{"dots", "GET", "/hook/../orders/", fetched, 400, "invalid_path"},
		{"encoded dots", "GET", "/hook/%2e%2e/orders/", fetched, 400, "invalid_path"},
		{"encoded slash", "GET", "/hook%2f..%2forders/", fetched, 400, "invalid_path"},
		{"parameters", "GET", "/hook/..;/orders/", fetched, 400, "invalid_path"},
		{"empty segment", "GET", "//orders/", fetched, 400, "invalid_path"},
		{"half an escape", "GET", "/hook/%", fetched, 400, "invalid_path"},
		{"backslash", "GET", `/hook/..\orders/`, fetched, 400, "invalid_path"},
	} {
		for _, manner := range []string{"nginx", "refusal", "forwarded", "envoy"} {
			if manner == "envoy" && strings.HasSuffix(tc.target, "%") {
				continue // net/http itself refuses it in its own words
			}
			ans := a.put(a.question(manner, tc.method, tc.target, tc.headers...))
			want, h := tc.status, ans.Header
			location := h.Get("Location")
			if manner == "nginx" {
				location = h.Get("X-Cloakroom-Location")
				if want = 403; tc.status == 302 || tc.status == 401 {
					want = 401
				}
			}
			if ans.StatusCode != want || h.Get("X-Cloakroom-Code") != tc.code {
				t.Errorf("%s, %s: %d %s, want %d %s: %.300s", tc.name, manner, ans.StatusCode, h.Get("X-Cloakroom-Code"), want, tc.code, ans.body)
			}
			if tc.status == 302 && location != a.url+"/auth/login?return_to=%2Forders%2F1%3Fa%3Db" {
				t.Errorf("%s, %s: to %q", tc.name, manner, location)
			}
			if cleared := strings.Contains(h.Get("Set-Cookie"), "Max-Age=0"); cleared != (tc.name == "two tickets") {
				t.Errorf("%s, %s: cookie cleared: %v", tc.name, manner, cleared)
			}
		}
	}
	if log := a.log.String(); !strings.Contains(log, "cross_origin") {
		t.Error("no audit event")
	}
}

// A WebSocket of the app's own page passes by its origin.
func TestForwardAuthWebSocket(t *testing.T) {
	a := newAsker(t, nil)
	mine := a.signedIn()
	for manner := range manners {
		if manner == "refusal" {
			continue
		}
		if ans := a.put(a.question(manner, "GET", "/orders/ws", join(mine, []string{"Upgrade", "websocket", "Origin", a.url})...)); ans.StatusCode != 200 {
			t.Errorf("%s: %d %s", manner, ans.StatusCode, ans.body)
		}
	}
}

func TestForwardAuthFacts(t *testing.T) {
	a := newAsker(t, nil)
	mine := a.signedIn()
	for manner, facts := range manners {
		for _, name := range facts {
			if name == "" || name == "Host" {
				continue
			}
			for _, wrong := range [][]string{nil, {""}, {"GET", "POST"}} {
				req := a.question(manner, "GET", "/orders/", join(mine, fetched)...)
				req.Header[name] = wrong
				ans := a.put(req)
				want := 400
				if manner == "nginx" {
					want = 403
				}
				if detail, _ := ans.json(t)["detail"].(string); ans.StatusCode != want || ans.Header.Get("X-Cloakroom-Code") != "invalid_request" || !strings.Contains(detail, name) {
					t.Errorf("%s, %s %q: %d %s", manner, name, wrong, ans.StatusCode, ans.body)
				}
			}
		}
		for _, proto := range []string{"gopher", "https, http"} {
			req := a.question(manner, "GET", "/orders/", join(mine, fetched)...)
			req.Header["X-Forwarded-Proto"] = []string{proto}
			if ans := a.put(req); ans.StatusCode != 400 && ans.StatusCode != 403 {
				t.Errorf("%s, %s: %d", manner, proto, ans.StatusCode)
			}
		}
		req := a.question(manner, "GET", "/orders/", join(mine, fetched)...)
		if req.Host = "evil.example"; manner == "forwarded" {
			req.Header.Set("X-Forwarded-Host", "evil.example")
		}
		if ans := a.put(req); ans.Header.Get("X-Cloakroom-Code") != "wrong_host" || ans.StatusCode != 421 && (manner != "nginx" || ans.StatusCode != 403) {
			t.Errorf("%s, unknown host: %d %s", manner, ans.StatusCode, ans.body)
		}
	}
	// What one manner reads means nothing to another.
	req := a.question("nginx", "POST", "/read/", join(mine, fetched, []string{"X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/hook/", "X-Forwarded-Host", "evil.example"})...)
	if ans := a.put(req); ans.Header.Get("X-Cloakroom-Code") != "method_not_allowed" {
		t.Errorf("headers of another manner: %d %s", ans.StatusCode, ans.body)
	}
	for _, path := range []string{"/", "/verify", "/verify/", "/verify/nginx/", "/verify/nginx/x", "/verify/Nginx", "/verify/envoy", "/verify/envoyx/orders/", "//verify/nginx", "/orders/"} {
		req := a.question("nginx", "GET", "/orders/", join(mine, fetched)...)
		req.URL.Path = path
		if ans := a.put(req); ans.StatusCode != 404 {
			t.Errorf("%s: %d", path, ans.StatusCode)
		}
	}
}

// The answer to nginx's error_page: what the browser gets, and never a token.
func TestForwardAuthRefusalHoldsNoToken(t *testing.T) {
	a := newAsker(t, nil)
	mine := a.signedIn()
	ans := a.put(a.question("refusal", "GET", "/orders/", join(mine, fetched)...))
	if ans.StatusCode != 401 || ans.code(t) != "session_replaced" || strings.Contains(ans.body, "canary") {
		t.Errorf("%d %s", ans.StatusCode, ans.body)
	}
}

func TestForwardAuthToken(t *testing.T) {
	const token = "what-the-proxy-presents"
	a := newAsker(t, func(c *config.Config) { c.Verify.Token = config.NewSecret(token) })
	mine := a.signedIn()
	for manner := range manners {
		for _, tc := range []struct {
			given []string
			ok    bool
		}{{nil, false}, {[]string{"X-Cloakroom-Verify", token[1:]}, false}, {[]string{"X-Cloakroom-Verify", token}, true}} {
			ans := a.put(a.question(manner, "GET", "/orders/", join(mine, fetched, tc.given)...))
			if refused := ans.Header.Get("X-Cloakroom-Code") == "verify_token_required" && ans.StatusCode == 403; refused == tc.ok {
				t.Errorf("%s, %v: %d %s", manner, tc.given, ans.StatusCode, ans.body)
			}
		}
	}
}

// No script of the app can ask: on the public listener there is no such address, and no forward_auth route.
func TestForwardAuthIsNotPublic(t *testing.T) {
	a := newAsker(t, nil)
	a.login()
	host := strings.TrimPrefix(a.url, "http://")
	facts := []string{
		"X-Original-Method", "GET", "X-Original-Uri", "/orders/", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/orders/",
		"X-Forwarded-Host", host, "X-Forwarded-Proto", "http",
	}
	for _, path := range []string{"/verify/nginx", "/verify/nginx/refusal", "/verify/forwarded", "/verify/envoy/orders/", "/orders/", "/home/", "/hook/"} {
		ans := a.fetch("GET", path, facts...)
		if ans.StatusCode != 404 || ans.Header.Get("Authorization") != "" || ans.Header.Get("X-Auth-User") != "" {
			t.Errorf("%s: %d %v", path, ans.StatusCode, ans.Header)
		}
	}
}

// On https, http is refused as on the public listener; and what came through trusted proxies is seen past.
func TestForwardAuthSchemeAndClient(t *testing.T) {
	a := newAsker(t, nil)
	for _, tc := range []struct{ forwarded, client string }{
		{"203.0.113.9", "203.0.113.9"}, {"10.9.9.9, 203.0.113.9", "203.0.113.9"}, {"2001:db8::7", "2001:db8::7"}, {"", "127.0.0.1"},
	} {
		req := a.question("nginx", "GET", "/orders/", fetched...)
		if tc.forwarded != "" {
			req.Header.Set("X-Forwarded-For", tc.forwarded)
		}
		a.put(req)
		if !logged(a.log, `"path":"/orders/"`, `"client":"`+tc.client+`"`) {
			t.Errorf("%q: the log does not name %s", tc.forwarded, tc.client)
		}
	}
	s := newAsker(t, func(c *config.Config) { c.Frontends[0].URL = "https://app.example.com" })
	s.url = "http://app.example.com"
	ans := s.put(s.question("forwarded", "GET", "/orders/", navigated...))
	if ans.StatusCode != 308 || ans.Header.Get("Location") != "https://app.example.com/orders/" {
		t.Errorf("http, a person: %d %v", ans.StatusCode, ans.Header)
	}
	if ans = s.put(s.question("nginx", "GET", "/orders/", fetched...)); ans.StatusCode != 403 || ans.Header.Get("X-Cloakroom-Code") != "https_required" {
		t.Errorf("http, a fetch: %d %v", ans.StatusCode, ans.Header)
	}
}

// logged waits for a log line with all of these words.
func logged(log *lockedBuffer, words ...string) bool {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		for line := range strings.Lines(log.String()) {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return true
			}
		}
	}
	return false
}
