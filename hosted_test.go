package cloakroom_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

func TestHostedLoginToAPI(t *testing.T) {
	b := newRig(t, nil).browser()
	if a := b.fetch("GET", "/api/x"); a.StatusCode != 401 || a.code(t) != "session_required" || a.json(t)["login_url"] != "/auth/login" {
		t.Errorf("before the login: %d %s", a.StatusCode, a.body)
	}
	if b.authenticated() {
		t.Error("authenticated before the login")
	}
	b.login()
	if n := len(b.ticket()); n != 43 {
		t.Errorf("ticket of %d characters", n)
	}
	a := b.fetch("GET", "/api/x")
	if a.StatusCode != 200 || a.json(t)["authorized"] != true {
		t.Errorf("the API: %d %s", a.StatusCode, a.body)
	}
	s := b.fetch("GET", "/auth/session").json(t)
	session, user := s["session"].(map[string]any), s["user"].(map[string]any)
	if user["name"] != "Alice Example" || user["sub"] != "alice" || session["current"] != true || session["provider"] != "main" || session["device_bound"] != false {
		t.Errorf("/auth/session: %v", s)
	}
	if _, err := time.Parse(time.RFC3339, session["expires_at"].(string)); err != nil {
		t.Error(err)
	}
	if b.op.count("authorization_code") != 1 {
		t.Errorf("%d token requests", b.op.count("authorization_code"))
	}
}

func TestNavigationsAreSentToTheLogin(t *testing.T) {
	b := newRig(t, nil).browser()
	a := b.navigate("/pages/a?x=1&y=%2F")
	if a.StatusCode != 302 || a.Header.Get("Location") != "/auth/login?return_to="+url.QueryEscape("/pages/a?x=1&y=%2F") {
		t.Errorf("%d %s", a.StatusCode, a.Header.Get("Location"))
	}
	if a := b.do(b.request("GET", "/pages/a", nil, "Accept", "text/html")); a.StatusCode != 302 {
		t.Errorf("a browser without Fetch metadata: %d", a.StatusCode)
	}
	for _, dest := range []string{"iframe", "image", "empty"} {
		a := b.do(b.request("GET", "/pages/a", nil, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", dest, "Accept", "text/html"))
		if a.StatusCode != 401 {
			t.Errorf("dest %s: %d, want 401", dest, a.StatusCode)
		}
	}
}

// A link on another site leads to a page: the Strict ticket stays behind, so the page reloads itself, once.
func TestStrictTicketSurvivesLinksFromElsewhere(t *testing.T) {
	b := newRig(t, nil).browser()
	b.login()
	a := b.arrive("/pages/a")
	if a.StatusCode != 200 || a.Header.Get("X-Frame-Options") != "DENY" || b.api.count() != 0 {
		t.Errorf("first: %d, %d requests at the upstream", a.StatusCode, b.api.count())
	}
	again := b.do(b.request("GET", "/pages/a", nil, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Accept", "text/html"))
	if again.StatusCode != 200 || b.api.count() != 1 {
		t.Errorf("second: %d, %d requests at the upstream", again.StatusCode, b.api.count())
	}
}

func TestSeveralTabsLogInAtOnce(t *testing.T) {
	b := newRig(t, nil).browser()
	first, second := b.toProvider("/auth/login/redirect?return_to=/pages/1"), b.toProvider("/auth/login/redirect?return_to=/pages/2")
	if a := b.arrive(second); a.Header.Get("Location") != "/pages/2" {
		t.Errorf("second tab: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	if a := b.arrive(first); a.Header.Get("Location") != "/pages/1" {
		t.Errorf("first tab: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	if !b.authenticated() {
		t.Error("not logged in")
	}
}

func TestTransactionsAreCapped(t *testing.T) {
	b := newRig(t, nil).browser()
	var backs []string
	for i := range 9 {
		backs = append(backs, b.toProvider(fmt.Sprintf("/auth/login/redirect?return_to=/pages/%d", i)))
	}
	u, _ := url.Parse(b.url)
	n := 0
	for _, c := range b.client.Jar.Cookies(u) {
		if strings.Contains(c.Name, "-tx-") {
			n++
		}
	}
	if n > 5 {
		t.Errorf("%d transaction cookies", n)
	}
	if a := b.arrive(backs[8]); a.Header.Get("Location") != "/pages/8" {
		t.Errorf("the newest: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
}

func TestCallbackTwice(t *testing.T) {
	b := newRig(t, nil).browser()
	back := b.toProvider("/auth/login/redirect?return_to=/pages/x")
	for i := range 3 {
		if a := b.arrive(back); a.StatusCode != 302 || a.Header.Get("Location") != "/pages/x" {
			t.Errorf("load %d: %d %s", i, a.StatusCode, a.Header.Get("Location"))
		}
	}
	if n := b.op.count("authorization_code"); n != 1 {
		t.Errorf("%d token requests", n)
	}
	b.restart() // what is only in this process's memory is gone
	if a := b.arrive(back); a.StatusCode != 302 || a.Header.Get("Location") != "/pages/x" {
		t.Errorf("after a restart: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	if n := b.op.count("authorization_code"); n != 1 {
		t.Errorf("%d token requests after a restart", n)
	}
	if !b.authenticated() {
		t.Error("not logged in")
	}
}

func TestCallbackOfAnotherBrowser(t *testing.T) {
	r := newRig(t, nil)
	attacker, victim := r.browser(), r.browser()
	a := victim.arrive(attacker.toProvider("/auth/login/redirect"))
	if a.StatusCode != 400 || victim.ticket() != "" || r.op.count("authorization_code") != 0 {
		t.Errorf("%d, ticket %q, %d token requests", a.StatusCode, victim.ticket(), r.op.count("authorization_code"))
	}
	if !strings.Contains(a.body, "login_failed") && !strings.Contains(strings.ToLower(a.body), "try again") {
		t.Errorf("page: %.500s", a.body)
	}
}

func TestBrokenCallbacks(t *testing.T) {
	r := newRig(t, nil)
	for name, change := range map[string]func(url.Values){
		"no state":       func(q url.Values) { q.Del("state") },
		"other state":    func(q url.Values) { q.Set("state", strings.Repeat("A", 22)) },
		"huge state":     func(q url.Values) { q.Set("state", strings.Repeat("A", 20000)) },
		"two states":     func(q url.Values) { q.Add("state", "x") },
		"two codes":      func(q url.Values) { q.Add("code", "x") },
		"no code":        func(q url.Values) { q.Del("code") },
		"code and error": func(q url.Values) { q.Set("error", "access_denied") },
		"wrong iss":      func(q url.Values) { q.Set("iss", r.op.URL+"/") },
		"no iss":         func(q url.Values) { q.Del("iss") },
		"error": func(q url.Values) {
			q.Del("code")
			q.Set("error", "access_denied")
			q.Set("error_description", "<script>alert(1)</script>")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := r.browser()
			u, err := url.Parse(b.toProvider("/auth/login/redirect"))
			if err != nil {
				t.Fatal(err)
			}
			q := u.Query()
			change(q)
			u.RawQuery = q.Encode()
			before := r.op.count("authorization_code")
			a := b.arrive(u.String())
			if a.StatusCode != 400 || b.ticket() != "" || r.op.count("authorization_code") != before {
				t.Errorf("%d, ticket %q, token requests %d -> %d", a.StatusCode, b.ticket(), before, r.op.count("authorization_code"))
			}
			if strings.Contains(a.body, "<script>alert") || strings.Contains(a.body, "alert(1)") {
				t.Error("the provider's words are in the page")
			}
			if !strings.Contains(a.Header.Get("Content-Type"), "text/html") || a.Header.Get("Referrer-Policy") != "no-referrer" {
				t.Error(a.Header)
			}
		})
	}
}

func TestBadIDTokensGiveNoSession(t *testing.T) {
	r := newRig(t, nil)
	flip := func(c map[string]any, name string, v any) { c[name] = v }
	for name, tamper := range map[string]func(h, c map[string]any){
		"iss":       func(_, c map[string]any) { flip(c, "iss", "https://evil.example") },
		"aud":       func(_, c map[string]any) { flip(c, "aud", "other") },
		"extra aud": func(_, c map[string]any) { flip(c, "aud", []string{clientID, "other"}) },
		"azp":       func(_, c map[string]any) { flip(c, "azp", "other") },
		"exp":       func(_, c map[string]any) { flip(c, "exp", time.Now().Add(-time.Hour).Unix()) },
		"nonce":     func(_, c map[string]any) { flip(c, "nonce", "other") },
		"no nonce":  func(_, c map[string]any) { delete(c, "nonce") },
		"no sub":    func(_, c map[string]any) { delete(c, "sub") },
		"alg none":  func(h, _ map[string]any) { h["alg"] = "none" },
		"crit":      func(h, _ map[string]any) { h["crit"] = []string{"x"} },
		"HS256":     func(h, _ map[string]any) { h["alg"] = "HS256" },
		"signature": nil,
	} {
		t.Run(name, func(t *testing.T) {
			b := r.browser()
			back := b.toProvider("/auth/login/redirect")
			r.op.with(func() {
				r.op.tamper = tamper
				switch name {
				case "alg none":
					r.op.signer = func(string) []byte { return nil }
				case "HS256":
					r.op.signer = func(in string) []byte {
						m := hmac.New(sha256.New, r.op.publicKey())
						m.Write([]byte(in))
						return m.Sum(nil)
					}
				case "signature":
					r.op.signer = func(string) []byte { return make([]byte, 256) }
				}
			})
			a := b.arrive(back)
			r.op.with(func() { r.op.tamper, r.op.signer = nil, nil })
			if a.StatusCode != 400 || b.ticket() != "" || b.authenticated() {
				t.Errorf("%d, ticket %q", a.StatusCode, b.ticket())
			}
		})
	}
}

func TestRedirectStartsOnlyByThePerson(t *testing.T) {
	b := newRig(t, nil).browser()
	for _, tc := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"own page", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 302},
		{"typed", navigated, 302},
		{"another site: a page with a button", linked, 200},
		{"fetch", fetched, 403},
		{"frame", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403},
		{"image", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, 403},
		{"prefetch", append([]string{"Sec-Purpose", "prefetch;prerender"}, navigated...), 503},
	} {
		a := b.do(b.request("GET", "/auth/login/redirect", nil, tc.headers...))
		if a.StatusCode != tc.status || (tc.status == 302) != (len(a.Cookies()) > 0) {
			t.Errorf("%s: %d with %d cookies, want %d", tc.name, a.StatusCode, len(a.Cookies()), tc.status)
		}
	}
	for _, path := range []string{"/auth/login", "/auth/login/redirect", "/auth/login/silent"} {
		if a := b.navigate(path + "?return_to=//evil.example"); a.StatusCode != 400 || !strings.Contains(a.body, "invalid_return_to") && !strings.Contains(a.body, "return_to") {
			t.Errorf("%s: %d %.200s", path, a.StatusCode, a.body)
		}
	}
}

func TestAuthorizationRequest(t *testing.T) {
	b := newRig(t, nil).browser()
	a := b.navigate("/auth/login/redirect?prompt=login&login_hint=a%26b&acr_values=x+y&max_age=60&ui_locales=de&return_to=/pages/")
	u, err := url.Parse(a.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for name, want := range map[string]string{
		"response_type": "code", "client_id": clientID, "redirect_uri": b.url + "/auth/callback", "code_challenge_method": "S256",
		"prompt": "login", "login_hint": "a&b", "acr_values": "x y", "max_age": "60", "ui_locales": "de", "scope": "openid profile email offline_access",
	} {
		if q.Get(name) != want {
			t.Errorf("%s = %q, want %q", name, q.Get(name), want)
		}
	}
	if len(q.Get("state")) < 22 || len(q.Get("nonce")) < 22 || len(q.Get("code_challenge")) != 43 {
		t.Errorf("%v", q)
	}
}

// The provider is down at start: the server runs, says so, and logs people in when it is back.
func TestProviderDownAtStart(t *testing.T) {
	p := newOP(t)
	down := true
	p.with(func() {
		p.meta = func(m map[string]any) {
			if down {
				m["issuer"] = "not yet"
			}
		}
	})
	r := newRigWith(t, p, nil, func(c *config.Config) { c.Store = "memory:" })
	b := r.browser()
	for deadline := time.Now().Add(5 * time.Second); httpGet(t, r.h.Admin(), "/readyz").json(t)["status"] != "degraded"; {
		if time.Now().After(deadline) {
			t.Fatal("/readyz does not notice")
		}
		<-time.After(10 * time.Millisecond)
	}
	if a := b.navigate("/auth/login/redirect"); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	ready := httpGet(t, r.h.Admin(), "/readyz")
	if ready.StatusCode != 200 || ready.json(t)["status"] != "degraded" {
		t.Errorf("/readyz: %d %s", ready.StatusCode, ready.body)
	}
	p.with(func() { down = false })
	deadline := time.Now().Add(20 * time.Second)
	for {
		if a := b.navigate("/auth/login/redirect"); a.StatusCode == http.StatusFound {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("not back: %d %s", a.StatusCode, a.body)
		}
		<-time.After(200 * time.Millisecond)
	}
	b.login()
	if ready := httpGet(t, r.h.Admin(), "/readyz"); ready.json(t)["status"] != "ok" {
		t.Errorf("/readyz: %s", ready.body)
	}
}
