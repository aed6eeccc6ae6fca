package idp

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const redirectURI = "http://app.test/auth/callback"

// start runs a provider.
func start(t *testing.T, change func(*Config)) (*Provider, *httptest.Server) {
	t.Helper()
	var p *Provider
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	c := Config{
		Issuer: server.URL, Clients: []Client{{ID: "app", Secret: "s&cret", RedirectURIs: []string{redirectURI}, PostLogoutRedirectURIs: []string{"http://app.test/"}}},
		Users: []User{{Username: "ann", Password: "pw", Name: "Ann", Email: "ann@x.test"}, {Username: "locked", Password: "pw", Locked: true}},
	}
	if change != nil {
		change(&c)
	}
	var err error
	if p, err = New(c); err != nil {
		t.Fatal(err)
	}
	return p, server
}

// ask posts to the token endpoint.
func ask(t *testing.T, server *httptest.Server, form url.Values) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequest("POST", server.URL+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("app", url.QueryEscape("s&cret"))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var m map[string]any
	if err := json.NewDecoder(res.Body).Decode(&m); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, m
}

func password(user, pass string) url.Values {
	return url.Values{"grant_type": {"password"}, "username": {user}, "password": {pass}, "scope": {"openid offline_access"}}
}

func TestPasswordGrant(t *testing.T) {
	p, server := start(t, nil)
	status, m := ask(t, server, password("ann", "pw"))
	if status != 200 || m["expires_in"] != 30.0 || m["refresh_token"] == nil {
		t.Fatalf("%d %v", status, m)
	}
	jws, err := jose.ParseSignedCompact(m["id_token"].(string), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	body, err := jws.Verify(&p.key.PublicKey)
	if err != nil || !strings.Contains(string(body), `"name":"Ann"`) {
		t.Errorf("%s %v", body, err)
	}
	if _, name, ok := p.CheckAccessToken(m["access_token"].(string)); !ok || name != "Ann" {
		t.Error("the access token is not good")
	}
	for _, tc := range []struct {
		user, pass, code string
		status           int
	}{{"ann", "x", "invalid_grant", 403}, {"nobody", "pw", "invalid_grant", 403}, {"locked", "x", "invalid_grant", 403}, {"locked", "pw", "unauthorized", 401}} {
		if status, m := ask(t, server, password(tc.user, tc.pass)); status != tc.status || m["error"] != tc.code {
			t.Errorf("%s/%s: %d %v", tc.user, tc.pass, status, m)
		}
	}
}

func TestReuseKillsTheFamily(t *testing.T) {
	p, server := start(t, nil)
	_, first := ask(t, server, password("ann", "pw"))
	refresh := func(m map[string]any) (int, map[string]any) {
		return ask(t, server, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {m["refresh_token"].(string)}})
	}
	status, second := refresh(first)
	if status != 200 || second["refresh_token"] == first["refresh_token"] {
		t.Fatalf("%d", status)
	}
	if status, m := refresh(first); status != 400 || m["error"] != "invalid_grant" {
		t.Errorf("reuse: %d %v", status, m)
	}
	if status, _ := refresh(second); status != 400 {
		t.Errorf("the good token after a reuse: %d", status)
	}
	if _, _, ok := p.CheckAccessToken(second["access_token"].(string)); ok {
		t.Error("the access token lives on")
	}
}

func TestAccessTokensEnd(t *testing.T) {
	p, server := start(t, func(c *Config) { c.AccessTokenLife = time.Millisecond })
	_, m := ask(t, server, password("ann", "pw"))
	<-time.After(5 * time.Millisecond)
	if _, _, ok := p.CheckAccessToken(m["access_token"].(string)); ok {
		t.Error("it is good after its end")
	}
}

// walk goes through the hosted page.
func walk(t *testing.T, server *httptest.Server, client *http.Client, change func(url.Values)) *url.URL {
	t.Helper()
	sum := sha256.Sum256([]byte("verifier"))
	q := url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {redirectURI}, "scope": {"openid offline_access"}, "state": {"st"}, "nonce": {"no"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	if change != nil {
		change(q)
	}
	res, err := client.Get(server.URL + "/authorize?" + q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		body, _ := io.ReadAll(res.Body)
		if !strings.Contains(string(body), `name="password"`) || strings.Contains(string(body), "<script") {
			t.Fatalf("page: %s", body)
		}
		res, err = client.PostForm(server.URL+"/authorize", url.Values{"query": {q.Encode()}, "username": {"ann"}, "password": {"pw"}})
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
	}
	to, err := res.Location()
	if err != nil {
		t.Fatalf("%d: %v", res.StatusCode, err)
	}
	return to
}

func TestHostedPage(t *testing.T) {
	_, server := start(t, nil)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	none := walk(t, server, client, func(q url.Values) { q.Set("prompt", "none") })
	if none.Query().Get("error") != "login_required" {
		t.Errorf("%v", none)
	}
	to := walk(t, server, client, nil)
	if to.Query().Get("state") != "st" || to.Query().Get("iss") != server.URL {
		t.Errorf("%v", to)
	}
	exchange := func(code, verifier string) int {
		status, _ := ask(t, server, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirectURI}, "code_verifier": {verifier}})
		return status
	}
	if status := exchange(to.Query().Get("code"), "other"); status != 400 {
		t.Errorf("wrong verifier: %d", status)
	}
	if status := exchange(to.Query().Get("code"), "verifier"); status != 200 {
		t.Errorf("exchange: %d", status)
	}
	if status := exchange(to.Query().Get("code"), "verifier"); status != 400 {
		t.Errorf("a second time: %d", status)
	}
	if again := walk(t, server, client, func(q url.Values) { q.Set("prompt", "none") }); again.Query().Get("code") == "" {
		t.Errorf("single sign-on: %v", again)
	}
	bad := walk(t, server, client, func(q url.Values) { q.Del("code_challenge") })
	if bad.Query().Get("error") != "invalid_request" {
		t.Errorf("without PKCE: %v", bad)
	}
	res, err := client.Get(server.URL + "/logout?client_id=app&post_logout_redirect_uri=" + url.QueryEscape("http://evil.test/"))
	if err != nil || res.StatusCode != 200 {
		t.Errorf("an unregistered address: %v %v", res, err)
	}
	if gone := walk(t, server, client, func(q url.Values) { q.Set("prompt", "none") }); gone.Query().Get("error") != "login_required" {
		t.Errorf("after the logout: %v", gone)
	}
}

func TestUnregisteredRedirectsStayHere(t *testing.T) {
	_, server := start(t, nil)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Get(server.URL + "/authorize?client_id=app&redirect_uri=" + url.QueryEscape("http://evil.test/"))
	if err != nil || res.StatusCode != 400 {
		t.Errorf("%v %v", res, err)
	}
}

func TestStateSurvivesARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	p, server := start(t, func(c *Config) { c.StateFile = file })
	_, m := ask(t, server, password("ann", "pw"))
	again, err := New(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := again.CheckAccessToken(m["access_token"].(string)); !ok || again.keyID() != p.keyID() {
		t.Error("the state is lost")
	}
}
