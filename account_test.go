package cloakroom_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/memstore"
)

const (
	firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
	iphone  = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)

// as logs a person in by the form, from a device.
func (r *rig) as(sub, userAgent string) *browser {
	r.t.Helper()
	b := r.browser()
	r.op.with(func() { r.op.sub = sub })
	req := b.request("POST", "/auth/login", strings.NewReader(credentials("alice", password)),
		append([]string{"Content-Type", "application/json", "User-Agent", userAgent}, fetched...)...)
	if a := b.do(req); a.StatusCode != 200 {
		r.t.Fatalf("login: %d %s", a.StatusCode, a.body)
	}
	return b
}

// listed is what GET /auth/sessions answers.
func (b *browser) listed(query string) (list []map[string]any, next string) {
	b.t.Helper()
	a := b.fetch("GET", "/auth/sessions"+query)
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "application/json" || a.Header.Get("Cache-Control") != "no-store" {
		b.t.Fatalf("%d %v %s", a.StatusCode, a.Header, a.body)
	}
	m := a.json(b.t)
	for _, s := range m["sessions"].([]any) {
		list = append(list, s.(map[string]any))
	}
	next, _ = m["next"].(string)
	return list, next
}

// id is the handle of the browser's session.
func (b *browser) id() string {
	b.t.Helper()
	return b.fetch("GET", "/auth/session").json(b.t)["session"].(map[string]any)["id"].(string)
}

func TestOwnSessions(t *testing.T) {
	r := newRig(t, nil)
	laptop, phone, bob := r.as("alice", firefox), r.as("alice", iphone), r.as("bob", firefox)
	list, next := laptop.listed("")
	if len(list) != 2 || next != "" {
		t.Fatalf("%v", list)
	}
	one, two := list[0], list[1]
	for key, want := range map[string]any{
		"id": laptop.id(), "device": "Firefox on Linux", "address": "127.0.0.1", "provider": "main", "current": true,
	} {
		if one[key] != want {
			t.Errorf("%s: %v, want %v", key, one[key], want)
		}
	}
	if two["id"] != phone.id() || two["current"] != false || two["device"] != "Safari on iPhone" {
		t.Errorf("the other: %v", two)
	}
	for _, key := range []string{"created_at", "last_active_at", "auth_time", "expires_at"} {
		at, err := time.Parse(time.RFC3339, fmt.Sprint(two[key]))
		if err != nil || at.Location() != time.UTC || key == "expires_at" && time.Until(at) > 24*time.Hour {
			t.Errorf("%s: %v", key, two[key])
		}
	}
	if list, _ := bob.listed(""); len(list) != 1 || list[0]["id"] != bob.id() {
		t.Errorf("bob sees %v", list)
	}
	for name, a := range map[string]answer{
		"list": r.browser().fetch("GET", "/auth/sessions"), "end": r.browser().fetch("DELETE", "/auth/sessions"),
		"end one": r.browser().fetch("DELETE", "/auth/sessions/"+bob.id()), "events": r.browser().fetch("GET", "/auth/events"),
	} {
		if a.StatusCode != 401 || a.code(t) != "session_required" {
			t.Errorf("%s without a session: %d %s", name, a.StatusCode, a.body)
		}
	}
}

func TestHostedLoginKnowsItsDevice(t *testing.T) {
	b := newRig(t, nil).browser()
	b.login()
	if list, _ := b.listed(""); list[0]["address"] != "127.0.0.1" || list[0]["device"] == "" {
		t.Errorf("%v", list[0])
	}
}

func TestEndOneSession(t *testing.T) {
	r := newRig(t, nil)
	laptop, phone, bob := r.as("alice", firefox), r.as("alice", iphone), r.as("bob", firefox)
	strip := func(a answer) string {
		m := a.json(t)
		delete(m, "request_id")
		return fmt.Sprint(a.StatusCode, m)
	}
	unknown := strip(laptop.fetch("DELETE", "/auth/sessions/"+strings.Repeat("A", 43)))
	for name, id := range map[string]string{"bob's": bob.id(), "no handle": "x", "a path": "..%2f", "a ticket": laptop.ticket()} {
		if got := strip(laptop.fetch("DELETE", "/auth/sessions/"+id)); name != "a path" && got != unknown {
			t.Errorf("%s: %s, want %s", name, got, unknown)
		}
	}
	if !strings.HasPrefix(unknown, "404 ") || !bob.authenticated() {
		t.Fatal(unknown)
	}
	if a := laptop.fetch("DELETE", "/auth/sessions/"+phone.id()); a.StatusCode != 204 || a.body != "" {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	if a := phone.fetch("GET", "/api/x"); a.StatusCode != 401 || a.code(t) != "session_ended" {
		t.Errorf("the ended session: %d %s", a.StatusCode, a.body)
	}
	if list, _ := laptop.listed(""); len(list) != 1 || !laptop.authenticated() {
		t.Errorf("%v", list)
	}
	if a := laptop.fetch("DELETE", "/auth/sessions/"+laptop.id()); a.StatusCode != 204 || laptop.ticket() != "" || laptop.authenticated() {
		t.Errorf("one's own: %d, ticket %v", a.StatusCode, laptop.ticket() != "")
	}
	if !strings.Contains(r.log.String(), `"user_end"`) {
		t.Error("no audit event says who did it")
	}
}

func TestEndOtherSessions(t *testing.T) {
	r := newRig(t, nil)
	b, bob := r.as("alice", firefox), r.as("bob", firefox)
	var others []*browser
	for range 3 {
		others = append(others, r.as("alice", iphone))
	}
	if a := b.fetch("DELETE", "/auth/sessions"); a.StatusCode != 204 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	for _, o := range others {
		if o.authenticated() {
			t.Error("another session lives")
		}
	}
	if !b.authenticated() || !bob.authenticated() {
		t.Error("too much was ended")
	}
	if a := b.fetch("DELETE", "/auth/sessions"); a.StatusCode != 204 {
		t.Errorf("again: %d", a.StatusCode)
	}
}

func TestSessionsPages(t *testing.T) {
	r := newRig(t, nil)
	b := r.as("alice", firefox)
	want := []string{b.id()}
	for range 6 {
		want = append(want, r.as("alice", iphone).id())
	}
	var got []string
	query := "?limit=2"
	for range 10 {
		list, next := b.listed(query)
		if len(list) > 3 {
			t.Errorf("%d on one page", len(list))
		}
		for i, s := range list {
			if s["current"] == true && (i != 0 || query != "?limit=2") {
				t.Error("the current one is not the first")
			}
			got = append(got, s["id"].(string))
		}
		if query = "?limit=2&after=" + next; next == "" {
			break
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	_, next := b.listed("?limit=1")
	for _, query := range []string{"?limit=0", "?limit=-1", "?limit=x", "?after=x", "?after=0~", "?after=" + next[:len(next)-2], "?limit=99999999999999999999"} {
		if a := b.fetch("GET", "/auth/sessions"+query); a.StatusCode != 400 || a.code(t) != "invalid_request" {
			t.Errorf("%s: %d %s", query, a.StatusCode, a.body)
		}
	}
	if a := r.as("bob", firefox).fetch("GET", "/auth/sessions?after="+next); a.StatusCode != 400 {
		t.Errorf("another person's cursor: %d", a.StatusCode)
	}
	if list, _ := b.listed("?limit=1000"); len(list) != 7 {
		t.Errorf("a limit that is too high: %d", len(list))
	}
}

// form posts one of the page's forms as a browser does.
func (b *browser) form(path string, v url.Values, headers ...string) answer {
	b.t.Helper()
	return b.do(b.request("POST", path, strings.NewReader(v.Encode()), append([]string{
		"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document",
	}, headers...)...))
}

func TestSessionsPageWithoutJavaScript(t *testing.T) {
	r := newRig(t, nil)
	b, phone, tablet, bob := r.as("alice", firefox), r.as("alice", iphone), r.as("alice", iphone), r.as("bob", firefox)
	page := b.navigate("/auth/sessions")
	if page.StatusCode != 200 || !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") || !strings.Contains(page.body, "Firefox on Linux") || !strings.Contains(page.body, phone.id()) {
		t.Fatalf("%d %s", page.StatusCode, page.body)
	}
	back := func(a answer) {
		t.Helper()
		if a.StatusCode != 303 || a.Header.Get("Location") != "/auth/sessions" {
			t.Errorf("%d %s %s", a.StatusCode, a.Header.Get("Location"), a.body)
		}
	}
	back(b.form("/auth/sessions", url.Values{"end": {phone.id()}}))
	if phone.authenticated() || !tablet.authenticated() {
		t.Error("not that one was ended")
	}
	back(b.form("/auth/sessions", url.Values{"end": {bob.id()}}))
	back(b.form("/auth/sessions", url.Values{"end": {"nothing"}}))
	back(b.form("/auth/sessions", url.Values{}))
	if !bob.authenticated() || !b.authenticated() {
		t.Error("too much was ended")
	}
	back(b.form("/auth/sessions", url.Values{"end": {"others"}}))
	if tablet.authenticated() || !b.authenticated() {
		t.Error("the others were to be ended")
	}
	if a := phone.navigate("/auth/sessions"); a.StatusCode != 302 || a.Header.Get("Location") != "/auth/login?return_to=%2Fauth%2Fsessions" {
		t.Errorf("without a session: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	if a := r.browser().form("/auth/sessions", url.Values{"end": {"others"}}); a.StatusCode != 302 || a.Header.Get("Location") != "/auth/login?return_to=%2Fauth%2Fsessions" {
		t.Errorf("a form without a session: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	if a := b.do(b.request("GET", "/auth/sessions", nil, linked...)); a.StatusCode != 200 {
		t.Errorf("from a link on another site: %d", a.StatusCode)
	}
}

func TestSessionsAreGuarded(t *testing.T) {
	r := newRig(t, nil)
	b, phone := r.as("alice", firefox), r.as("alice", iphone)
	for name, headers := range map[string][]string{
		"another site": {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Origin", "https://evil.example"},
		"a sibling":    {"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors", "Origin", "http://evil.localhost"},
		"nothing said": {"Sec-Fetch-Site", "", "Sec-Fetch-Mode", "", "Sec-Fetch-Dest", ""},
	} {
		for _, try := range []answer{
			b.form("/auth/sessions", url.Values{"end": {"others"}}, headers...),
			b.fetch("DELETE", "/auth/sessions", headers...),
			b.fetch("DELETE", "/auth/sessions/"+phone.id(), headers...),
			b.form("/auth/logout", url.Values{"everywhere": {"true"}}, headers...),
		} {
			if try.StatusCode != 403 || !strings.Contains(try.body, "cross_origin") {
				t.Errorf("%s: %s %s: %d", name, try.Request.Method, try.Request.URL.Path, try.StatusCode)
			}
		}
	}
	if a := b.fetch("GET", "/auth/events", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"); a.StatusCode != 403 {
		t.Errorf("events of another site: %d", a.StatusCode)
	}
	if !phone.authenticated() || !b.authenticated() {
		t.Error("something was ended")
	}
	if a := b.fetch("PUT", "/auth/sessions"); a.StatusCode != 405 || a.Header.Get("Allow") != "GET, POST, DELETE" {
		t.Errorf("%d %q", a.StatusCode, a.Header.Get("Allow"))
	}
	if a := b.fetch("GET", "/auth/sessions/"+phone.id()); a.StatusCode != 405 || a.Header.Get("Allow") != "DELETE" {
		t.Errorf("%d %q", a.StatusCode, a.Header.Get("Allow"))
	}
}

func TestLogoutEverywhere(t *testing.T) {
	for name, logout := range map[string]func(*browser) answer{
		"by fetch": func(b *browser) answer { return b.post("/auth/logout", `{"everywhere":true}`) },
		"by form": func(b *browser) answer {
			if page := b.navigate("/auth/logout"); !strings.Contains(page.body, `name="everywhere"`) {
				b.t.Error("the page does not offer it")
			}
			return b.form("/auth/logout", url.Values{"everywhere": {"true"}, "return_to": {"/"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			b, phone, bob := r.as("alice", firefox), r.as("alice", iphone), r.as("bob", firefox)
			if a := logout(b); a.StatusCode != 200 && a.StatusCode != 303 {
				t.Fatalf("%d %s", a.StatusCode, a.body)
			}
			if b.authenticated() || b.ticket() != "" || phone.authenticated() || !bob.authenticated() {
				t.Error("not exactly alice's sessions are over")
			}
			if a := b.post("/auth/logout", `{"everywhere":true}`); a.StatusCode != 200 {
				t.Errorf("again: %d %s", a.StatusCode, a.body)
			}
			r.op.with(func() {
				if len(r.op.revoked) == 0 {
					t.Error("nothing was revoked")
				}
			})
		})
	}
}

func TestLogoutHereLeavesTheOthers(t *testing.T) {
	r := newRig(t, nil)
	b, phone := r.as("alice", firefox), r.as("alice", iphone)
	if a := b.post("/auth/logout", `{"everywhere":false}`); a.StatusCode != 200 || b.authenticated() || !phone.authenticated() {
		t.Errorf("%d, here %v, there %v", a.StatusCode, b.authenticated(), phone.authenticated())
	}
}

// sick is a store that stops answering.
type sick struct {
	*memstore.Store
	ill atomic.Bool
}

var errIll = errors.New("the store does not answer")

func (s *sick) Delete(ctx context.Context, ids ...store.ID) error {
	if s.ill.Load() {
		return errIll
	}
	return s.Store.Delete(ctx, ids...)
}

func (s *sick) Find(ctx context.Context, q store.Query) (store.Page, error) {
	if s.ill.Load() {
		return store.Page{}, errIll
	}
	return s.Store.Find(ctx, q)
}

func TestEndsWithASickStore(t *testing.T) {
	st := &sick{Store: memstore.New()}
	r := newRigWith(t, newOP(t), st, func(*config.Config) {})
	b, phone := r.as("alice", firefox), r.as("alice", iphone)
	id := phone.id()
	st.ill.Store(true)
	for _, a := range []answer{
		b.fetch("GET", "/auth/sessions"), b.fetch("DELETE", "/auth/sessions"), b.fetch("DELETE", "/auth/sessions/"+id),
		b.post("/auth/logout", `{"everywhere":true}`), b.form("/auth/sessions", url.Values{"end": {id}}),
	} {
		if a.StatusCode != http.StatusServiceUnavailable || a.code(t) != "store_unavailable" || a.Header.Get("Retry-After") == "" {
			t.Errorf("%s %s: %d %s", a.Request.Method, a.Request.URL.Path, a.StatusCode, a.body)
		}
	}
	st.ill.Store(false)
	if !b.authenticated() || !phone.authenticated() {
		t.Error("somebody was logged out by a store that was down")
	}
	if a := b.post("/auth/logout", `{"everywhere":true}`); a.StatusCode != 200 || phone.authenticated() {
		t.Errorf("once it is well: %d", a.StatusCode)
	}
}
