package cloakroom_test

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/cloakroom/cloakroom/config"
)

// TestBehindATrustedProxy: TLS ends in front of us. The proxy says what the browser used; nobody else is believed.
func TestBehindATrustedProxy(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		c.Frontends[0].URL = "https://app.example"
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	b := r.browser()
	ask := func(method, path, body string, headers ...string) answer {
		t.Helper()
		req := b.request(method, path, strings.NewReader(body), append(append([]string{}, fetched...), headers...)...)
		req.Host = "app.example"
		return b.do(req)
	}
	a := ask("POST", "/auth/login", credentials("alice", password), "Content-Type", "application/json", "X-Forwarded-Proto", "https")
	cookie := a.Header.Get("Set-Cookie")
	if a.StatusCode != 200 || !strings.HasPrefix(cookie, "__Host-Http-cloakroom=") || !strings.Contains(cookie, "Secure; SameSite=Strict") {
		t.Fatalf("%d %s %s", a.StatusCode, cookie, a.body)
	}
	if v := a.Header.Get("Strict-Transport-Security"); !strings.Contains(v, "max-age=31536000") {
		t.Errorf("HSTS: %q", v)
	}
	ticket, _, _ := strings.Cut(cookie, ";")
	if a := ask("GET", "/api/x", "", "Cookie", ticket, "X-Forwarded-Proto", "https", "X-Forwarded-For", "203.0.113.9"); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	seen := r.api.seen[0].Header
	if seen.Get("X-Forwarded-For") != "203.0.113.9" || seen.Get("X-Forwarded-Proto") != "https" || seen.Get("X-Forwarded-Host") != "app.example" || seen.Get("Cookie") != "" {
		t.Errorf("at the upstream: %v", seen)
	}
	if a := ask("GET", "/api/x", "", "Cookie", ticket, "X-Forwarded-Proto", "http"); a.StatusCode != 403 || a.code(t) != "https_required" {
		t.Errorf("over http: %d %s", a.StatusCode, a.body)
	}
	page := b.request("GET", "/pages/x?y=1", nil, navigated...)
	page.Host = "app.example"
	page.Header.Set("X-Forwarded-Proto", "http")
	if a := b.do(page); a.StatusCode != 308 || a.Header.Get("Location") != "https://app.example/pages/x?y=1" {
		t.Errorf("a page over http: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	for _, target := range []string{"http:.evil.example/x", "http:@evil.example/x", "/pages/%2e%2e/x"} {
		w := httptest.NewRecorder()
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: app.example\r\nX-Forwarded-Proto: http\r\nAccept: text/html\r\n\r\n")))
		if err != nil {
			t.Fatal(err)
		}
		req.RemoteAddr = "127.0.0.1:1"
		if r.h.ServeHTTP(w, req); w.Code != 400 || w.Header().Get("Location") != "" {
			t.Errorf("%s over http: %d %s", target, w.Code, w.Header().Get("Location"))
		}
	}
}

// TestHugeCookie: 64 kB of somebody else's cookies change nothing, and reach the upstream as they are.
func TestHugeCookie(t *testing.T) {
	b := newRig(t, nil).browser()
	b.login()
	huge := "big=" + strings.Repeat("x", 64<<10)
	if a := b.fetch("GET", "/api/x", "Cookie", huge); a.StatusCode != 200 { // the jar adds the ticket
		t.Errorf("%d %.200s", a.StatusCode, a.body)
	}
	if got := b.api.seen[0].Header.Get("Cookie"); got != huge {
		t.Errorf("%d bytes reached the upstream", len(got))
	}
}
