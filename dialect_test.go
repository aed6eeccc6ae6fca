package cloakroom_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/idp"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/memstore"
)

// issuers are the demo provider's issuer by dialect, below its origin.
var issuers = map[string]string{
	"generic": "", "challenge": "", "auth0": "/", "okta": "/oauth2/default", "keycloak": "/realms/demo", "entra": "/tenant/v2.0", "cognito": "/pool-demo",
}

// dialectRig is the product in front of the demo provider in one of its dialects.
type dialectRig struct {
	*rig
	idp     *idp.Provider
	mu      sync.Mutex
	secrets map[string]string // value -> what it is
}

func newDialectRig(t *testing.T, dialect string, change func(*config.Config)) *dialectRig {
	t.Helper()
	return newDialectRigOn(t, dialect, memstore.New(), change)
}

func newDialectRigOn(t *testing.T, dialect string, st store.Store, change func(*config.Config)) *dialectRig {
	t.Helper()
	d := &dialectRig{secrets: map[string]string{}}
	ready := make(chan struct{}) // each needs to know the other's address
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-ready
		d.idp.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	profile := dialect
	if dialect == "challenge" {
		profile = "generic"
	}
	d.rig = newRigWith(t, newOP(t), st, func(c *config.Config) {
		c.Frontends[0].Providers = []config.Provider{{
			Issuer: server.URL + issuers[dialect], ClientID: "demo", ClientSecret: config.NewSecret(clientSecret), PasswordLogin: true, Profile: profile,
		}}
		if change != nil {
			change(c)
		}
	})
	var err error
	d.idp, err = idp.New(idp.Config{
		Issuer: server.URL + issuers[dialect], Dialect: dialect, Users: idp.DemoUsers(), TrustForwardedFor: true, PushInterval: 50 * time.Millisecond,
		Clients: []idp.Client{{ID: "demo", Secret: clientSecret, RedirectURIs: []string{d.url + "/auth/callback"}}},
		Witness: func(what, value string) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if len(value) >= 6 {
				d.secrets[value] = what
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	return d
}

// form is a browser in the middle of a login by form.
type form struct {
	*browser
	d    *dialectRig
	all  []string // every answer
	last answer
}

func (d *dialectRig) form() *form { return &form{browser: d.browser(), d: d} }

func (f *form) log(in string) *form { return f.logWith(in, "open-sesame", nil) }

func (f *form) logWith(user, pass string, more map[string]any) *form {
	body := map[string]any{"username": user, "password": pass, "return_to": "/pages/in"}
	maps.Copy(body, more)
	return f.send("/auth/login", body)
}

func (f *form) send(path string, body map[string]any) *form {
	raw, _ := json.Marshal(body)
	f.last = f.post(path, string(raw))
	f.all = append(f.all, f.last.body, fmt.Sprint(f.last.Header))
	return f
}

func (f *form) step(action string, more ...string) *form {
	body := map[string]any{"action": action}
	for i := 0; i+1 < len(more); i += 2 {
		body[more[i]] = more[i+1]
	}
	return f.send("/auth/login/step", body)
}

// want checks an answer's status, and its code or its status member.
func (f *form) want(status int, says string) *form {
	f.t.Helper()
	m := f.last.json(f.t)
	got, _ := m["code"].(string)
	if got == "" {
		got, _ = m["status"].(string)
	}
	if f.last.StatusCode != status || got != says {
		f.t.Fatalf("%d %s, want %d %s: %s\n%s", f.last.StatusCode, got, status, says, f.last.body, tail(f.d.log.String(), 1500))
	}
	return f
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func (f *form) done() {
	f.t.Helper()
	f.want(200, "done")
	if a := f.fetch("GET", "/api/x"); a.StatusCode != 200 {
		f.t.Errorf("the API: %d %s", a.StatusCode, a.body)
	}
	f.clean()
}

// clean checks that nothing of the provider's is in any answer or log line.
func (f *form) clean(but ...string) {
	f.t.Helper()
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	texts := append(slices.Clone(f.all), f.d.log.String())
	for value, what := range f.d.secrets {
		for i, text := range texts {
			if holds(text, value) && !slices.Contains(but, what) {
				f.t.Errorf("%s is in %s", what, map[bool]string{true: "the log", false: "an answer"}[i == len(texts)-1])
			}
		}
	}
}

// holds reports whether a value is in a text, as a word of its own: six digits are part of many a time of day.
func holds(text, value string) bool {
	part := func(r byte) bool { return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }
	for at := 0; ; {
		i := strings.Index(text[at:], value)
		if i < 0 {
			return false
		}
		from, to := at+i, at+i+len(value)
		if (from == 0 || !part(text[from-1])) && (to == len(text) || !part(text[to])) {
			return true
		}
		at = from + 1
	}
}

// member walks into the last answer: names and indexes.
func (f *form) member(path ...any) any {
	var v any = f.last.json(f.t)
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

// factor is the id of the nth factor of a type that is offered.
func (f *form) factor(kind string, n int) string {
	f.t.Helper()
	list, _ := f.member("factors").([]any)
	if step, ok := f.member("step", "factors").([]any); ok {
		list = step
	}
	for _, one := range list {
		m := one.(map[string]any)
		if m["type"] == kind {
			if n == 0 {
				return m["id"].(string)
			}
			n--
		}
	}
	f.t.Fatalf("no %s is offered: %s", kind, f.last.body)
	return ""
}

// pick chooses a factor unless it is chosen already.
func (f *form) pick(kind string) *form {
	f.t.Helper()
	if f.member("selected", "type") == kind {
		return f
	}
	return f.step("choose", "factor", f.factor(kind, 0)).want(202, "challenge")
}

// poll asks as often as it is told to, until there is something new.
func (f *form) poll() *form {
	f.t.Helper()
	for range 10 {
		interval, _ := f.member("selected", "interval").(float64)
		<-time.After(time.Duration(interval)*time.Second + 20*time.Millisecond) // the protocol's own wait
		if f.step("poll"); f.last.StatusCode != 202 {
			return f
		}
	}
	f.t.Fatalf("never done: %s", f.last.body)
	return f
}

// sent is the code that the provider sent last.
func (f *form) sent(user string) string {
	f.t.Helper()
	m := f.d.idp.Messages(user)
	if len(m) == 0 {
		f.t.Fatal("nothing was sent")
	}
	return m[len(m)-1].Code
}

func each(t *testing.T, dialects []string, run func(*testing.T, string, *form)) {
	for _, d := range dialects {
		t.Run(d, func(t *testing.T) { t.Parallel(); run(t, d, newDialectRig(t, d, nil).form()) })
	}
}

var (
	allDialects = []string{"generic", "challenge", "auth0", "okta", "keycloak", "entra", "cognito"}
	stepping    = []string{"challenge", "auth0", "okta", "cognito"}
	pushing     = []string{"challenge", "auth0", "okta"}
)

func TestDialectsPasswordOnly(t *testing.T) {
	t.Parallel()
	each(t, allDialects, func(t *testing.T, _ string, f *form) {
		f.logWith("alice", "wonder", nil).want(401, "invalid_credentials")
		f.logWith("nobody", "wonder", nil).want(401, "invalid_credentials")
		f.logWith("alice", "wonderland", nil).done()
	})
}

func TestDialectsOneTimeCode(t *testing.T) {
	t.Parallel()
	each(t, stepping, func(t *testing.T, _ string, f *form) {
		f.log("otp").want(202, "challenge").pick("otp")
		if f.member("selected", "input") != "code" || f.member("expires_at") == nil {
			t.Errorf("%s", f.last.body)
		}
		f.step("submit", "code", "000000").want(401, "invalid_credentials")
		if f.member("step", "status") != "challenge" {
			t.Errorf("a wrong code loses the step: %s", f.last.body)
		}
		f.step("submit", "code", "no digits!").want(400, "invalid_request")
		f.step("poll").want(400, "invalid_request")
		f.step("enroll", "factor", "1").want(400, "invalid_request")
		f.step("fly").want(400, "invalid_request")
		f.step("submit", "code", f.d.idp.OTP("otp")).done()
		f.step("submit", "code", "000000").want(410, "login_expired")
	})
}

func TestDialectsThatEscalate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ dialect, user, status, reason string }{
		{"generic", "otp", "redirect", "unsupported_factor"},
		{"entra", "otp", "redirect", "unsupported_factor"},
		{"auth0", "robot", "redirect", "captcha"},
		{"challenge", "robot", "redirect", "captcha"},
		{"entra", "consent", "redirect", "consent"},
		{"challenge", "consent", "redirect", "consent"},
		{"keycloak", "expired", "redirect", "provider_policy"},
		{"cognito", "unverified", "redirect", "provider_policy"},
		{"auth0", "expired", "password_change", ""},
		{"entra", "expired", "password_change", ""},
	} {
		t.Run(tc.dialect+" "+tc.user, func(t *testing.T) {
			t.Parallel()
			f := newDialectRig(t, tc.dialect, nil).form()
			f.log(tc.user).want(202, tc.status)
			address, _ := f.member("url").(string)
			reason, _ := f.member("reason").(string)
			if reason != tc.reason || !strings.HasPrefix(address, "/auth/login/redirect?") {
				t.Fatalf("%s", f.last.body)
			}
			a := f.navigate(address)
			to, err := url.Parse(a.Header.Get("Location"))
			if a.StatusCode != 302 || err != nil || to.Host == "" {
				t.Fatalf("%d %s %s", a.StatusCode, a.Header.Get("Location"), a.body)
			}
			if q := to.Query(); q.Get("request_uri") == "" && q.Get("login_hint") != tc.user {
				t.Errorf("%s", to)
			}
			f.clean("code verifier")
		})
	}
}

func TestDialectsRefuse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		dialect, user, pass string
		status              int
		code                string
	}{
		{"auth0", "locked", "out-of-luck", 403, "account_blocked"},
		{"auth0", "locked", "x", 401, "invalid_credentials"},
		{"auth0", "breached", "open-sesame", 403, "password_breached"},
		{"auth0", "denied", "open-sesame", 403, "access_denied"},
		{"challenge", "denied", "open-sesame", 403, "access_denied"},
		{"okta", "locked", "out-of-luck", 401, "invalid_credentials"},
		{"keycloak", "locked", "out-of-luck", 401, "invalid_credentials"},
		{"entra", "locked", "out-of-luck", 401, "invalid_credentials"},
		{"cognito", "locked", "out-of-luck", 401, "invalid_credentials"},
	} {
		t.Run(tc.dialect+" "+tc.user+" "+tc.pass, func(t *testing.T) {
			t.Parallel()
			f := newDialectRig(t, tc.dialect, nil).form()
			f.logWith(tc.user, tc.pass, nil).want(tc.status, tc.code)
			f.clean()
		})
	}
}

func TestDialectsCodeBySMS(t *testing.T) {
	t.Parallel()
	each(t, stepping, func(t *testing.T, dialect string, f *form) {
		f.log("sms").want(202, "challenge")
		if f.member("selected") != nil {
			t.Errorf("chosen for the person: %s", f.last.body)
		}
		f.step("submit", "code", "123456").want(400, "invalid_request")
		f.step("choose", "factor", "99").want(400, "invalid_request")
		n := 0
		if dialect == "auth0" || dialect == "challenge" {
			n = 1
		}
		f.step("choose", "factor", f.factor("sms", n)).want(202, "challenge")
		if f.member("selected", "type") != "sms" || f.member("selected", "input") != "code" {
			t.Errorf("%s", f.last.body)
		}
		if dialect != "cognito" {
			f.step("resend").want(202, "challenge")
		}
		f.step("submit", "code", "999999").want(401, "invalid_credentials")
		f.step("submit", "code", " "+f.sent("sms")+" ").done()
	})
}

func TestDialectsPush(t *testing.T) {
	t.Parallel()
	each(t, pushing, func(t *testing.T, dialect string, f *form) {
		f.log("push").want(202, "challenge").pick("push")
		if f.member("selected", "input") != "wait" {
			t.Fatalf("%s", f.last.body)
		}
		if number := f.member("selected", "display_code"); dialect != "auth0" && number != "42" {
			t.Errorf("the number to compare: %v", number)
		}
		f.poll().done()
	})
}

func TestDialectsPushRefused(t *testing.T) {
	t.Parallel()
	each(t, pushing, func(t *testing.T, _ string, f *form) {
		f.log("refuser").want(202, "challenge").pick("push")
		f.poll().want(403, "access_denied")
		if f.member("step", "status") != "challenge" {
			t.Errorf("no way on: %s", f.last.body)
		}
		f.clean()
	})
}

func TestDialectsRecoveryCode(t *testing.T) {
	t.Parallel()
	each(t, []string{"auth0"}, func(t *testing.T, _ string, f *form) {
		f.log("recover").want(202, "challenge")
		f.step("choose", "factor", f.factor("recovery_code", 0)).want(202, "challenge")
		f.step("submit", "code", "WRONG-WRONG-WRONG").want(401, "invalid_credentials")
		f.step("submit", "code", "ABCD-EFGH-IJKL").want(200, "done")
		next, _ := f.member("recovery_codes", 0).(string)
		if next == "" || next == "ABCD-EFGH-IJKL" {
			t.Fatalf("no new recovery code: %s", f.last.body)
		}
		g := f.d.form()
		g.log("recover").want(202, "challenge")
		g.step("choose", "factor", g.factor("recovery_code", 0)).step("submit", "code", next).want(200, "done")
		g.clean("recovery code")
	})
}

func TestDialectsEnrol(t *testing.T) {
	t.Parallel()
	each(t, []string{"auth0", "challenge", "cognito"}, func(t *testing.T, dialect string, f *form) {
		f.log("newcomer").want(202, "enroll")
		f.step("enroll", "factor", f.factor("otp", 0)).want(202, "enroll")
		uri, _ := f.member("otp", "uri").(string)
		qr, _ := f.member("otp", "qr_svg").(string)
		if f.member("otp", "secret") == "" || !strings.HasPrefix(uri, "otpauth://totp/") || !strings.HasPrefix(qr, "<svg ") {
			t.Fatalf("%s", f.last.body)
		}
		if codes, _ := f.member("recovery_codes").([]any); dialect != "cognito" && len(codes) == 0 {
			t.Errorf("no recovery code with the first factor: %s", f.last.body)
		}
		f.step("submit", "code", "000000").want(401, "invalid_credentials")
		f.step("submit", "code", f.d.idp.OTP("newcomer")).want(200, "done")
	})
}

func TestDialectsNewPassword(t *testing.T) {
	t.Parallel()
	f := newDialectRig(t, "cognito", nil).form()
	f.log("expired").want(202, "password_change")
	if f.member("here") != true {
		t.Fatalf("%s", f.last.body)
	}
	f.step("submit").want(400, "invalid_request")
	f.step("submit", "password", "a-brand-new-password-1").done()
	g := f.d.form()
	g.logWith("expired", "a-brand-new-password-1", nil).done()
}

func TestKeycloakTakesTheCodeWithThePassword(t *testing.T) {
	t.Parallel()
	f := newDialectRig(t, "keycloak", nil).form()
	f.log("otp").want(401, "invalid_credentials")
	f.logWith("otp", "open-sesame", map[string]any{"otp": "000000"}).want(401, "invalid_credentials")
	f.logWith("otp", "open-sesame", map[string]any{"otp": f.d.idp.OTP("otp")}).done()
}
