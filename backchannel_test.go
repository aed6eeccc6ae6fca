package cloakroom_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom"
	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/memstore"
)

type claims = map[string]any

// logoutToken is a good logout token of this provider with some header and claims changed; nil takes one out.
func (p *op) logoutToken(header, change claims) string {
	h := claims{"alg": "RS256", "kid": "k1", "typ": "logout+jwt"}
	now := time.Now().Unix()
	c := claims{
		"iss": p.URL, "aud": clientID, "iat": now, "exp": now + 120, "jti": fmt.Sprint("jti-", jtis.Add(1)),
		"events": claims{"http://schemas.openid.net/event/backchannel-logout": claims{}},
	}
	for to, from := range map[*claims]claims{&h: header, &c: change} {
		maps.Copy(*to, from)
		maps.DeleteFunc(*to, func(_ string, v any) bool { return v == nil })
	}
	return p.sign(h, c)
}

var jtis atomic.Int64

// notify posts a logout token as a provider does: from elsewhere, without a cookie, an Origin or Fetch metadata.
func (r *rig) notify(token string) answer {
	r.t.Helper()
	return r.postForm(url.Values{"logout_token": {token}}.Encode())
}

func (r *rig) postForm(body string) answer {
	r.t.Helper()
	b := r.browser()
	return b.do(b.request("POST", "/auth/backchannel-logout", strings.NewReader(body), "Content-Type", "application/x-www-form-urlencoded"))
}

// enter logs somebody in as this person, with this session at the provider.
func (r *rig) enter(sub, sid string) *browser {
	r.t.Helper()
	r.op.with(func() { r.op.sub, r.op.sid = sub, sid })
	b := r.browser()
	b.login()
	return b
}

// inside tells which of the browsers the API lets in.
func inside(browsers ...*browser) string {
	var list []bool
	for _, b := range browsers {
		b.t.Helper()
		a := b.fetch("GET", "/api/x")
		if a.StatusCode != 200 && a.StatusCode != 401 {
			b.t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		list = append(list, a.StatusCode == 200)
	}
	return fmt.Sprint(list)
}

// audits are the audit events of a kind.
func (r *rig) audits(kind string) (list []map[string]any) {
	for line := range strings.Lines(r.log.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil && m["audit"] == kind {
			list = append(list, m)
		}
	}
	return list
}

// await waits for this many audit events of a kind.
func (r *rig) await(kind string, n int) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(r.audits(kind)) < n && time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
	}
	if list := r.audits(kind); len(list) != n {
		r.t.Errorf("%d audit events %s, want %d: %v", len(list), kind, n, list)
	}
}

func TestBackChannelLogout(t *testing.T) {
	for _, tc := range []struct {
		name   string
		claims claims
		want   string // alice sid-1, alice sid-2, bob sid-3, alice sid-1 of another issuer
	}{
		{"by sid", claims{"sid": "sid-1"}, "[false true true true]"},
		{"by sub", claims{"sub": "alice"}, "[false false true true]"},
		{"by both", claims{"sub": "alice", "sid": "sid-2"}, "[true false true true]"},
		{"by a sid of somebody else", claims{"sub": "bob", "sid": "sid-1"}, "[true true true true]"},
		{"of nobody here", claims{"sid": "sid-9"}, "[true true true true]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			other := newOP(t)
			r := newRig(t, func(c *config.Config) {
				c.Frontends[0].Providers[0].Name = "one"
				c.Frontends[0].Providers = append(c.Frontends[0].Providers, config.Provider{
					Name: "two", Issuer: other.URL, ClientID: clientID, ClientSecret: config.NewSecret(clientSecret),
				})
			})
			enter := func(provider, sub, sid string) *browser {
				for _, p := range []*op{r.op, other} {
					p.with(func() { p.sub, p.sid = sub, sid })
				}
				b := r.browser()
				if a := b.arrive(b.toProvider("/auth/login/redirect?provider=" + provider)); a.StatusCode != 302 {
					t.Fatalf("%d %s", a.StatusCode, a.body)
				}
				return b
			}
			all := []*browser{enter("one", "alice", "sid-1"), enter("one", "alice", "sid-2"), enter("one", "bob", "sid-3"), enter("two", "alice", "sid-1")}
			token := r.op.logoutToken(nil, tc.claims)
			a := r.notify(token)
			if a.StatusCode != 200 || a.body != "" || a.Header.Get("Cache-Control") != "no-store" || len(a.Cookies()) != 0 {
				t.Errorf("%d %q %v", a.StatusCode, a.body, a.Header)
			}
			if got := inside(all...); got != tc.want {
				t.Errorf("inside %s, want %s", got, tc.want)
			}
			r.await("session_ended", strings.Count(tc.want, "false")) // after the revocation, in the background
			if list := r.audits("provider_logout"); len(list) != 1 {
				t.Errorf("audit: %v", list)
			}
			if strings.Contains(r.log.String(), token) {
				t.Error("the token is in the log")
			}
		})
	}
}

// Other clients of the same issuer get their own notices: nobody else's count.
func TestBackChannelLogoutOfAnotherClient(t *testing.T) {
	r := newRig(t, nil)
	b := r.enter("alice", "sid-1")
	if a := r.notify(r.op.logoutToken(nil, claims{"aud": "another", "sid": "sid-1", "sub": "alice"})); a.StatusCode != 400 {
		t.Errorf("%d", a.StatusCode)
	}
	if got := inside(b); got != "[true]" {
		t.Error("ended")
	}
}

func TestBackChannelLogoutRefuses(t *testing.T) {
	r := newRig(t, nil)
	b := r.enter("alice", "sid-1")
	good := func() string { return r.op.logoutToken(nil, claims{"sid": "sid-1"}) }
	form := func(token string) string { return url.Values{"logout_token": {token}}.Encode() }
	signedBy := func(sign func(string) []byte, header claims) string {
		defer r.op.with(func() { r.op.signer = nil })
		r.op.with(func() { r.op.signer = sign })
		return r.op.logoutToken(header, claims{"sid": "sid-1"})
	}
	var idToken string
	r.op.with(func() { idToken = r.op.secrets[len(r.op.secrets)-1] })
	for _, tc := range []struct{ name, body, rule string }{
		{"nothing", "", "logout_token"},
		{"another parameter", "token=" + good(), "logout_token"},
		{"twice", form(good()) + "&" + form(good()), "logout_token"},
		{"twice the same", strings.Repeat(form("x")+"&", 2), "logout_token"},
		{"a broken form", form(good()) + "&%zz", "logout_token"},
		{"empty", "logout_token=", "missing"},
		{"64 kB", form(strings.Repeat("a", 64<<10)), "too_large"},
		{"no token", form("abc"), "form"},
		{"an ID token", form(idToken), "jti"},
		{"alg none", form(signedBy(func(string) []byte { return nil }, claims{"alg": "none"})), "alg"},
		{"no signature", form(signedBy(func(string) []byte { return make([]byte, 256) }, nil)), "signature"},
		{"another issuer", form(r.op.logoutToken(nil, claims{"sid": "sid-1", "iss": "https://evil.example"})), "iss"},
		{"no sub and no sid", form(r.op.logoutToken(nil, nil)), "sub"},
		{"a nonce", form(r.op.logoutToken(nil, claims{"sid": "sid-1", "nonce": "x"})), "nonce"},
		{"an access token's type", form(r.op.logoutToken(claims{"typ": "at+jwt"}, claims{"sid": "sid-1"})), "typ"},
		{"over", form(r.op.logoutToken(nil, claims{"sid": "sid-1", "exp": time.Now().Add(-2 * time.Minute).Unix()})), "exp"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := len(r.audits("provider_logout_refused"))
			a := r.postForm(tc.body)
			if a.StatusCode != 400 || a.code(t) != "invalid_logout" || a.Header.Get("Cache-Control") != "no-store" ||
				a.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%d %s %v", a.StatusCode, a.body, a.Header)
			}
			list := r.audits("provider_logout_refused")
			if len(list) != before+1 || list[len(list)-1]["reason"] != tc.rule {
				t.Errorf("audit %v", list[min(before, len(list)):])
			}
			if tc.name != "twice the same" && len(tc.body) > 60 && strings.Contains(r.log.String(), tc.body[20:]) {
				t.Error("the token is in the log")
			}
		})
	}
	anon := r.browser()
	for name, req := range map[string]*http.Request{
		"in the query":   anon.request("POST", "/auth/backchannel-logout?"+form(good()), nil, "Content-Type", "application/x-www-form-urlencoded"),
		"as JSON":        anon.request("POST", "/auth/backchannel-logout", strings.NewReader(`{"logout_token":"`+good()+`"}`), "Content-Type", "application/json"),
		"without a type": anon.request("POST", "/auth/backchannel-logout", strings.NewReader(form(good()))),
	} {
		if a := anon.do(req); a.StatusCode != 400 || a.code(t) != "invalid_logout" {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
		if a := anon.do(anon.request(method, "/auth/backchannel-logout?"+form(good()), nil)); a.StatusCode != 405 || a.Header.Get("Allow") != "POST" {
			t.Errorf("%s: %d, Allow %q", method, a.StatusCode, a.Header.Get("Allow"))
		}
	}
	if got := inside(b); got != "[true]" {
		t.Error("a logout that was refused ended the session")
	}
	if a := r.postForm("x=y&" + form(good()) + "&z="); a.StatusCode != 200 || inside(b) != "[false]" {
		t.Errorf("among other parameters: %d %s", a.StatusCode, a.body)
	}
}

// Untyped tokens are taken, and the operator can see that they are.
func TestBackChannelLogoutWithoutType(t *testing.T) {
	for _, typ := range []any{nil, "JWT"} {
		r := newRig(t, nil)
		b := r.enter("alice", "sid-1")
		if a := r.notify(r.op.logoutToken(claims{"typ": typ}, claims{"sid": "sid-1"})); a.StatusCode != 200 || inside(b) != "[false]" {
			t.Errorf("typ %v: %d %s", typ, a.StatusCode, a.body)
		}
		if list := r.audits("provider_logout"); len(list) != 1 || !strings.Contains(fmt.Sprint(list[0]["detail"]), "typ") {
			t.Errorf("%v", list)
		}
	}
}

// A token that comes again is fine and does nothing, also when the provider gives the same sid out again.
func TestBackChannelLogoutRepeated(t *testing.T) {
	r := newRig(t, nil)
	b := r.enter("alice", "sid-1")
	token := r.op.logoutToken(nil, claims{"sid": "sid-1", "iat": time.Now().Add(-2 * time.Second).Unix()})
	if a := r.notify(token); a.StatusCode != 200 || inside(b) != "[false]" {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	r.op.with(func() { r.op.tamper = func(_, c map[string]any) { c["auth_time"] = time.Now().Unix() } })
	again := r.enter("alice", "sid-1")
	r.op.with(func() { r.op.tamper = nil })
	r.restart() // the memory is the store's
	if a := r.notify(token); a.StatusCode != 200 || a.body != "" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if got := inside(b, again); got != "[false true]" {
		t.Errorf("inside %s", got)
	}
}

// brittle is a store, shared as one of many processes is, whose calls fail on demand.
type brittle struct {
	store.Store
	fail func(call string) bool
}

var errBrittle = errors.New("the store is down")

func (b *brittle) broken(call string) error {
	if b.fail != nil && b.fail(call) {
		return errBrittle
	}
	return nil
}

func (b *brittle) Load(ctx context.Context, id store.ID) (store.Record, error) {
	if err := b.broken("load"); err != nil {
		return store.Record{}, err
	}
	return b.Store.Load(ctx, id)
}

func (b *brittle) Save(ctx context.Context, rec store.Record) (uint64, error) {
	if err := b.broken("save"); err != nil {
		return 0, err
	}
	return b.Store.Save(ctx, rec)
}

func (b *brittle) Find(ctx context.Context, q store.Query) (store.Page, error) {
	if err := b.broken("find"); err != nil {
		return store.Page{}, err
	}
	return b.Store.Find(ctx, q)
}

func (b *brittle) Delete(ctx context.Context, ids ...store.ID) error {
	if err := b.broken("delete"); err != nil {
		return err
	}
	return b.Store.Delete(ctx, ids...)
}

// Whatever call to the store fails, the provider hears 503, and the same token works when it comes again.
func TestBackChannelLogoutWhileTheStoreFails(t *testing.T) {
	st := &brittle{Store: memstore.New()}
	var broken atomic.Value
	broken.Store("")
	st.fail = func(call string) bool { return call == broken.Load() }
	r := newRigWith(t, newOP(t), st, nil)
	for i, call := range []string{"load", "save", "find", "delete"} {
		one, two := r.enter("alice", fmt.Sprint("sid-", 2*i)), r.enter("alice", fmt.Sprint("sid-", 2*i+1))
		token := r.op.logoutToken(nil, claims{"sub": "alice"})
		broken.Store(call)
		a := r.notify(token)
		broken.Store("")
		if a.StatusCode != 503 || a.code(t) != "store_unavailable" || a.Header.Get("Retry-After") == "" || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s fails: %d %s", call, a.StatusCode, a.body)
		}
		if n := len(r.audits("provider_logout_failed")); n != i+1 {
			t.Errorf("%s fails: %d audit events", call, n)
		}
		if a := r.notify(token); a.StatusCode != 200 || inside(one, two) != "[false false]" {
			t.Errorf("%s failed, then again: %d %s, inside %s", call, a.StatusCode, a.body, inside(one, two))
		}
		// logins of the same second belong to the logout: wait for the next one
		for now := time.Now().Unix(); time.Now().Unix() <= now; <-time.After(20 * time.Millisecond) {
		}
	}
}

// hold makes the provider keep its next answers of a grant until release is called. arrived hears of each.
func (p *op) hold(grant string) (arrived <-chan struct{}, release func()) {
	came, gate := make(chan struct{}, 10), make(chan struct{})
	p.with(func() {
		p.token = func(w http.ResponseWriter, r *http.Request) bool {
			if r.PostForm.Get("grant_type") != grant {
				return false
			}
			p.mu.Lock()
			status, answer := p.grant(r.PostForm) // made now, sent later
			p.mu.Unlock()
			came <- struct{}{}
			<-gate
			writeJSON(w, status, answer)
			return true
		}
	})
	return came, func() { p.with(func() { p.token = nil }); close(gate) }
}

// A logout that arrives while its login is on the way wins.
func TestBackChannelLogoutOvertakesTheLogin(t *testing.T) {
	for name, whom := range map[string]claims{"by sid": {"sid": "sid-1"}, "by sub": {"sub": "alice"}, "by both": {"sub": "alice", "sid": "sid-1"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			b := r.browser()
			back := b.toProvider("/auth/login/redirect")
			arrived, release := r.op.hold("authorization_code")
			done := make(chan answer, 1)
			go func() { done <- b.arrive(back) }()
			<-arrived
			if a := r.notify(r.op.logoutToken(nil, whom)); a.StatusCode != 200 {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
			release()
			if a := <-done; a.StatusCode != 400 || !strings.Contains(a.body, "login_failed") && !strings.Contains(a.body, "did not succeed") || b.ticket() != "" {
				t.Errorf("the login: %d %.300s", a.StatusCode, a.body)
			}
			if b.authenticated() {
				t.Error("logged in")
			}
			r.op.with(func() {
				if len(r.op.revoked) == 0 {
					t.Error("its tokens are not revoked")
				}
			})
		})
	}
}

// A logout that arrives during a refresh wins, and what the refresh brings is revoked.
func TestBackChannelLogoutDuringARefresh(t *testing.T) {
	r := newRig(t, nil)
	r.op.with(func() { r.op.life = time.Second })
	b := r.enter("alice", "sid-1")
	<-time.After(1100 * time.Millisecond) // past expiry
	arrived, release := r.op.hold("refresh_token")
	done := make(chan answer, 1)
	go func() { done <- b.fetch("GET", "/api/x") }()
	<-arrived
	if a := r.notify(r.op.logoutToken(nil, claims{"sid": "sid-1"})); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if got := inside(b); got != "[false]" {
		t.Errorf("before the refresh is over: inside %s", got)
	}
	seen := r.api.count()
	release()
	if a := <-done; a.StatusCode != 401 || r.api.count() != seen {
		t.Errorf("the call that waited: %d %s", a.StatusCode, a.body)
	}
	var last string
	r.op.with(func() { last = r.op.secrets[len(r.op.secrets)-2] }) // the newest refresh token
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
		revoked := false
		r.op.with(func() { revoked = strings.Contains(strings.Join(r.op.revoked, " "), last) })
		if revoked {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("what the refresh brought is not revoked")
		}
	}
	if got := inside(b); got != "[false]" {
		t.Errorf("afterwards: inside %s", got)
	}
}

// The logout comes to one replica, and the session is over on all.
func TestBackChannelLogoutAtAnotherReplica(t *testing.T) {
	r := newRigWith(t, newOP(t), &brittle{Store: memstore.New()}, nil)
	replica, err := cloakroom.New(r.cfg, cloakroom.Options{Store: r.st})
	if err != nil {
		t.Fatal(err)
	}
	defer replica.Shutdown(context.Background())
	one, two := r.enter("alice", "sid-1"), r.enter("alice", "sid-2")
	token := r.op.logoutToken(nil, claims{"sid": "sid-1"})
	post := func() int {
		req := httptest.NewRequest("POST", r.url+"/auth/backchannel-logout", strings.NewReader("logout_token="+token))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		replica.ServeHTTP(w, req)
		return w.Code
	}
	if status, got := post(), inside(one, two); status != 200 || got != "[false true]" {
		t.Errorf("%d, inside %s", status, got)
	}
	if a := r.notify(token); a.StatusCode != 200 {
		t.Errorf("a repeat at the first: %d %s", a.StatusCode, a.body)
	}
	if list := r.audits("provider_logout"); len(list) != 1 || !strings.Contains(fmt.Sprint(list[0]["detail"]), "repeat") {
		t.Errorf("the first does not know that it is done: %v", list)
	}
}

// Sessions that were made under an older key of the ring are reached.
func TestBackChannelLogoutUnderTwoKeys(t *testing.T) {
	r := newRig(t, nil)
	old := r.enter("alice", "sid-1")
	r.cfg.Keys = append([]config.Secret{config.NewKey()}, r.cfg.Keys...)
	r.restart()
	young := r.enter("alice", "sid-1")
	other := r.enter("alice", "sid-2")
	if a := r.notify(r.op.logoutToken(nil, claims{"sid": "sid-1"})); a.StatusCode != 200 {
		t.Errorf("%d", a.StatusCode)
	}
	if got := inside(old, young, other); got != "[false false true]" {
		t.Errorf("inside %s", got)
	}
}

// Bad tokens are limited by address. Good ones from the same address are not, and logins have their own budget.
func TestBackChannelLogoutLimit(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Limits.PerAddress = config.Rate{Burst: 3, Per: time.Hour} })
	b := r.enter("alice", "sid-1")
	for i := range 5 {
		a := r.notify("bad")
		if want := map[bool]int{true: 400, false: 429}[i < 3]; a.StatusCode != want || want == 429 && a.Header.Get("Retry-After") == "" {
			t.Errorf("%d. bad token: %d", i+1, a.StatusCode)
		}
	}
	if a := r.notify(r.op.logoutToken(nil, claims{"sid": "sid-1"})); a.StatusCode != 200 || inside(b) != "[false]" {
		t.Errorf("a good one: %d %s", a.StatusCode, a.body)
	}
	r.op.with(func() { r.op.sid = "sid-2" })
	if a := r.browser().post("/auth/login", credentials("alice", password)); a.StatusCode != 200 {
		t.Errorf("a login: %d %s", a.StatusCode, a.body)
	}
	if len(r.audits("limit_hit")) != 2 {
		t.Errorf("%v", r.audits("limit_hit"))
	}
}

func TestFrontChannelLogout(t *testing.T) {
	r := newRig(t, nil)
	one, two := r.enter("alice", "sid-1"), r.enter("alice", "sid-2")
	frame := r.browser() // third-party frames have no Strict cookie
	get := func(method, query string) answer {
		return frame.do(frame.request(method, "/auth/frontchannel-logout?"+query, nil, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"))
	}
	iss := url.QueryEscape(r.op.URL)
	for _, query := range []string{"", "iss=" + iss, "sid=sid-1", "iss=" + iss + "&sid=", "iss=&sid=sid-1", "iss=" + iss + "&sid=sid-1&sid=sid-1", "iss=" + iss + "&iss=" + iss + "&sid=sid-1", "iss=" + iss + "&sid=sid-1&%zz"} {
		if a := get("GET", query); a.StatusCode != 400 || a.code(t) != "invalid_logout" || !strings.Contains(a.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%q: %d %s", query, a.StatusCode, a.body)
		}
	}
	if a := get("GET", "iss=https://evil.example&sid=sid-1"); a.StatusCode != 200 || !strings.Contains(a.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("an issuer of nobody: %d %v", a.StatusCode, a.Header)
	}
	if a := get("POST", "iss="+iss+"&sid=sid-1"); a.StatusCode != 405 {
		t.Errorf("POST: %d", a.StatusCode)
	}
	if a := get("HEAD", "iss="+iss+"&sid=sid-1"); a.StatusCode != 200 {
		t.Errorf("HEAD: %d", a.StatusCode)
	}
	if got := inside(one, two); got != "[true true]" {
		t.Fatalf("inside %s", got)
	}
	a := get("GET", "iss="+iss+"&sid=sid-1")
	csp := a.Header.Get("Content-Security-Policy")
	if a.StatusCode != 200 || len(a.body) > 100 || a.Header.Get("Cache-Control") != "no-store" || len(a.Cookies()) != 0 ||
		!strings.HasSuffix(csp, "frame-ancestors "+r.op.URL) || a.Header.Get("X-Frame-Options") != "" {
		t.Errorf("%d %q %v", a.StatusCode, a.body, a.Header)
	}
	if got := inside(one, two); got != "[false true]" {
		t.Errorf("inside %s", got)
	}
	if again := get("GET", "iss="+iss+"&sid=sid-1"); again.StatusCode != 200 || again.body != a.body {
		t.Errorf("again: %d", again.StatusCode)
	}
	if n := len(r.audits("provider_logout")); n != 1 {
		t.Errorf("%d audit events", n)
	}
	if a := frame.fetch("GET", "/auth/login"); !strings.Contains(a.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("the login page: %v", a.Header)
	}
}
