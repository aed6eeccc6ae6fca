package gate

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// sessions is a scripted session.Manager.
type sessions struct {
	lookup, fresh error
	touched       int
}

func (s *sessions) Lookup(context.Context, session.Ticket) (*session.Live, error) {
	return nil, s.lookup
}

func (s *sessions) Access(_ context.Context, _ *session.Live, need session.Need) (oidc.AccessToken, error) {
	return oidc.AccessToken{Target: need.Target, Value: "token"}, s.fresh
}

func (s *sessions) Renew(context.Context, *session.Live, session.Need, uint64) (oidc.AccessToken, bool, error) {
	return oidc.AccessToken{}, false, nil
}
func (s *sessions) Rejected(*session.Live, session.Need, uint64) {}
func (s *sessions) Touch(*session.Live)                          { s.touched++ }

func newGate(t testing.TB, s *sessions) (*Gate, *[]event.Event) {
	t.Helper()
	cookies, err := web.NewCookies("https://app.example", config.Session{})
	if err != nil {
		t.Fatal(err)
	}
	var events []event.Event
	return New(Options{
		Origin: "https://app.example", Allowed: []string{"https://admin.app.example"}, Cookies: cookies, Sessions: s,
		Events: func(e event.Event) { events = append(events, e) },
	}), &events
}

// TestGuard is section 7 of DESIGN.md as a table: who may send a request that carries one of our cookies.
func TestGuard(t *testing.T) {
	g, _ := newGate(t, &sessions{lookup: session.ErrEnded})
	nav := map[string]string{"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
	with := func(more ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i+1 < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	navFrom := func(site string) map[string]string {
		m := with("Sec-Fetch-Site", site)
		maps.Copy(m, nav)
		return m
	}
	for _, tc := range []struct {
		name, method string
		header       map[string]string
		pages        bool
		want         bool
	}{
		{"own fetch", "GET", with("Sec-Fetch-Site", "same-origin"), false, true},
		{"own post", "POST", with("Sec-Fetch-Site", "same-origin"), false, true},
		{"typed address", "GET", with("Sec-Fetch-Site", "none"), false, true},
		{"typed post", "POST", with("Sec-Fetch-Site", "none"), false, false},
		{"cross-site fetch", "GET", with("Sec-Fetch-Site", "cross-site"), true, false},
		{"cross-site link to a page", "GET", navFrom("cross-site"), true, true},
		{"cross-site link to an API", "GET", navFrom("cross-site"), false, false},
		{"cross-site form post to a page", "POST", navFrom("cross-site"), true, false},
		{"sibling fetch", "GET", with("Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"), true, false},
		{"sibling image", "GET", with("Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"), true, false},
		{"cross-site frame of a page", "GET", with("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"), true, false},
		{"allowed sibling", "POST", with("Sec-Fetch-Site", "same-site", "Origin", "https://admin.app.example"), false, true},
		{"sibling that is not allowed", "POST", with("Sec-Fetch-Site", "same-site", "Origin", "https://evil.app.example"), false, false},
		{"unknown site value", "GET", with("Sec-Fetch-Site", "same-origin-ish"), false, false},
		{"no metadata, own origin", "POST", with("Origin", "https://app.example"), false, true},
		{"no metadata, other scheme", "POST", with("Origin", "http://app.example"), false, false},
		{"no metadata, suffix", "POST", with("Origin", "https://app.example.evil.example"), false, false},
		{"no metadata, null", "POST", with("Origin", "null"), false, false},
		{"no metadata, custom header", "POST", with("X-Cloakroom", "1"), false, true},
		{"no metadata, custom header with foreign origin", "POST", with("X-Cloakroom", "1", "Origin", "https://evil.example"), false, false},
		{"no metadata at all", "GET", with(), false, false},
		{"no metadata, accepts pages", "GET", with("Accept", "text/html"), true, true},
		{"no metadata, accepts pages, API", "GET", with("Accept", "text/html"), false, false},
		{"custom header does not outweigh metadata", "POST", with("X-Cloakroom", "1", "Sec-Fetch-Site", "cross-site"), false, false},
		{"WebSocket, own origin", "GET", with("Upgrade", "websocket", "Origin", "https://app.example"), false, true},
		{"WebSocket, foreign origin", "GET", with("Upgrade", "websocket", "Origin", "https://evil.example"), true, false},
		{"WebSocket, no origin", "GET", with("Upgrade", "WebSocket", "Sec-Fetch-Site", "same-origin"), true, false},
	} {
		r := httptest.NewRequest(tc.method, "https://app.example/x", nil)
		for k, v := range tc.header {
			r.Header.Set(k, v)
		}
		r.Header.Set("Cookie", "__Host-Http-cloakroom="+strings.Repeat("A", 43))
		_, refusal := g.Decide(t.Context(), g.Facts(r), Requirement{Session: Optional, Pages: tc.pages})
		passed := refusal == nil
		if passed != tc.want || !passed && (refusal.Problem == nil || refusal.Problem.Code != web.CodeCrossOrigin || refusal.Problem.Status != 403) {
			t.Errorf("%s: passed %v, want %v (%+v)", tc.name, passed, tc.want, refusal)
		}
	}
}

func TestGuardDoubledHeaders(t *testing.T) {
	g, _ := newGate(t, &sessions{})
	r := httptest.NewRequest("POST", "/x", nil)
	r.Header["Sec-Fetch-Site"] = []string{"same-origin", "cross-site"}
	r.Header.Set("Cookie", "__Host-Http-cloakroom=x")
	if _, refusal := g.Decide(t.Context(), g.Facts(r), Requirement{}); refusal == nil || refusal.Problem.Code != web.CodeCrossOrigin {
		t.Errorf("%+v", refusal)
	}
}

func TestRequestsWithoutOurCookies(t *testing.T) {
	g, _ := newGate(t, &sessions{})
	r := httptest.NewRequest("POST", "/hook", nil) // a webhook: no browser, no cookie
	for _, need := range []Need{None, Optional} {
		if _, refusal := g.Decide(t.Context(), g.Facts(r), Requirement{Session: need}); refusal != nil {
			t.Errorf("need %d: %+v", need, refusal.Problem)
		}
	}
	_, refusal := g.Decide(t.Context(), g.Facts(r), Requirement{})
	if refusal == nil || refusal.Problem.Code != web.CodeSessionRequired || refusal.Login != "" || refusal.Problem.LoginURL != "/auth/login" {
		t.Errorf("%+v", refusal)
	}
	if _, refusal := g.Decide(t.Context(), g.Facts(r), Requirement{Session: None, Action: true}); refusal == nil || refusal.Problem.Code != web.CodeCrossOrigin {
		t.Errorf("an action: %+v", refusal)
	}
}

// A store or provider that does not answer is never "logged out", and never "nobody".
func TestUnavailableIsNotLoggedOut(t *testing.T) {
	down := &session.Unavailable{Err: errors.New("no answer")}
	g, _ := newGate(t, &sessions{lookup: down})
	r := httptest.NewRequest("GET", "/x", nil)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Cookie", "__Host-Http-cloakroom="+strings.Repeat("A", 43))
	for _, need := range []Need{Required, Optional} {
		_, refusal := g.Decide(t.Context(), g.Facts(r), Requirement{Session: need})
		if refusal == nil || refusal.Problem.Status != 503 || refusal.Problem.RetryAfter == 0 || refusal.Clear {
			t.Errorf("need %d: %+v", need, refusal)
		}
	}
}

func TestTwoTicketsOpenNothing(t *testing.T) {
	g, events := newGate(t, &sessions{})
	r := httptest.NewRequest("GET", "/x", nil)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	v := strings.Repeat("A", 43)
	r.Header.Set("Cookie", "__Host-Http-cloakroom="+v+"; __Host-Http-cloakroom="+v)
	_, refusal := g.Decide(t.Context(), g.Facts(r), Requirement{})
	if refusal == nil || !refusal.Clear || refusal.Problem.Status != 401 {
		t.Errorf("%+v", refusal)
	}
	pass, refusal := g.Decide(t.Context(), g.Facts(r), Requirement{Session: Optional})
	if refusal != nil || pass.Live != nil || !pass.Clear {
		t.Errorf("%+v %+v", pass, refusal)
	}
	if len(*events) == 0 || (*events)[0].(*event.Audit).Kind != event.DuplicateCookie {
		t.Errorf("%v", *events)
	}
}

func TestNavigationsGoToTheLogin(t *testing.T) {
	g, _ := newGate(t, &sessions{lookup: session.ErrEnded})
	r := httptest.NewRequest("GET", "/a/b?c=d&e=%2F", nil)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	_, refusal := g.Decide(t.Context(), g.Facts(r), Requirement{Pages: true})
	if refusal == nil || refusal.Login != "/auth/login?return_to=%2Fa%2Fb%3Fc%3Dd%26e%3D%252F" {
		t.Errorf("%+v", refusal)
	}
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if _, refusal = g.Decide(t.Context(), g.Facts(r), Requirement{Pages: true}); refusal == nil || !refusal.Reload {
		t.Errorf("from elsewhere: %+v", refusal)
	}
	r.Header.Set("Cookie", "__Host-Http-cloakroom="+strings.Repeat("A", 43))
	if _, refusal = g.Decide(t.Context(), g.Facts(r), Requirement{Pages: true}); refusal == nil || refusal.Reload || !refusal.Clear {
		t.Errorf("from elsewhere with a ticket: %+v", refusal)
	}
}

func TestRefuse(t *testing.T) {
	g, _ := newGate(t, &sessions{})
	r := httptest.NewRequest("GET", "/x", nil)
	w := httptest.NewRecorder()
	g.Refuse(w, r, &Refusal{Problem: web.NewProblem(web.CodeSessionEnded, "Log in again."), Clear: true})
	res := w.Result()
	if res.StatusCode != 401 || res.Header.Get("Content-Type") != "application/problem+json" || len(res.Cookies()) != 1 || res.Cookies()[0].MaxAge >= 0 {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

func TestCORS(t *testing.T) {
	g, _ := newGate(t, &sessions{})
	for _, tc := range []struct {
		origin, method string
		answered       bool
		allow          string
	}{
		{"https://admin.app.example", http.MethodOptions, true, "https://admin.app.example"},
		{"https://admin.app.example", http.MethodGet, false, "https://admin.app.example"},
		{"https://evil.example", http.MethodOptions, false, ""},
		{"https://app.example", http.MethodOptions, false, ""},
		{"", http.MethodOptions, false, ""},
	} {
		r := httptest.NewRequest(tc.method, "/x", nil)
		if tc.origin != "" {
			r.Header.Set("Origin", tc.origin)
		}
		r.Header.Set("Access-Control-Request-Method", "POST")
		w := httptest.NewRecorder()
		if got := g.CORS(w, r); got != tc.answered || w.Header().Get("Access-Control-Allow-Origin") != tc.allow {
			t.Errorf("%s %s: answered %v, allow %q", tc.method, tc.origin, got, w.Header().Get("Access-Control-Allow-Origin"))
		}
	}
}
