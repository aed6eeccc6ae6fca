package idp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// rig is a provider of a dialect whose clock stands still unless a test moves it.
type rig struct {
	*Provider
	t      *testing.T
	server *httptest.Server
}

var issuers = map[string]string{
	"auth0": "/", "okta": "/oauth2/default", "keycloak": "/realms/demo", "entra": "/tenant/v2.0", "cognito": "/pool-demo",
}

func opened(t *testing.T, dialect string, change func(*Config)) *rig {
	t.Helper()
	var p atomic.Pointer[Provider]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.Load().ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	still := time.Date(2026, 5, 4, 12, 0, 10, 0, time.UTC)
	c := Config{
		Issuer: server.URL + issuers[dialect], Dialect: dialect, Users: DemoUsers(), Now: func() time.Time { return still },
		Clients: []Client{{ID: "app", Secret: "s&cret", RedirectURIs: []string{redirectURI}, PostLogoutRedirectURIs: []string{"http://app.test/"}}},
	}
	if change != nil {
		change(&c)
	}
	if c.StateFile == "" {
		c.StateFile = keyed(t)
	}
	made, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	p.Store(made)
	return &rig{made, t, server}
}

// oneKey is made once: a new one for each test is most of the tests' time.
var oneKey = sync.OnceValues(func() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	s := newState()
	s.Key = x509.MarshalPKCS1PrivateKey(key)
	return json.Marshal(s)
})

// keyed is a state file with nothing but a key.
func keyed(t *testing.T) string {
	t.Helper()
	raw, err := oneKey()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "state.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// reply is an answer.
type reply struct {
	status int
	header http.Header
	body   string
	m      map[string]any
}

func (r reply) text(name string) string { s, _ := r.m[name].(string); return s }

// send sends a request and reads the answer.
func (r *rig) send(method, path, body string, header map[string]string) reply {
	r.t.Helper()
	req, err := http.NewRequest(method, r.server.URL+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	a := reply{status: res.StatusCode, header: res.Header, body: string(raw)}
	_ = json.Unmarshal(raw, &a.m)
	return a
}

// form posts a form with client authentication.
func (r *rig) form(path string, form url.Values, header ...string) reply {
	r.t.Helper()
	h := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	for i := 0; i+1 < len(header); i += 2 {
		h[header[i]] = header[i+1]
	}
	form.Set("client_id", "app")
	form.Set("client_secret", "s&cret")
	return r.send("POST", path, form.Encode(), h)
}

func (r *rig) token(form url.Values, header ...string) reply {
	r.t.Helper()
	return r.form(r.at.token, form, header...)
}

func (r *rig) login(user, pass string) reply {
	r.t.Helper()
	return r.token(password(user, pass))
}

func (r *rig) grant(name string, pairs ...string) reply {
	r.t.Helper()
	form := url.Values{"grant_type": {name}}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return r.token(form)
}

func (r *rig) refresh(token string) reply {
	r.t.Helper()
	return r.grant("refresh_token", "refresh_token", token)
}

func (r *rig) json(path string, body any, header ...string) reply {
	r.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	h := map[string]string{"Content-Type": "application/json"}
	for i := 0; i+1 < len(header); i += 2 {
		h[header[i]] = header[i+1]
	}
	return r.send("POST", path, string(raw), h)
}

// wants checks status and error.
func (r *rig) wants(what string, got reply, status int, code, words string) {
	r.t.Helper()
	if got.status != status || got.text("error") != code || !strings.Contains(got.text("error_description"), words) {
		r.t.Errorf("%s: %d %s", what, got.status, got.body)
	}
}

// good checks a token answer and returns the ID token's claims.
func (r *rig) good(what string, got reply) map[string]any {
	r.t.Helper()
	if got.status != http.StatusOK || got.text("access_token") == "" {
		r.t.Fatalf("%s: %d %s", what, got.status, got.body)
	}
	return r.claims(got.text("id_token"))
}

func (r *rig) claims(token string) map[string]any {
	r.t.Helper()
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		r.t.Fatal(err)
	}
	body, err := jws.Verify(&r.key.PublicKey)
	if err != nil {
		r.t.Fatal(err)
	}
	return members(body)
}

// amr checks how a login was made.
func (r *rig) amr(claims map[string]any, want ...string) {
	r.t.Helper()
	var got []string
	list, _ := claims["amr"].([]any)
	for _, v := range list {
		got = append(got, v.(string))
	}
	wantACR := acrPassword
	if len(want) > 1 {
		wantACR = acrFactor
	}
	if strings.Join(got, " ") != strings.Join(want, " ") || claims["acr"] != wantACR {
		r.t.Errorf("amr %v acr %v, want %v", got, claims["acr"], want)
	}
}

// sentCode is the newest code that was sent.
func (r *rig) sentCode(user string) string {
	r.t.Helper()
	all := r.Messages(user)
	if len(all) == 0 {
		r.t.Fatal("nothing was sent")
	}
	return all[len(all)-1].Code
}
