package cloakroom_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

func httpGet(t testing.TB, h http.Handler, path string) answer {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	res := w.Result()
	body, _ := io.ReadAll(res.Body)
	return answer{res, string(body)}
}

func credentials(user, pass string) string {
	b, _ := json.Marshal(map[string]string{"username": user, "password": pass, "return_to": "/pages/in"})
	return string(b)
}

func TestLoginByForm(t *testing.T) {
	b := newRig(t, nil).browser()
	a := b.post("/auth/login", credentials("alice", password))
	m := a.json(t)
	if a.StatusCode != 200 || m["status"] != "done" || m["return_to"] != "/pages/in" || m["session"] == nil || m["user"].(map[string]any)["sub"] != "alice" {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if a := b.fetch("GET", "/api/x"); a.StatusCode != 200 || a.json(t)["authorized"] != true {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if got := b.op.grants[0].Get("password"); got != password {
		t.Errorf("the password reached the provider as %q", got)
	}
	for _, secret := range []string{password, "correct horse", b.ticket(), clientSecret} {
		if strings.Contains(b.log.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

func TestLoginByFormWithoutJavaScript(t *testing.T) {
	b := newRig(t, nil).browser()
	page := b.navigate("/auth/login?return_to=/pages/in")
	if page.StatusCode != 200 || !strings.Contains(page.body, `name="password"`) {
		t.Fatalf("%d %s", page.StatusCode, page.body)
	}
	form := func(pass string) answer {
		v := url.Values{"username": {"alice"}, "password": {pass}, "return_to": {"/pages/in"}, "remember": {"on"}}
		return b.do(b.request("POST", "/auth/login", strings.NewReader(v.Encode()), "Content-Type", "application/x-www-form-urlencoded",
			"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"))
	}
	if a := form("wrong"); a.StatusCode != 401 || !strings.Contains(a.body, `role="alert"`) || !strings.Contains(a.body, `value="alice"`) || strings.Contains(a.body, "wrong\"") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	a := form(password)
	if a.StatusCode != 303 || a.Header.Get("Location") != "/pages/in" {
		t.Errorf("%d %s", a.StatusCode, a.Header.Get("Location"))
	}
	if c := a.Header.Get("Set-Cookie"); !strings.Contains(c, "Max-Age=2592000") {
		t.Errorf("remember me: %s", c)
	}
}

func TestFailedLoginsLookTheSame(t *testing.T) {
	b := newRig(t, nil).browser()
	strip := func(a answer) string {
		m := a.json(t)
		delete(m, "request_id")
		a.Header.Del("Date")
		return fmt.Sprint(a.StatusCode, m, a.Header)
	}
	began := time.Now()
	unknown := b.post("/auth/login", credentials("nobody", "x"))
	took := time.Since(began)
	wrong := b.post("/auth/login", credentials("alice", "x"))
	if strip(unknown) != strip(wrong) || unknown.StatusCode != 401 || unknown.code(t) != "invalid_credentials" {
		t.Errorf("unknown user and wrong password differ:\n%s\n%s", strip(unknown), strip(wrong))
	}
	if took < 250*time.Millisecond {
		t.Errorf("released after %v, before the grid", took)
	}
}

func TestLoginFormRefusals(t *testing.T) {
	b := newRig(t, nil).browser()
	big := strings.Repeat("x", 1<<20)
	for _, tc := range []struct {
		name, contentType, body string
		status                  int
		code                    string
	}{
		{"empty password", "application/json", `{"username":"alice","password":""}`, 400, "invalid_request"},
		{"1 MiB password", "application/json", credentials("alice", big), 413, "too_large"},
		{"duplicate key", "application/json", `{"username":"alice","username":"bob","password":"x"}`, 400, "invalid_request"},
		{"wrong type", "application/json", `{"username":"alice","password":1}`, 400, "invalid_request"},
		{"wrong type of remember", "application/json", `{"username":"alice","password":"x","remember":"yes"}`, 400, "invalid_request"},
		{"object as password", "application/json", `{"username":"alice","password":{"a":"b"}}`, 400, "invalid_request"},
		{"unknown member", "application/json", `{"username":"alice","password":"x","admin":true}`, 400, "invalid_request"},
		{"array", "application/json", `["alice"]`, 400, "invalid_request"},
		{"trailing", "application/json", `{"username":"alice","password":"x"}{}`, 400, "invalid_request"},
		{"cut off", "application/json", `{"username":"alice","password":"x"`, 400, "invalid_request"},
		{"not UTF-8", "application/json", "{\"username\":\"alice\",\"password\":\"\xff\"}", 400, "invalid_request"},
		{"unknown provider", "application/json", `{"username":"alice","password":"x","provider":"other"}`, 400, "invalid_request"},
		{"text/plain", "text/plain", credentials("alice", password), 415, "unsupported_media_type"},
		{"multipart", "multipart/form-data; boundary=x", "x", 415, "unsupported_media_type"},
		{"no type", "", credentials("alice", password), 415, "unsupported_media_type"},
		{"doubled form field", "application/x-www-form-urlencoded", "username=a&username=b&password=x", 400, ""},
	} {
		a := b.do(b.request("POST", "/auth/login", strings.NewReader(tc.body), append([]string{"Content-Type", tc.contentType}, fetched...)...))
		if a.StatusCode != tc.status || tc.code != "" && a.code(t) != tc.code {
			t.Errorf("%s: %d %.300s, want %d %s", tc.name, a.StatusCode, a.body, tc.status, tc.code)
		}
	}
	if n := b.op.count("password"); n != 0 {
		t.Errorf("the provider was asked %d times", n)
	}
}

func TestLoginIsRefusedFromElsewhere(t *testing.T) {
	b := newRig(t, nil).browser()
	for name, headers := range map[string][]string{
		"cross-site form":         {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Origin", "https://evil.example"},
		"sibling subdomain":       {"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors", "Origin", "http://evil.127.0.0.1"},
		"old browser, its origin": {"Origin", "https://evil.example"},
		"opaque origin":           {"Origin", "null"},
		"nothing said":            {},
		"user's own address bar":  {"Sec-Fetch-Site", "none"},
		"metadata doubled":        {"Sec-Fetch-Site", "same-origin, same-origin"},
	} {
		req := b.request("POST", "/auth/login", strings.NewReader("username=alice&password=x"), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)...)
		if a := b.do(req); a.StatusCode != 403 || !strings.Contains(a.body, "cross_origin") && !strings.Contains(a.body, "another site") {
			t.Errorf("%s: %d %.200s", name, a.StatusCode, a.body)
		}
	}
	for name, headers := range map[string][]string{
		"own origin, no metadata": {"Origin", b.url},
		"a program":               {"X-Cloakroom", "1"},
	} {
		if a := b.do(b.request("POST", "/auth/login", strings.NewReader(credentials("alice", password)), append([]string{"Content-Type", "application/json"}, headers...)...)); a.StatusCode != 200 {
			t.Errorf("%s: %d %.200s", name, a.StatusCode, a.body)
		}
	}
}

func TestFixedTicketIsNeverAdopted(t *testing.T) {
	b := newRig(t, nil).browser()
	fixed := strings.Repeat("A", 43)
	u, _ := url.Parse(b.url)
	b.client.Jar.SetCookies(u, []*http.Cookie{{Name: "cloakroom-" + u.Port(), Value: fixed, Path: "/"}})
	if a := b.post("/auth/login", credentials("alice", password)); a.StatusCode != 200 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	first := b.ticket()
	if first == fixed {
		t.Fatal("the ticket from before the login lives on")
	}
	if a := b.post("/auth/login", credentials("alice", password)); a.StatusCode != 200 || b.ticket() == first {
		t.Fatalf("second login: %d, same ticket %v", a.StatusCode, b.ticket() == first)
	}
	old := b.browser()
	old.client.Jar.SetCookies(u, []*http.Cookie{{Name: "cloakroom-" + u.Port(), Value: first, Path: "/"}})
	if a := old.fetch("GET", "/api/x"); a.StatusCode != 401 || a.code(t) != "session_ended" {
		t.Errorf("the older session: %d %s", a.StatusCode, a.body)
	}
}

func TestBlockedAccount(t *testing.T) {
	b := newRig(t, nil).browser()
	if a := b.post("/auth/login", credentials("blocked", password)); a.StatusCode != 403 || a.code(t) != "account_blocked" {
		t.Errorf("right password: %d %s", a.StatusCode, a.body)
	}
	if a := b.post("/auth/login", credentials("blocked", "wrong")); a.StatusCode != 401 || a.code(t) != "invalid_credentials" {
		t.Errorf("wrong password: %d %s", a.StatusCode, a.body)
	}
}

func TestLoginLimits(t *testing.T) {
	b := newRig(t, func(c *config.Config) {
		c.Limits.PerAccount = config.Rate{Burst: 3, Per: time.Hour}
		c.Limits.PerAddress = config.Rate{Burst: 100, Per: time.Hour}
	}).browser()
	for range 5 { // logging in is not an attack
		if a := b.post("/auth/login", credentials("alice", password)); a.StatusCode != 200 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
	}
	for i, spelling := range []string{"alice", " Alice", "ALICE ", "ａlice"} {
		a := b.post("/auth/login", credentials(spelling, "wrong"))
		if want := 401; i < 3 && a.StatusCode != want {
			t.Errorf("try %d: %d", i, a.StatusCode)
		}
		if i == 3 && (a.StatusCode != 429 || a.code(t) != "too_many_attempts" || a.Header.Get("Retry-After") == "") {
			t.Errorf("try %d: %d %s", i, a.StatusCode, a.body)
		}
	}
	if a := b.post("/auth/login", credentials("bob", "wrong")); a.StatusCode != 401 {
		t.Errorf("another account: %d", a.StatusCode)
	}
}

func TestNoFormUnlessConfigured(t *testing.T) {
	b := newRig(t, func(c *config.Config) { c.Frontends[0].Providers[0].PasswordLogin = false }).browser()
	// The app's code is the same: it is told to go on at the provider's page.
	if a := b.post("/auth/login", credentials("alice", password)); a.StatusCode != 202 || a.json(t)["status"] != "redirect" || strings.Contains(a.body, password) {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := b.navigate("/auth/login?return_to=/pages/x"); a.StatusCode != 302 || !strings.HasPrefix(a.Header.Get("Location"), b.op.URL) {
		t.Errorf("the only way is not taken: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	if b.op.count("password") != 0 {
		t.Error("the provider was asked")
	}
}

func TestProviderIllAtLogin(t *testing.T) {
	b := newRig(t, nil).browser()
	for name, fault := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"500": func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true },
		"HTML 502": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(502)
			fmt.Fprint(w, "<h1>Bad Gateway")
			return true
		},
		"10 MB": func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"access_token":"%s"}`, strings.Repeat("x", 10<<20))
			return true
		},
		"closed": func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
	} {
		before := b.op.count("password")
		b.op.with(func() { b.op.token = fault })
		a := b.post("/auth/login", credentials("alice", password))
		b.op.with(func() { b.op.token = nil })
		if a.StatusCode != 503 || a.code(t) != "provider_unavailable" || a.Header.Get("Retry-After") == "" || b.ticket() != "" {
			t.Errorf("%s: %d %.200s", name, a.StatusCode, a.body)
		}
		if n := b.op.count("password") - before; n != 1 {
			t.Errorf("%s: the password was sent %d times", name, n)
		}
	}
}
