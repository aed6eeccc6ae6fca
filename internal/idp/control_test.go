package idp

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// steer calls the control API.
func (r *rig) steer(method, path, body string, header ...string) reply {
	r.t.Helper()
	req := httptest.NewRequest(method, "http://127.0.0.1:9091"+path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.Control().ServeHTTP(w, req)
	raw, err := io.ReadAll(w.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	a := reply{status: w.Code, header: w.Header(), body: string(raw)}
	_ = json.Unmarshal(raw, &a.m)
	return a
}

func (r *rig) steered(method, path, body string) reply {
	r.t.Helper()
	got := r.steer(method, path, body)
	if got.status >= 300 {
		r.t.Fatalf("%s %s: %d %s", method, path, got.status, got.body)
	}
	return got
}

func TestControlMistakes(t *testing.T) {
	r := opened(t, "auth0", nil)
	for _, tc := range []struct {
		method, path, body string
		status             int
		words              string
	}{
		{"POST", "/clock", `{"advance":"soon"}`, 400, "such as 10m"},
		{"POST", "/clock", `{"advance":"-1m"}`, 400, "not negative"},
		{"POST", "/clock", `{`, 400, "not the JSON"},
		{"POST", "/clock", `{"advance":"1m","more":1}`, 400, "unknown field"},
		{"POST", "/clock", `{"advance":"1m"}{}`, 400, "after the JSON"},
		{"POST", "/clock", `{"advance":"` + strings.Repeat("1", mostBody) + `"}`, 413, "longer than"},
		{"POST", "/faults", `{}`, 400, "needs a status, a delay, or drop"},
		{"POST", "/faults", `{"status":99}`, 400, "from 200 to 599"},
		{"POST", "/faults", `{"delay":"x"}`, 400, "such as 10s"},
		{"POST", "/faults", `{"status":500,"retry_after":-1}`, 400, "seconds"},
		{"GET", "/otp?user=nobody", "", 404, "no user"},
		{"GET", "/otp?user=alice", "", 409, "no authenticator app"},
		{"PATCH", "/users/nobody", `{}`, 404, "no user"},
		{"PATCH", "/users/alice", `{"username":"x"}`, 400, "stays as it is"},
		{"PATCH", "/users/alice", `{"factors":[{"id":"1","type":"palm"}]}`, 400, "palm"},
		{"PATCH", "/users/alice", `{"factors":[{"type":"sms"}]}`, 400, "id of its own"},
		{"PATCH", "/users/alice", `{"factors":[{"id":"1","type":"otp","secret":"!"}]}`, 400, "base32"},
		{"PATCH", "/users/alice", `{"factors":[{"id":"1","type":"push"}]}`, 400, "accept, reject"},
		{"PATCH", "/users/alice", `{"factors":[{"id":"1","type":"recovery_code"}]}`, 400, "is the code"},
		{"PUT", "/users", `[{"username":"a"}]`, 400, "no password"},
		{"PUT", "/users", `[{"username":"a","password":"b"},{"username":"A","password":"b"}]`, 400, "two users"},
		{"POST", "/users/alice/mfa-at-refresh", `{"on":true}`, 409, "PATCH it first"},
		{"POST", "/users/refresh/mfa-at-refresh", `{}`, 400, "true or false"},
		{"POST", "/users/nobody/mfa-at-refresh", `{"on":true}`, 404, "no user"},
		{"POST", "/users/nobody/logout-tokens", `{}`, 404, "no user"},
	} {
		got := r.steer(tc.method, tc.path, tc.body)
		if got.status != tc.status || !strings.Contains(got.text("detail"), tc.words) || got.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s %.40s: %d %s", tc.method, tc.path, tc.body, got.status, got.body)
		}
	}
	for _, header := range [][]string{{"Origin", "http://evil.test"}, {"Sec-Fetch-Site", "cross-site"}} {
		if got := r.steer("GET", "/users", "", header...); got.status != 403 {
			t.Errorf("%v: %d", header, got.status)
		}
	}
	req := httptest.NewRequest("GET", "http://evil.test/users", nil)
	w := httptest.NewRecorder()
	if r.Control().ServeHTTP(w, req); w.Code != 403 {
		t.Errorf("a name of somebody else: %d", w.Code)
	}
	for _, path := range []string{"/requests", "/users", "/otp?user=otp"} {
		if got := r.send("GET", path, "", nil); got.status != 404 {
			t.Errorf("%s is reachable at the provider: %d", path, got.status)
		}
	}
}

func TestControl(t *testing.T) {
	r := opened(t, "auth0", nil)
	r.login("alice", "wonderland")
	got := r.steered("GET", "/requests", "")
	if !strings.Contains(got.body, `"act":"password","outcome":"ok","user":"alice"`) || strings.Contains(got.body, "wonderland") {
		t.Errorf("%s", got.body)
	}
	if got := r.steered("GET", "/requests?act=refresh_token", ""); got.body != "[]\n" {
		t.Errorf("%s", got.body)
	}
	r.steered("DELETE", "/requests", "")
	if len(r.Requests()) != 0 {
		t.Error("still there")
	}
	before := r.now()
	if got := r.steered("POST", "/clock", `{"advance":"10m"}`); got.text("ahead") != "10m0s" || r.now().Sub(before) != 10*time.Minute {
		t.Errorf("%s", got.body)
	}
	r.challengeOf(r.mfaToken("sms"), "oob", "sms|1")
	if got := r.steered("GET", "/messages?user=sms", ""); !strings.Contains(got.body, r.sentCode("sms")) {
		t.Errorf("%s", got.body)
	}
	if got := r.steered("GET", "/messages?user=alice", ""); got.body != "[]\n" {
		t.Errorf("%s", got.body)
	}
	if got := r.steered("GET", "/otp?user=otp", ""); len(got.text("code")) != 6 {
		t.Errorf("%s", got.body)
	}
	if got := r.steered("PATCH", "/users/alice", `{"locked":true}`); got.m["locked"] != true || got.m["password"] != "wonderland" {
		t.Errorf("%s", got.body)
	}
	r.wants("patched", r.login("alice", "wonderland"), 401, "unauthorized", "")
	for range mostWrong {
		r.login("bob", "x")
	}
	r.steered("PATCH", "/users/bob", `{}`)
	r.good("unblocked", r.login("bob", "builder"))
	token := r.login("refresh", "open-sesame").text("refresh_token")
	r.steered("POST", "/users/refresh/mfa-at-refresh", `{"on":true}`)
	r.wants("step-up", r.refresh(token), 403, "mfa_required", "")
	r.steered("POST", "/users/refresh/mfa-at-refresh", `{"on":false}`)
	r.steered("PUT", "/users", `[{"username":"eve","password":"apple"}]`)
	if got := r.steered("GET", "/users", ""); got.body != `[{"username":"eve","password":"apple"}]`+"\n" {
		t.Errorf("%s", got.body)
	}
	r.good("eve", r.login("eve", "apple"))
	r.steered("POST", "/reset", "")
	r.good("alice", r.login("alice", "wonderland"))
	if got := r.steered("GET", "/clock", ""); got.text("ahead") != "0s" || len(r.Messages("")) != 0 {
		t.Errorf("%s", got.body)
	}
	r.wants("tokens of before", r.refresh(token), 403, "invalid_grant", "")
}

func TestClaimsAndKeys(t *testing.T) {
	r := opened(t, "keycloak", nil)
	r.steered("PUT", "/claims", `{"sid":null,"session_expiry":1700000000}`)
	claims := r.good("bent", r.login("alice", "wonderland"))
	if _, has := claims["sid"]; has || claims["session_expiry"].(json.Number).String() != "1700000000" {
		t.Errorf("%v", claims)
	}
	r.steered("PUT", "/claims", `{}`)
	got := r.login("alice", "wonderland")
	if r.good("straight", got)["sid"] == nil {
		t.Error("still bent")
	}
	first := r.keyID()
	r.steered("POST", "/keys/rotate", "")
	if keys := r.send("GET", r.at.jwks, "", nil); r.keyID() == first || !strings.Contains(keys.body, first) || !strings.Contains(keys.body, r.keyID()) {
		t.Errorf("%s", keys.body)
	}
	if r.audienceOf(got.text("id_token")) != "app" {
		t.Error("a token of before is not known any more")
	}
	r.steered("POST", "/keys/rotate", `{"forget":true}`)
	if keys := r.send("GET", r.at.jwks, "", nil); strings.Contains(keys.body, first) || strings.Count(keys.body, `"kid"`) != 1 {
		t.Errorf("%s", keys.body)
	}
}

func TestKeysSurviveARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	p, _ := start(t, func(c *Config) { c.StateFile = file })
	if err := p.RotateKeys(false); err != nil {
		t.Fatal(err)
	}
	again, err := New(p.Config)
	if err != nil || again.keyID() != p.keyID() || len(again.old) != 1 {
		t.Errorf("%v", err)
	}
}

func TestLogoutTokensByOrder(t *testing.T) {
	address, came := app(t, http.StatusOK)
	r := opened(t, "generic", func(c *Config) { c.Clients[0].BackchannelLogoutURI = address })
	r.login("alice", "wonderland")
	claims := func() map[string]any {
		jws, err := jose.ParseSignedCompact((<-came).PostForm.Get("logout_token"), []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			t.Fatal(err)
		}
		return members(jws.UnsafePayloadWithoutVerification())
	}
	if got := r.steered("POST", "/users/alice/logout-tokens", `{"claims":{"aud":"other","jti":"1"}}`); got.body != `{"outcomes":["status 200"]}`+"\n" {
		t.Errorf("%s", got.body)
	}
	if c := claims(); c["aud"] != "other" || c["jti"] != "1" || c["sid"] != nil {
		t.Errorf("%v", c)
	}
	b := newBrowser(t, r)
	page := b.press(b.authorize(nil), "username", "bob", "password", "builder")
	to, err := url.Parse(page.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	sid := b.exchanged(to)["sid"]
	r.steered("POST", "/users/bob/logout-tokens", `{"claims":{"sub":null}}`)
	if c := claims(); c["sid"] != sid || c["sub"] != nil || c["aud"] != "app" {
		t.Errorf("%v", c)
	}
}

func TestFaults(t *testing.T) {
	r := opened(t, "auth0", nil)
	token := r.login("alice", "wonderland").text("refresh_token")
	r.steered("POST", "/faults", `{"act":"refresh_token","status":502,"times":2}`)
	r.steered("POST", "/faults", `{"act":"refresh_token","status":503,"body":"{\"error\":\"temporarily_unavailable\"}","retry_after":7}`)
	r.good("another act", r.login("alice", "wonderland"))
	for range 2 {
		if got := r.refresh(token); got.status != 502 || got.header.Get("Content-Type") != "text/html" {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	got := r.refresh(token)
	r.wants("then", got, 503, "temporarily_unavailable", "")
	if got.header.Get("Retry-After") != "7" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", got.header)
	}
	r.good("then", r.refresh(token))
	if e := r.Requests(); e[len(e)-2].Outcome != "fault" || e[len(e)-2].Status != 503 {
		t.Errorf("%+v", e)
	}
	r.Fail(Fault{Status: 500, ContentType: "text/plain", Body: "x", Times: -1})
	for range 3 {
		if got := r.send("GET", "/.well-known/openid-configuration", "", nil); got.status != 500 || got.header.Get("Content-Type") != "text/plain" {
			t.Errorf("%d %v", got.status, got.header)
		}
	}
	if got := r.steered("GET", "/faults", ""); !strings.Contains(got.body, `"status":500`) {
		t.Errorf("%s", got.body)
	}
	r.steered("DELETE", "/faults", "")
	r.good("cleared", r.login("alice", "wonderland"))
	r.steered("POST", "/faults", `{"act":"password","delay":"50ms"}`)
	begun := time.Now()
	if r.good("late", r.login("alice", "wonderland")); time.Since(begun) < 50*time.Millisecond {
		t.Error("not late")
	}
}

// A dropped answer is the worst case of a refresh: the token is spent, and nobody knows the new one.
func TestFaultThatDropsTheAnswer(t *testing.T) {
	r := opened(t, "generic", nil)
	token := r.login("alice", "wonderland").text("refresh_token")
	r.Fail(Fault{Act: "refresh_token", Drop: true})
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {"app"}, "client_secret": {"s&cret"}}
	req, err := http.NewRequest("POST", r.server.URL+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if res, err := (&http.Client{}).Do(req); err == nil {
		res.Body.Close()
		t.Errorf("an answer: %d", res.StatusCode)
	}
	r.wants("spent", r.refresh(token), 400, "invalid_grant", "")
	if e := r.Requests(); e[len(e)-3].Act != "refresh_token" || e[len(e)-3].Outcome != "ok" {
		t.Errorf("%+v", e)
	}
}

func TestConfigMistakes(t *testing.T) {
	for _, c := range []Config{
		{},
		{Issuer: "http://x.test"},
		{Issuer: "http://x.test", Clients: []Client{{}}, Dialect: "esperanto"},
		{Issuer: "x", Clients: []Client{{}}},
		{Issuer: "http://x.test", Clients: []Client{{}}, Rotation: "sometimes"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v", c)
		}
	}
	if err := CheckUsers(DemoUsers()); err != nil {
		t.Error(err)
	}
}
