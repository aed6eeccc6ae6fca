package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/memstore"
)

const token = "operator-token-canary"

// provider is one that refreshes nothing.
type provider struct{ session.Provider }

func (provider) Issuer() string                              { return "https://op.example" }
func (provider) HasRevocation() bool                         { return true }
func (provider) Revoke(context.Context, oidc.TokenSet) error { return nil }
func (provider) Refresh(context.Context, oidc.TokenSet, oidc.Target, oidc.Expect) (oidc.Exchange, error) {
	return oidc.Exchange{}, errors.New("not now")
}

// flaky is a store that can be made to fail.
type flaky struct {
	*memstore.Store
	mu   sync.Mutex
	fail error
}

func (f *flaky) failing() error { f.mu.Lock(); defer f.mu.Unlock(); return f.fail }
func (f *flaky) set(err error)  { f.mu.Lock(); defer f.mu.Unlock(); f.fail = err }

func (f *flaky) Find(ctx context.Context, q store.Query) (store.Page, error) {
	if err := f.failing(); err != nil {
		return store.Page{}, err
	}
	return f.Store.Find(ctx, q)
}

func (f *flaky) Ping(context.Context) error { return f.failing() }

// desk is an admin handler over two frontends.
type desk struct {
	t        *testing.T
	st       *flaky
	managers []*session.Manager
	handler  http.Handler
	lacking  error
	mu       sync.Mutex
	audit    []event.Audit
}

func ring(t *testing.T, keys ...byte) *seal.Ring {
	t.Helper()
	var raw [][]byte
	for _, k := range keys {
		raw = append(raw, []byte(strings.Repeat(string(rune(k)), 32)))
	}
	r, err := seal.NewRing(raw...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newDesk(t *testing.T, change func(*Options), keys ...byte) *desk {
	t.Helper()
	d := &desk{t: t, st: &flaky{Store: memstore.New()}}
	return d.open(change, keys...)
}

// open makes another handler on the same store.
func (d *desk) open(change func(*Options), keys ...byte) *desk {
	d.t.Helper()
	n := &desk{t: d.t, st: d.st}
	cache := session.NewCache(1 << 20)
	events := func(e event.Event) {
		if a, ok := e.(*event.Audit); ok {
			n.mu.Lock()
			n.audit = append(n.audit, *a)
			n.mu.Unlock()
		}
	}
	feed := session.NewFeed(d.st, cache, 0, events)
	if len(keys) == 0 {
		keys = []byte{1}
	}
	r := ring(d.t, keys...)
	for _, url := range []string{"https://a.example", "https://b.example"} {
		m, err := session.NewManager(session.Options{
			Frontend: url, Store: d.st, Ring: r, Cache: cache, Feed: feed, Events: events,
			Providers: map[string]session.ProviderPolicy{"main": {Provider: provider{}, ClientID: "app"}},
			Idle:      time.Hour, RememberIdle: time.Hour, Lifetime: 24 * time.Hour,
		})
		if err != nil {
			d.t.Fatal(err)
		}
		d.t.Cleanup(func() { _ = m.Close(context.Background()) })
		n.managers = append(n.managers, m)
	}
	o := Options{
		Store: d.st, Feed: feed, Keys: func() error { return n.lacking }, Ring: r, Token: config.NewSecret(token), Events: events,
		Providers: map[string]func() error{"a.example main": func() error { return nil }},
		Sessions:  &session.Operator{Store: d.st, Managers: n.managers}, Replicas: session.NewAnnouncer(feed, r),
	}
	if err := o.Replicas.Beat(context.Background()); err != nil {
		d.t.Fatal(err)
	}
	if change != nil {
		change(&o)
	}
	n.handler = New(o)
	return n
}

// login makes a session of somebody at a frontend and returns its handle.
func (d *desk) login(frontend int, subject string) string {
	d.t.Helper()
	now := time.Now()
	_, l, err := d.managers[frontend].Create(context.Background(), session.Login{
		Provider: "main", Method: "password", Device: "Firefox on Linux", Address: "192.0.2.1", Exchange: oidc.Exchange{
			Tokens: oidc.TokenSet{Access: "access-canary", Refresh: "refresh-canary", ID: "id-canary", Obtained: now, Expires: now.Add(time.Hour)},
			Claims: oidc.Claims{Issuer: "https://op.example", Subject: subject, SID: "sid-" + subject, IssuedAt: now, User: map[string]json.RawMessage{"name": json.RawMessage(`"Mx ` + subject + `"`)}},
		},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return l.Session().Handle
}

// ask sends a request with the token. headers are pairs; an empty value takes one out.
func (d *desk) ask(method, target string, headers ...string) (int, http.Header, map[string]any) {
	d.t.Helper()
	req := httptest.NewRequest(method, target, nil)
	req.Host = "127.0.0.1:9080"
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(headers); i += 2 {
		switch {
		case headers[i] == "Host":
			req.Host = headers[i+1]
		case headers[i+1] == "":
			req.Header.Del(headers[i])
		default:
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	rec := httptest.NewRecorder()
	d.handler.ServeHTTP(rec, req)
	body := rec.Body.String()
	for _, secret := range []string{token, "access-canary", "refresh-canary", "id-canary"} {
		if strings.Contains(body, secret) {
			d.t.Errorf("%s %s: the answer holds %s", method, target, secret)
		}
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		d.t.Fatalf("%s %s: %d, not JSON: %.200s", method, target, rec.Code, body)
	}
	return rec.Code, rec.Header(), v
}

func TestWhoMayAsk(t *testing.T) {
	d := newDesk(t, func(o *Options) { o.Hosts = []string{"Admin.example"} })
	for _, tc := range []struct {
		name    string
		headers []string
		status  int
		code    string
	}{
		{"the operator", nil, 200, ""},
		{"any spelling of the scheme", []string{"Authorization", "bearer " + token}, 200, ""},
		{"no token", []string{"Authorization", ""}, 401, "token_required"},
		{"a wrong one", []string{"Authorization", "Bearer wrong"}, 401, "token_required"},
		{"part of it", []string{"Authorization", "Bearer " + token[:10]}, 401, "token_required"},
		{"an empty one", []string{"Authorization", "Bearer "}, 401, "token_required"},
		{"another scheme", []string{"Authorization", "Basic " + token}, 401, "token_required"},
		{"localhost", []string{"Host", "localhost:9080"}, 200, ""},
		{"IPv6", []string{"Host", "[::1]:9080"}, 200, ""},
		{"an address alone", []string{"Host", "10.0.0.7"}, 200, ""},
		{"a host that is named", []string{"Host", "admin.EXAMPLE.:9080"}, 200, ""},
		{"rebinding", []string{"Host", "evil.example:9080"}, 421, "wrong_host"},
		{"rebinding to a name like an address", []string{"Host", "127.0.0.1.evil.example"}, 421, "wrong_host"},
		{"no host", []string{"Host", ""}, 421, "wrong_host"},
		{"another site's page", []string{"Sec-Fetch-Site", "cross-site"}, 403, "cross_origin"},
		{"a sibling's page", []string{"Sec-Fetch-Site", "same-site"}, 403, "cross_origin"},
		{"an old browser", []string{"Origin", "https://evil.example"}, 403, "cross_origin"},
		{"a sandboxed frame", []string{"Origin", "null"}, 403, "cross_origin"},
		{"another port of this host", []string{"Origin", "http://127.0.0.1:8080"}, 403, "cross_origin"},
		{"the console to come", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://127.0.0.1:9080"}, 200, ""},
	} {
		status, header, body := d.ask("GET", "/api/sessions", tc.headers...)
		code, _ := body["code"].(string)
		if status != tc.status || code != tc.code {
			t.Errorf("%s: %d %q, want %d %q", tc.name, status, code, tc.status, tc.code)
		}
		if want := status == 401; want != strings.HasPrefix(header.Get("WWW-Authenticate"), "Bearer realm=") {
			t.Errorf("%s: WWW-Authenticate %q", tc.name, header.Get("WWW-Authenticate"))
		}
		if header.Get("Cache-Control") != "no-store" || header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", tc.name, header)
		}
	}
	if len(d.audit) == 0 || d.audit[0].Kind != event.AdminRefused {
		t.Errorf("%+v", d.audit)
	}
}

func TestWithoutATokenTheAPIIsClosed(t *testing.T) {
	d := newDesk(t, func(o *Options) { o.Token = config.Secret{} })
	for _, headers := range [][]string{nil, {"Authorization", ""}, {"Authorization", "Bearer "}} {
		if status, _, body := d.ask("GET", "/api/sessions", headers...); status != 403 || body["code"] != "api_closed" {
			t.Errorf("%v: %d %v", headers, status, body)
		}
	}
	if status, _, _ := d.ask("GET", "/healthz"); status != 200 {
		t.Errorf("health: %d", status)
	}
}

func TestAddresses(t *testing.T) {
	d := newDesk(t, nil)
	for _, tc := range []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{"POST", "/api/sessions", 405, "method_not_allowed", "DELETE, GET"},
		{"PUT", "/api/sessions/x", 405, "method_not_allowed", "DELETE, GET"},
		{"GET", "/api/keys/rewrap", 405, "method_not_allowed", "POST"},
		{"GET", "/api/", 404, "not_found", ""},
		{"GET", "/api/none", 404, "not_found", ""},
		{"DELETE", "/api/sessions/", 404, "not_found", ""},
		{"DELETE", "/api/sessions/x/y?all=true", 404, "not_found", ""},
	} {
		status, header, body := d.ask(tc.method, tc.path)
		if status != tc.status || body["code"] != tc.code || header.Get("Allow") != tc.allow || header.Get("Content-Type") != "application/problem+json" || body["request_id"] == "" {
			t.Errorf("%s %s: %d %v %v", tc.method, tc.path, status, body, header)
		}
	}
}

func TestListAndShow(t *testing.T) {
	d := newDesk(t, nil)
	alice := d.login(0, "alice")
	for range 4 {
		d.login(1, "bob")
	}
	seen := map[string]bool{}
	next := ""
	for range 10 {
		_, _, body := d.ask("GET", "/api/sessions?limit=2"+next)
		for _, s := range body["sessions"].([]any) {
			seen[s.(map[string]any)["id"].(string)] = true
			if _, has := s.(map[string]any)["user"]; has {
				t.Error("a list holds claims")
			}
		}
		after, more := body["next"].(string)
		if !more {
			break
		}
		next = "&after=" + url.QueryEscape(after)
	}
	if len(seen) != 5 || !seen[alice] {
		t.Errorf("%d sessions", len(seen))
	}
	_, _, body := d.ask("GET", "/api/sessions?provider=main&subject=alice&frontend=https://a.example")
	list := body["sessions"].([]any)
	if len(list) != 1 || body["next"] != nil {
		t.Fatalf("%v", body)
	}
	status, _, one := d.ask("GET", "/api/sessions/"+alice)
	for name, want := range map[string]string{
		"id": alice, "frontend": "https://a.example", "provider": "main", "issuer": "https://op.example", "subject": "alice", "sid": "sid-alice",
		"name": "Mx alice", "method": "password", "device": "Firefox on Linux", "address": "192.0.2.1",
	} {
		if one[name] != want || list[0].(map[string]any)[name] != want {
			t.Errorf("%s: %v and %v, want %s", name, one[name], list[0].(map[string]any)[name], want)
		}
	}
	for _, name := range []string{"created_at", "auth_time", "last_active", "expires_at"} {
		if _, err := time.Parse(time.RFC3339, one[name].(string)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if status != 200 || one["user"].(map[string]any)["name"] != "Mx alice" {
		t.Errorf("%d %v", status, one)
	}
	if status, _, body := d.ask("GET", "/api/sessions?idle_since="+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)); status != 200 || len(body["sessions"].([]any)) != 0 {
		t.Errorf("%d %v", status, body)
	}
	if status, _, body := d.ask("GET", "/api/sessions/none"); status != 404 || body["code"] != "not_found" {
		t.Errorf("%d %v", status, body)
	}
}

// A parameter that cannot be understood is never ignored: it was meant to narrow something.
func TestBadQueries(t *testing.T) {
	d := newDesk(t, nil)
	d.login(0, "alice")
	for _, query := range []string{
		"subject=alice", "sid=x", "provider=none&subject=x", "frontend=https://none.example&idle_since=2026-01-01T00:00:00Z", "provider=main&subject=", "provider=&subject=alice",
		"provider=main&subject=alice&subject=bob", "provider=main&subjekt=alice", "created_before=yesterday", "idle_since=30d", "%zz",
		"all=false", "all=true&all=true", "all=1",
	} {
		for _, method := range []string{"GET", "DELETE"} {
			if status, _, body := d.ask(method, "/api/sessions?"+query); status != 400 || body["code"] != "invalid_request" {
				t.Errorf("%s %s: %d %v", method, query, status, body)
			}
		}
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "after=x", "all=true"} {
		if status, _, body := d.ask("GET", "/api/sessions?"+query); status != 400 || body["code"] != "invalid_request" {
			t.Errorf("GET %s: %d %v", query, status, body)
		}
	}
	for _, query := range []string{"limit=1", "after=x"} {
		if status, _, body := d.ask("DELETE", "/api/sessions?all=true&"+query); status != 400 || body["code"] != "invalid_request" {
			t.Errorf("DELETE %s: %d %v", query, status, body)
		}
	}
	if _, _, body := d.ask("GET", "/api/sessions"); len(body["sessions"].([]any)) != 1 {
		t.Error("something was ended")
	}
}

func TestEnd(t *testing.T) {
	d := newDesk(t, nil)
	left := func() int {
		_, _, body := d.ask("GET", "/api/sessions?limit=1000")
		return len(body["sessions"].([]any))
	}
	fill := func() (alice string) {
		alice = d.login(0, "alice")
		for range 2 {
			d.login(1, "alice")
			d.login(1, "bob")
		}
		return alice
	}
	alice := fill()
	if status, _, body := d.ask("DELETE", "/api/sessions/"+alice+"?all=true"); status != 400 || left() != 5 {
		t.Errorf("%d %v", status, body)
	}
	if status, _, body := d.ask("DELETE", "/api/sessions/"+alice); status != 200 || body["ended"] != 1.0 || left() != 4 {
		t.Errorf("%d %v", status, body)
	}
	if status, _, _ := d.ask("DELETE", "/api/sessions/"+alice); status != 404 {
		t.Errorf("again: %d", status)
	}
	for _, query := range []string{"", "?frontend=https://b.example", "?provider=main", "?all=true&provider=main&subject=alice", "?all=true&idle_since=2026-01-01T00:00:00Z"} {
		if status, _, body := d.ask("DELETE", "/api/sessions"+query); status != 400 || body["code"] != "choice_required" || left() != 4 {
			t.Errorf("%q: %d %v, %d left", query, status, body, left())
		}
	}
	for _, tc := range []struct {
		query       string
		ended, left int
	}{
		{"provider=main&subject=alice", 3, 2},
		{"provider=main&sid=sid-bob&frontend=https://b.example", 2, 3},
		{"created_before=2099-01-01T00:00:00Z&frontend=https://a.example", 1, 4},
		{"idle_since=2001-01-01T00:00:00Z", 0, 5},
		{"all=true&frontend=https://b.example", 4, 1},
		{"all=true", 5, 0},
	} {
		d.ask("DELETE", "/api/sessions?all=true")
		fill()
		if status, _, body := d.ask("DELETE", "/api/sessions?"+tc.query); status != 200 || body["ended"] != float64(tc.ended) || left() != tc.left {
			t.Errorf("%s: %d %v, %d left", tc.query, status, body, left())
		}
	}
}

func TestStoreDown(t *testing.T) {
	d := newDesk(t, nil)
	d.st.set(errors.New("the store is down"))
	for _, path := range []string{"/api/sessions", "/api/keys"} {
		if status, header, body := d.ask("GET", path); status != 503 || body["code"] != "store_unavailable" || header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %v", path, status, body)
		}
	}
	if status, _, body := d.ask("DELETE", "/api/sessions?all=true"); status != 503 || body["code"] != "store_unavailable" {
		t.Errorf("%d %v", status, body)
	}
}

func TestReady(t *testing.T) {
	down := errors.New("it is down")
	var provider error
	var out map[string]string
	d := newDesk(t, func(o *Options) {
		o.Providers["a.example main"] = func() error { return provider }
		o.Upstreams = func() map[string]string { return out }
	})
	is := func(name string, status int, word string) {
		t.Helper()
		for _, headers := range [][]string{{"Authorization", ""}, {"Host", "10.1.2.3:9080"}, {"Host", "probe.example"}} {
			if got, _, body := d.ask("GET", "/readyz", headers...); got != status || body["status"] != word {
				t.Errorf("%s: %d %v, want %d %s", name, got, body, status, word)
			}
		}
	}
	is("all well", 200, "ok")
	provider = down
	is("a provider down", 200, "degraded")
	provider, d.lacking = nil, down
	is("a key lacking", 200, "degraded")
	d.lacking = nil
	out = map[string]string{"http://10.0.0.1:3000": "failures: refused"}
	is("an address of an upstream left out", 200, "degraded")
	if _, _, body := d.ask("GET", "/readyz"); fmt.Sprint(body["upstreams"]) != "map[http://10.0.0.1:3000:failures: refused]" {
		t.Errorf("%v", body)
	}
	out = nil
	d.st.set(down)
	is("the store down", 503, "unavailable")
	d.st.set(nil)
	is("again", 200, "ok")
}

// watched is a store with a change feed that never stands.
type watched struct{ store.Store }

func (watched) Watch(ctx context.Context, _ store.Feed) error { <-ctx.Done(); return ctx.Err() }

type plainStore struct{ store.Store }

func TestReadySaysHowTheFeedStands(t *testing.T) {
	for want, st := range map[string]store.Store{"ok": memstore.New(), "broken": watched{memstore.New()}, "none": plainStore{memstore.New()}} {
		d := newDesk(t, func(o *Options) { o.Feed = session.NewFeed(st, session.NewCache(1<<20), 0, nil) })
		status, _, body := d.ask("GET", "/readyz")
		word := "ok"
		if want == "broken" {
			word = "degraded"
		}
		if status != 200 || body["feed"] != want || body["status"] != word {
			t.Errorf("%s: %d %v", want, status, body)
		}
	}
}

func TestKeys(t *testing.T) {
	old := newDesk(t, nil, 1)
	for range 3 {
		old.login(0, "alice")
	}
	d := old.open(nil, 2, 1)
	d.login(1, "bob")
	use := func(d *desk) string {
		_, _, body := d.ask("GET", "/api/keys")
		var lines []string
		for _, k := range body["keys"].([]any) {
			m := k.(map[string]any)
			lines = append(lines, fmt.Sprintf("known=%v seals=%v records=%v sealers=%v", m["known"], m["seals"], m["records"], m["sealers"]))
		}
		lines = append(lines, fmt.Sprintf("%d replicas", len(body["replicas"].([]any))))
		return strings.Join(lines, "; ")
	}
	if got, want := use(d), "known=true seals=true records=1 sealers=1; known=true seals=false records=3 sealers=1; 2 replicas"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := use(old), "known=true seals=true records=3 sealers=1; known=false seals=false records=1 sealers=1; 2 replicas"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if status, _, body := d.ask("POST", "/api/keys/rewrap"); status != 409 || body["code"] != "replicas_disagree" {
		t.Errorf("%d %v", status, body)
	}
	page, err := d.st.Find(t.Context(), store.Query{Subject: "replicas"})
	if err != nil || len(page.Records) != 2 {
		t.Fatal(len(page.Records), err)
	}
	for _, rec := range page.Records { // as if both were gone for long
		if err := d.st.Delete(t.Context(), rec.ID); err != nil {
			t.Fatal(err)
		}
	}
	if status, _, body := d.ask("POST", "/api/keys/rewrap"); status != 200 || body["rewrapped"] != 3.0 {
		t.Errorf("%d %v", status, body)
	}
	if got, want := use(d), "known=true seals=true records=4 sealers=0; known=true seals=false records=0 sealers=0; 0 replicas"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
