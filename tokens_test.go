package cloakroom_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cloakroom/cloakroom/config"
)

// targets are routes with tokens of each kind.
func targets(c *config.Config) {
	api := c.Frontends[0].Routes[0].Upstream
	c.Frontends[0].Routes = append([]config.Route{
		{Path: "/api/orders/", Name: "orders", Upstream: api, Audience: "https://orders.example", Scopes: []string{"read", "write"}, TokenToBrowser: true},
		{Path: "/api/forbidden/", Upstream: api, Audience: "https://forbidden.example"},
		{Path: "/api/stock/", Name: "stock", Upstream: api, Token: "exchange", Audience: "https://stock.example", TokenToBrowser: true},
		{Path: "/api/mail/", Upstream: api, Token: "client", Audience: "https://mail.example"},
		{Path: "/open/mail/", Upstream: api, Token: "client", Session: "none", Audience: "https://mail.example"},
	}, c.Frontends[0].Routes...)
}

// bearer is the token that the API saw last.
func (a *api) bearer() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen[len(a.seen)-1].Header.Get("Authorization")
}

// TestTokensByRoute: each route's upstream gets the token that the route says, asked for once, and no other.
func TestTokensByRoute(t *testing.T) {
	r := newRig(t, targets)
	b := r.browser()
	b.login()
	for range 3 {
		for _, c := range []struct{ path, aud, grant string }{
			{"/api/x", "", ""},
			{"/api/orders/1", "https://orders.example", "refresh_token"},
			{"/api/stock/1", "https://stock.example", "urn:ietf:params:oauth:grant-type:token-exchange"},
			{"/api/mail/1", "https://mail.example", "client_credentials"},
		} {
			if a := b.fetch("GET", c.path); a.StatusCode != 200 {
				t.Fatalf("%s: %d %s", c.path, a.StatusCode, a.body)
			}
			parts := append(strings.Split(r.api.bearer(), "|"), "", "")
			if !strings.HasPrefix(parts[0], "Bearer access-canary-") || parts[1] != c.aud || parts[2] != c.grant {
				t.Errorf("%s: the API got a token for %q by %q", c.path, parts[1], parts[2])
			}
		}
	}
	for grant, want := range map[string]int{"refresh_token": 1, "urn:ietf:params:oauth:grant-type:token-exchange": 1, "client_credentials": 1} {
		if n := r.op.count(grant); n != want {
			t.Errorf("%d requests of grant %s, want %d", n, grant, want)
		}
	}

	// Another process has the user's tokens from the record, and the session lives on.
	r.restart()
	if a := b.fetch("GET", "/api/orders/1"); a.StatusCode != 200 || r.op.count("refresh_token") != 1 {
		t.Errorf("after a restart: %d, %d refreshes", a.StatusCode, r.op.count("refresh_token"))
	}

	// A route without a session has our client's own token, and no user's.
	stranger := r.browser()
	if a := stranger.fetch("GET", "/open/mail/1"); a.StatusCode != 200 || !strings.Contains(r.api.bearer(), "|https://mail.example|client_credentials") {
		t.Errorf("without a session: %d %q", a.StatusCode, r.api.bearer())
	}
	if a := stranger.fetch("GET", "/api/mail/1"); a.StatusCode != 401 {
		t.Errorf("a route with our client's token and a session: %d", a.StatusCode)
	}

	// What the provider does not give is a no to this route only.
	if a := b.fetch("GET", "/api/forbidden/1"); a.StatusCode != 403 || a.code(t) != "access_denied" {
		t.Errorf("forbidden: %d %s", a.StatusCode, a.body)
	}
	if a := b.fetch("GET", "/api/x"); a.StatusCode != 200 {
		t.Errorf("the session went with it: %d", a.StatusCode)
	}
	leaks(t, r)
}

// leaks looks for every token in the log.
func leaks(t *testing.T, r *rig) {
	t.Helper()
	log := r.log.String()
	for _, secret := range r.op.secrets {
		if strings.Contains(log, secret) {
			t.Errorf("a token stands in the log: %.20s…", secret)
		}
	}
}

// TestTokenToBrowser: the app's scripts get the token of a route that allows it, and nothing more (RFC 10017 section
// 6.2).
func TestTokenToBrowser(t *testing.T) {
	r := newRig(t, targets)
	b := r.browser()
	if a := b.fetch("GET", "/auth/token?route=orders"); a.StatusCode != 401 || a.code(t) != "session_required" {
		t.Errorf("without a session: %d %s", a.StatusCode, a.body)
	}
	b.login()
	for name, aud := range map[string]string{"orders": "https://orders.example", "stock": "https://stock.example"} {
		a := b.fetch("GET", "/auth/token?route="+name)
		m := a.json(t)
		token, _ := m["access_token"].(string)
		left, _ := m["expires_in"].(float64)
		if a.StatusCode != 200 || !strings.Contains(token, "|"+aud+"|") || m["token_type"] != "Bearer" || left < 3500 || left > 3600 || len(m) != 3 {
			t.Errorf("%s: %d %v", name, a.StatusCode, m)
		}
		if a.Header.Get("Cache-Control") != "no-store" || !strings.Contains(strings.Join(a.Header.Values("Vary"), ","), "Cookie") {
			t.Errorf("%s: it may be cached: %v", name, a.Header)
		}
	}
	for _, name := range []string{"", "/api/", "/api/mail/", "none", "/api/orders/", "orders/"} {
		if a := b.fetch("GET", "/auth/token?route="+name); a.StatusCode != 404 || strings.Contains(a.body, "access-canary") {
			t.Errorf("route %q: %d %s", name, a.StatusCode, a.body)
		}
	}
	for name, req := range map[string]*http.Request{
		"another site's fetch":      b.request("GET", "/auth/token?route=orders", nil, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Origin", "https://evil.example"),
		"a sibling's script":        b.request("GET", "/auth/token?route=orders", nil, "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "script"),
		"a link to it":              b.request("GET", "/auth/token?route=orders", nil, linked...),
		"a client without metadata": b.request("GET", "/auth/token?route=orders", nil),
	} {
		if a := b.do(req); a.StatusCode != 403 || strings.Contains(a.body, "access-canary") {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	leaks(t, r)
}

// TestTokenTooWide: a provider that gives more than was asked for is not to widen what a browser gets.
func TestTokenTooWide(t *testing.T) {
	r := newRig(t, targets)
	r.op.wider = " admin"
	b := r.browser()
	b.login()
	a := b.fetch("GET", "/auth/token?route=orders")
	if a.StatusCode != 403 || a.code(t) != "access_denied" || strings.Contains(a.body, "access-canary") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := b.fetch("GET", "/api/orders/1"); a.StatusCode != 200 {
		t.Errorf("the upstream may have it: %d", a.StatusCode)
	}
}

// TestRejectedTokensByRoute: what an API says invalid_token about is renewed once and sent again, whatever kind it is.
func TestRejectedTokensByRoute(t *testing.T) {
	for path, grant := range map[string]string{
		"/api/orders/1": "refresh_token", "/api/stock/1": "urn:ietf:params:oauth:grant-type:token-exchange",
		"/api/mail/1": "client_credentials", "/open/mail/1": "client_credentials",
	} {
		t.Run(path, func(t *testing.T) {
			r := newRig(t, targets)
			b := r.browser()
			b.login()
			if a := b.fetch("GET", path); a.StatusCode != 200 {
				t.Fatalf("%d %s", a.StatusCode, a.body)
			}
			rejected := r.api.bearer()
			r.api.handler = func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("Authorization") == rejected {
					w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
					w.WriteHeader(401)
				}
			}
			if a := b.fetch("GET", path); a.StatusCode != 200 || r.op.count(grant) != 2 {
				t.Errorf("%d after %d requests of %s", a.StatusCode, r.op.count(grant), grant)
			}
			r.api.handler = func(w http.ResponseWriter, _ *http.Request) { // an API that takes nothing
				w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
				w.WriteHeader(401)
			}
			for range 5 {
				if a := b.fetch("GET", path); a.StatusCode != 401 {
					t.Errorf("%d %s", a.StatusCode, a.body)
				}
			}
			if n := r.op.count(grant); n != 3 {
				t.Errorf("an API that takes no token drives the provider: %d requests", n)
			}
		})
	}
}
