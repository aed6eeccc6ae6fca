package cloakroom_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/cloakroom/cloakroom"
	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/memstore"
)

// rig is the whole product in one process: provider, API, Cloakroom, all on loopback, over real HTTP.
type rig struct {
	t   testing.TB
	op  *op
	api *api
	url string
	h   *cloakroom.Handler
	log *lockedBuffer
	cfg config.Config
	st  store.Store
}

// api records what reached it.
type api struct {
	*httptest.Server
	mu      sync.Mutex
	seen    []*http.Request
	handler http.HandlerFunc
}

func newAPI(t testing.TB) *api {
	a := &api{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.seen = append(a.seen, r.Clone(context.Background()))
		h := a.handler
		a.mu.Unlock()
		if h != nil {
			h(w, r)
			return
		}
		writeJSON(w, 200, map[string]any{"path": r.URL.Path, "authorized": strings.HasPrefix(r.Header.Get("Authorization"), "Bearer access-canary-")})
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *api) count() int { a.mu.Lock(); defer a.mu.Unlock(); return len(a.seen) }

// lockedBuffer collects the log.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// newRig starts everything; change may edit the configuration before.
func newRig(t testing.TB, change func(*config.Config)) *rig {
	t.Helper()
	return newRigWith(t, newOP(t), memstore.New(), change)
}

func newRigWith(t testing.TB, p *op, st store.Store, change func(*config.Config)) *rig {
	t.Helper()
	r := &rig{t: t, op: p, api: newAPI(t), log: &lockedBuffer{}, st: st}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.h.ServeHTTP(w, req) }))
	r.url = "http://" + server.Listener.Addr().String()
	r.cfg = config.Config{
		Limits: config.Limits{PerAccount: config.Rate{Burst: 1000, Per: 1e9}, PerAddress: config.Rate{Burst: 1000, Per: 1e9}},
		Frontends: []config.Frontend{{
			URL: r.url,
			Providers: []config.Provider{{
				Issuer: p.URL, ClientID: clientID, ClientSecret: config.NewSecret(clientSecret), PasswordLogin: true, Profile: "auth0",
			}},
			Routes: []config.Route{
				{Path: "/api/", Upstream: r.api.URL},
				{Path: "/pages/", Upstream: r.api.URL, Pages: true},
				{Path: "/open/", Upstream: r.api.URL, Session: "none"},
			},
		}},
	}
	if change != nil {
		change(&r.cfg)
	}
	r.start()
	server.Start()
	t.Cleanup(func() {
		server.Close()
		if err := r.h.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return r
}

func (r *rig) start() {
	r.t.Helper()
	if len(r.cfg.Keys) == 0 {
		r.cfg.Keys = []config.Secret{config.NewKey()}
	}
	h, err := cloakroom.New(r.cfg, cloakroom.Options{
		Store: r.st, Log: slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.h = h
}

// restart makes a new handler over the same store, as after a crash.
func (r *rig) restart() {
	r.t.Helper()
	old := r.h
	r.start()
	if err := old.Shutdown(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

// browser is a client with a cookie jar that follows no redirect and says what a browser says.
type browser struct {
	*rig
	client *http.Client
}

func (r *rig) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return &browser{r, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
}

func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("%s %s: not JSON: %v: %.200s", a.Request.Method, a.Request.URL, err, a.body)
	}
	return m
}

func (a answer) code(t testing.TB) string {
	t.Helper()
	c, _ := a.json(t)["code"].(string)
	return c
}

func (b *browser) do(req *http.Request) answer {
	b.t.Helper()
	res, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{res, string(body)}
}

func (b *browser) request(method, path string, body io.Reader, headers ...string) *http.Request {
	b.t.Helper()
	target := path
	if strings.HasPrefix(path, "/") {
		target = b.url + path
	}
	req, err := http.NewRequest(method, target, body)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
		} else {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	return req
}

var (
	fetched   = []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}
	navigated = []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Accept", "text/html"}
	linked    = []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Accept", "text/html"}
)

// fetch is the app's own fetch.
func (b *browser) fetch(method, path string, headers ...string) answer {
	b.t.Helper()
	return b.do(b.request(method, path, nil, append(append([]string{}, fetched...), headers...)...))
}

// post is the app's own fetch with a JSON body.
func (b *browser) post(path, body string) answer {
	b.t.Helper()
	return b.do(b.request("POST", path, strings.NewReader(body), append([]string{"Content-Type", "application/json"}, fetched...)...))
}

// navigate is a person going to an address.
func (b *browser) navigate(path string) answer {
	b.t.Helper()
	return b.do(b.request("GET", path, nil, navigated...))
}

// arrive is a navigation that another site began: the Strict ticket stays behind, as in a browser.
func (b *browser) arrive(path string) answer {
	b.t.Helper()
	req := b.request("GET", path, nil, linked...)
	u, err := url.Parse(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range b.client.Jar.Cookies(u) {
		if strings.Contains(c.Name, "-tx-") {
			req.AddCookie(c)
		}
	}
	jarless := *b.client
	jarless.Jar = nil
	res, err := jarless.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	b.client.Jar.SetCookies(u, res.Cookies())
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{res, string(body)}
}

// toProvider starts a hosted login and returns the callback address that the provider sends the browser to.
func (b *browser) toProvider(path string) string {
	b.t.Helper()
	a := b.navigate(path)
	if a.StatusCode != http.StatusFound {
		b.t.Fatalf("%s: %d %.300s", path, a.StatusCode, a.body)
	}
	at := b.do(b.request("GET", a.Header.Get("Location"), nil))
	back := at.Header.Get("Location")
	if at.StatusCode != http.StatusFound || !strings.HasPrefix(back, b.url+"/auth/callback") {
		b.t.Fatalf("provider: %d %s %.300s", at.StatusCode, back, at.body)
	}
	return back
}

// login logs in by the hosted page and checks that it worked.
func (b *browser) login() {
	b.t.Helper()
	a := b.arrive(b.toProvider("/auth/login/redirect?return_to=/pages/home"))
	if a.StatusCode != http.StatusFound || a.Header.Get("Location") != "/pages/home" {
		b.t.Fatalf("callback: %d %s %.500s\n%s", a.StatusCode, a.Header.Get("Location"), a.body, b.log)
	}
}

// ticket is the value of the ticket cookie, "" for none.
func (b *browser) ticket() string {
	u, err := url.Parse(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range b.client.Jar.Cookies(u) {
		if c.Name == "cloakroom-"+u.Port() {
			return c.Value
		}
	}
	return ""
}

func (b *browser) authenticated() bool {
	b.t.Helper()
	a := b.fetch("GET", "/auth/session")
	if a.StatusCode != 200 {
		b.t.Fatalf("/auth/session: %d %s", a.StatusCode, a.body)
	}
	return a.json(b.t)["authenticated"] == true
}
