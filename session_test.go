package cloakroom_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cloakroom/cloakroom/config"
)

func TestLogout(t *testing.T) {
	b := newRig(t, nil).browser()
	b.login()
	ticket := b.ticket()
	a := b.post("/auth/logout", `{}`)
	if a.StatusCode != 200 || a.json(t)["status"] != "done" || b.ticket() != "" {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	next, _ := a.json(t)["logout_url"].(string)
	if !strings.HasPrefix(next, "/auth/logout/continue") {
		t.Fatalf("logout_url %q", next)
	}
	var revoked []string
	b.op.with(func() { revoked = b.op.revoked })
	if len(revoked) == 0 || !strings.HasPrefix(revoked[0], "refresh-canary-") {
		t.Errorf("revoked: %d tokens", len(revoked))
	}
	again := b.browser()
	u, _ := url.Parse(b.url)
	again.client.Jar.SetCookies(u, []*http.Cookie{{Name: "cloakroom-" + u.Port(), Value: ticket, Path: "/"}})
	if a := again.fetch("GET", "/api/x"); a.StatusCode != 401 {
		t.Errorf("the old ticket: %d", a.StatusCode)
	}
	if a := b.do(b.request("GET", next, nil, fetched...)); a.StatusCode != 403 {
		t.Errorf("fetching the way out: %d", a.StatusCode)
	}
	out := b.navigate(next)
	to, err := url.Parse(out.Header.Get("Location"))
	if err != nil || out.StatusCode != 302 || !strings.HasPrefix(to.String(), b.op.URL+"/logout?") {
		t.Fatalf("%d %s", out.StatusCode, out.Header.Get("Location"))
	}
	if q := to.Query(); q.Get("post_logout_redirect_uri") != b.url+"/" || q.Get("client_id") != clientID || q.Get("id_token_hint") == "" && q.Get("logout_hint") == "" {
		t.Errorf("%v", q)
	}
	if a := b.navigate(next); a.StatusCode != 302 || a.Header.Get("Location") != "/" {
		t.Errorf("a second time: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	if a := b.post("/auth/logout", ``); a.StatusCode != 200 || a.json(t)["logout_url"] != nil {
		t.Errorf("without a session: %d %s", a.StatusCode, a.body)
	}
}

func TestLogoutIsNotForOthers(t *testing.T) {
	b := newRig(t, nil).browser()
	b.login()
	for name, req := range map[string]*http.Request{
		"image":     b.request("GET", "/auth/logout", nil, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"),
		"form":      b.request("POST", "/auth/logout", strings.NewReader("x=y"), "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"),
		"same site": b.request("POST", "/auth/logout", nil, "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"),
	} {
		if a := b.do(req); a.StatusCode != 403 {
			t.Errorf("%s: %d", name, a.StatusCode)
		}
	}
	if a := b.navigate("/auth/logout"); a.StatusCode != 200 || !strings.Contains(a.body, `method="post"`) {
		t.Errorf("the page that asks: %d %s", a.StatusCode, a.body)
	}
	if !b.authenticated() {
		t.Error("logged out")
	}
}

func TestLogoutAfterFormLoginEndsHere(t *testing.T) {
	b := newRig(t, nil).browser()
	if a := b.post("/auth/login", credentials("alice", password)); a.StatusCode != 200 {
		t.Fatal(a.body)
	}
	if a := b.post("/auth/logout", ``); a.json(t)["logout_url"] != nil {
		t.Errorf("%s", a.body)
	}
}

func TestTouchNeedsASession(t *testing.T) {
	b := newRig(t, nil).browser()
	if a := b.fetch("POST", "/auth/session/touch"); a.StatusCode != 401 || a.code(t) != "session_required" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	b.login()
	if a := b.fetch("POST", "/auth/session/touch"); a.StatusCode != 200 || a.json(t)["authenticated"] != true {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestTwoTicketsAreNone(t *testing.T) {
	b := newRig(t, nil).browser()
	b.login()
	u, _ := url.Parse(b.url)
	name := "cloakroom-" + u.Port()
	req := b.request("GET", "/api/x", nil, append([]string{"Cookie", name + "=" + strings.Repeat("A", 43)}, fetched...)...)
	a := b.do(req) // the jar adds the true one
	if a.StatusCode != 401 || !strings.Contains(a.Header.Get("Set-Cookie"), name+"=;") {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	if !strings.Contains(b.log.String(), "duplicate_cookie") {
		t.Error("no audit event")
	}
}

func TestAnotherUserIsConfirmed(t *testing.T) {
	b := newRig(t, nil).browser()
	b.login()
	before := b.ticket()
	back := b.toProvider("/auth/login/redirect?return_to=/pages/x")
	b.op.with(func() { b.op.sub = "bob" })
	a := b.arrive(back)
	if a.StatusCode != 200 || b.ticket() != before || !strings.Contains(a.body, "/auth/login/confirm") {
		t.Fatalf("%d, same ticket %v: %.500s", a.StatusCode, b.ticket() == before, a.body)
	}
	_, rest, _ := strings.Cut(a.body, `name="token" value="`)
	token, _, _ := strings.Cut(rest, `"`)
	form := func(choice string, headers ...string) answer {
		v := url.Values{"token": {token}, "choice": {choice}}
		return b.do(b.request("POST", "/auth/login/confirm", strings.NewReader(v.Encode()), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)...))
	}
	if a := form("continue", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"); a.StatusCode != 403 {
		t.Errorf("another site confirms: %d", a.StatusCode)
	}
	if a := form("continue", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"); a.StatusCode != 303 || a.Header.Get("Location") != "/pages/x" {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if s := b.fetch("GET", "/auth/session").json(t); s["user"].(map[string]any)["sub"] != "bob" {
		t.Errorf("%v", s)
	}
}

func TestSilentLogin(t *testing.T) {
	b := newRig(t, nil).browser()
	if a := b.arrive(b.toProvider("/auth/login/silent?return_to=/pages/x")); a.StatusCode != 302 || a.Header.Get("Location") != "/pages/x" {
		t.Errorf("in the tab: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	framed := []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}
	start := b.do(b.request("GET", "/auth/login/silent", nil, framed...))
	at := b.do(b.request("GET", start.Header.Get("Location"), nil))
	a := b.arrive(at.Header.Get("Location"))
	if a.StatusCode != 200 || !strings.Contains(a.Header.Get("Content-Security-Policy"), "frame-ancestors 'self'") {
		t.Errorf("in a frame: %d %v", a.StatusCode, a.Header)
	}
	b.op.with(func() { b.op.sso = true })
	start = b.do(b.request("GET", "/auth/login/silent", nil, framed...))
	at = b.do(b.request("GET", start.Header.Get("Location"), nil))
	if a := b.arrive(at.Header.Get("Location")); a.StatusCode != 200 || !strings.Contains(a.body, `data-authenticated="true"`) || !b.authenticated() {
		t.Errorf("in a frame, known at the provider: %d %s", a.StatusCode, a.body)
	}
	if a := b.do(b.request("GET", "/auth/login/silent", nil, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe")); a.StatusCode != 403 {
		t.Errorf("another site's frame: %d", a.StatusCode)
	}
}

func TestSessionsSurviveARestart(t *testing.T) {
	b := newRig(t, nil).browser()
	b.login()
	b.restart()
	if a := b.fetch("GET", "/api/x"); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestUnknownHostAndPaths(t *testing.T) {
	b := newRig(t, nil).browser()
	req := b.request("GET", "/", nil)
	req.Host = "other.example"
	if a := b.do(req); a.StatusCode != 421 {
		t.Errorf("%d", a.StatusCode)
	}
	for path, status := range map[string]int{"/auth/none": 404, "/auth/session/x.css": 404, "/auth": 404, "/nothing": 404, "/auth/verify": 404} {
		if a := b.fetch("GET", path); a.StatusCode != status || a.code(t) != "not_found" {
			t.Errorf("%s: %d %s", path, a.StatusCode, a.body)
		}
	}
	if a := b.fetch("PUT", "/auth/login"); a.StatusCode != 405 || a.Header.Get("Allow") != "GET, POST" {
		t.Errorf("%d %q", a.StatusCode, a.Header.Get("Allow"))
	}
	if a := b.fetch("GET", "/auth/session/touch"); a.StatusCode != 405 {
		t.Errorf("%d", a.StatusCode)
	}
}

func TestSeveralFrontendsAndProviders(t *testing.T) {
	second := newOP(t)
	r := newRig(t, func(c *config.Config) {
		c.Frontends[0].Providers[0].Name = "one"
		c.Frontends[0].Providers = append(c.Frontends[0].Providers, config.Provider{
			Name: "two", Issuer: second.URL, ClientID: clientID, ClientSecret: config.NewSecret(clientSecret),
		})
		other := c.Frontends[0]
		other.URL = "http://other.localhost:1"
		c.Frontends = append(c.Frontends, other)
	})
	b := r.browser()
	if a := b.arrive(b.toProvider("/auth/login/redirect?provider=two")); a.StatusCode != 302 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if s := b.fetch("GET", "/auth/session").json(t); s["session"].(map[string]any)["provider"] != "two" {
		t.Errorf("%v", s)
	}
	mixed := r.browser()
	back := mixed.toProvider("/auth/login/redirect?provider=one")
	if !strings.Contains(back, "/auth/callback/one?") {
		t.Fatal(back)
	}
	asked := r.op.count("authorization_code") + second.count("authorization_code")
	if a := mixed.arrive(strings.Replace(back, "/callback/one", "/callback/two", 1)); a.StatusCode != 400 || mixed.ticket() != "" {
		t.Errorf("mix-up: %d", a.StatusCode)
	}
	if r.op.count("authorization_code")+second.count("authorization_code") != asked {
		t.Error("a token endpoint was asked in a mix-up")
	}
	stolen := b.request("GET", "/api/x", nil, append([]string{"Cookie", "cloakroom-1=" + b.ticket()}, fetched...)...)
	stolen.Host = "other.localhost:1"
	if a := r.browser().do(stolen); a.StatusCode != 401 {
		t.Errorf("a ticket of one frontend at another: %d", a.StatusCode)
	}
}
