package cloakroom_test

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/idp"
)

// submit posts a form of a page as a browser without JavaScript does.
func (b *browser) submit(path string, fields ...string) answer {
	b.t.Helper()
	v := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		v.Set(fields[i], fields[i+1])
	}
	return b.do(b.request("POST", path, strings.NewReader(v.Encode()), "Content-Type", "application/x-www-form-urlencoded",
		"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Accept", "text/html"))
}

// follow goes where an answer sends a browser on our own origin.
func (b *browser) follow(a answer) answer {
	b.t.Helper()
	to := a.Header.Get("Location")
	if a.StatusCode/100 != 3 || !strings.HasPrefix(to, "/") {
		b.t.Fatalf("%d %q %.400s", a.StatusCode, to, a.body)
	}
	return b.do(b.request("GET", to, nil, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Accept", "text/html"))
}

var hiddenTransaction = regexp.MustCompile(`name="transaction" value="([^"]+)"`)

func transactionIn(t *testing.T, page answer) string {
	t.Helper()
	m := hiddenTransaction.FindStringSubmatch(page.body)
	if page.StatusCode/100 != 2 && page.StatusCode/100 != 4 || m == nil {
		t.Fatalf("%d %.2000s", page.StatusCode, page.body)
	}
	return m[1]
}

func TestStepsWithoutJavaScript(t *testing.T) {
	t.Parallel()
	d := newDialectRig(t, "auth0", nil)
	b := d.browser()
	page := b.follow(b.submit("/auth/login", "username", "sms", "password", "open-sesame", "return_to", "/pages/in", "remember", "true"))
	tx := transactionIn(t, page)
	if strings.Count(page.body, `value="choose"`) != 4 || !strings.Contains(page.body, "XXXXXXX5678") {
		t.Errorf("three numbers and an address: %s", page.body)
	}
	page = b.follow(b.submit("/auth/login/step", "transaction", tx, "action", "choose", "factor", "2"))
	if !strings.Contains(page.body, `autocomplete="one-time-code"`) || !strings.Contains(page.body, "XXXXXXX5678") {
		t.Errorf("%s", page.body)
	}
	page = b.submit("/auth/login/step", "transaction", tx, "action", "submit", "code", "000000")
	if page.StatusCode != 401 || !strings.Contains(page.body, `role="alert"`) || !strings.Contains(page.body, `aria-invalid="true"`) {
		t.Errorf("%d %s", page.StatusCode, page.body)
	}
	messages := d.idp.Messages("sms")
	a := b.submit("/auth/login/step", "transaction", tx, "action", "submit", "code", messages[len(messages)-1].Code)
	if a.StatusCode != 303 || a.Header.Get("Location") != "/pages/in" || !b.authenticated() {
		t.Fatalf("%d %s %s", a.StatusCode, a.Header.Get("Location"), a.body)
	}
	if c := strings.Join(a.Header.Values("Set-Cookie"), "\n"); !strings.Contains(c, "Max-Age=2592000") {
		t.Errorf("remember me is lost on the way: %s", c)
	}
	if page := b.navigate("/auth/login/step?transaction=" + tx); page.StatusCode != 410 || !strings.Contains(page.body, "/auth/login") {
		t.Errorf("a finished login: %d", page.StatusCode)
	}
}

func TestRecoveryCodeWithoutJavaScript(t *testing.T) {
	t.Parallel()
	d := newDialectRig(t, "auth0", nil)
	b := d.browser()
	page := b.follow(b.submit("/auth/login", "username", "recover", "password", "open-sesame"))
	tx := transactionIn(t, page) // its app was chosen, for a recovery code is for emergencies
	b.follow(b.submit("/auth/login/step", "transaction", tx, "action", "choose", "factor", "2"))
	a := b.submit("/auth/login/step", "transaction", tx, "action", "submit", "code", "ABCD-EFGH-IJKL")
	if a.StatusCode != 200 || !strings.Contains(a.body, "<code>") || !strings.Contains(a.body, `href="/"`) || !b.authenticated() {
		t.Errorf("the new code: %d %s", a.StatusCode, a.body)
	}
	if a.Header.Get("Cache-Control") != "no-store" {
		t.Error("a recovery code is cached")
	}
}

func TestEscalationWithoutJavaScript(t *testing.T) {
	t.Parallel()
	d := newDialectRig(t, "auth0", nil)
	b := d.browser()
	a := b.submit("/auth/login", "username", "robot", "password", "open-sesame", "return_to", "/pages/in")
	if a.StatusCode != 200 || !strings.Contains(a.body, `http-equiv="refresh"`) || !strings.Contains(a.body, "login_hint=robot") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// The same login goes on at the provider's page: its code is for the verifier of the form's challenge.
func TestChallengeGoesOnAtTheProvidersPage(t *testing.T) {
	t.Parallel()
	f := newDialectRig(t, "challenge", nil).form()
	f.log("consent").want(202, "redirect")
	a := f.navigate(f.member("url").(string))
	to := a.Header.Get("Location")
	if a.StatusCode != 302 || !strings.Contains(to, "request_uri=") || strings.Contains(to, "code_challenge") {
		t.Fatalf("%d %s", a.StatusCode, to)
	}
	back := f.atProvider(to, "consent", "open-sesame")
	if a := f.arrive(back); a.StatusCode != 302 || a.Header.Get("Location") != "/pages/in" {
		t.Fatalf("callback: %d %s %s", a.StatusCode, a.Header.Get("Location"), tail(f.d.log.String(), 2000))
	}
	if !f.authenticated() {
		t.Error("not logged in")
	}
	f.clean("code verifier", "authorization code")
}

var (
	anyField    = regexp.MustCompile(`<input[^>]*>`)
	attribute   = regexp.MustCompile(`(name|value|type)="([^"]*)"`)
	firstButton = regexp.MustCompile(`<button name="(factor|consent|poll)" value="([^"]+)"`)
	formAt      = regexp.MustCompile(`<form[^>]*action="([^"]*)"`)
)

// atProvider goes through the provider's own pages, filling in what they ask for, until it sends the browser back.
func (f *form) atProvider(address, user, pass string) string {
	f.t.Helper()
	page := f.do(f.request("GET", address, nil))
	for range 8 {
		if to := page.Header.Get("Location"); page.StatusCode/100 == 3 {
			if strings.HasPrefix(to, f.url) {
				return to
			}
			at, _ := page.Request.URL.Parse(to)
			page = f.do(f.request("GET", at.String(), nil))
			continue
		}
		v := url.Values{}
		for _, input := range anyField.FindAllString(page.body, -1) {
			m := map[string]string{}
			for _, a := range attribute.FindAllStringSubmatch(input, -1) {
				m[a[1]] = html.UnescapeString(a[2])
			}
			switch {
			case m["type"] == "password":
				m["value"] = pass
			case m["name"] == "username" && m["value"] == "":
				m["value"] = user
			case m["name"] == "code":
				m["value"] = f.d.idp.OTP(user)
			case m["type"] == "checkbox" && m["value"] == "":
				m["value"] = "on"
			}
			v.Set(m["name"], m["value"])
		}
		if button := firstButton.FindStringSubmatch(page.body); button != nil {
			v.Set(button[1], button[2])
		}
		action := page.Request.URL
		if m := formAt.FindStringSubmatch(page.body); m != nil {
			action, _ = page.Request.URL.Parse(html.UnescapeString(m[1]))
		}
		page = f.do(f.request("POST", action.String(), strings.NewReader(v.Encode()), "Content-Type", "application/x-www-form-urlencoded"))
	}
	f.t.Fatalf("the provider never sends back: %d %s", page.StatusCode, page.body)
	return ""
}

func TestStepsTriesAreCounted(t *testing.T) {
	t.Parallel()
	f := newDialectRig(t, "okta", nil).form()
	f.log("otp").want(202, "challenge").pick("otp")
	u, _ := url.Parse(f.url)
	var replayed []*http.Cookie // what the browser had before the first try
	for _, c := range f.client.Jar.Cookies(u) {
		if strings.Contains(c.Name, "-tx-") {
			replayed = append(replayed, c)
		}
	}
	for range 8 {
		f.step("submit", "code", "000000").want(401, "invalid_credentials")
		f.client.Jar.SetCookies(u, replayed)
	}
	f.step("submit", "code", f.d.idp.OTP("otp")).want(410, "login_expired")
	if f.last.json(t)["login_url"] != "/auth/login?return_to=%2Fpages%2Fin" {
		t.Errorf("%s", f.last.body)
	}
	f.client.Jar.SetCookies(u, replayed)
	f.step("submit", "code", f.d.idp.OTP("otp")).want(410, "login_expired")
	if !strings.Contains(f.d.log.String(), `"reason":"per_login"`) {
		t.Error("the limit is not audited")
	}
}

func TestStepsBelongToOneBrowser(t *testing.T) {
	t.Parallel()
	d := newDialectRig(t, "auth0", nil)
	f := d.form()
	f.log("otp").want(202, "challenge")
	tx := f.member("transaction").(string)
	other := d.form()
	other.step("submit", "transaction", tx, "code", d.idp.OTP("otp")).want(410, "login_expired")
	if a := other.navigate("/auth/login/step?transaction=" + tx); a.StatusCode != 410 {
		t.Errorf("%d", a.StatusCode)
	}
	// A cookie of that name with a secret of one's own opens nothing.
	u, _ := url.Parse(d.url)
	other.client.Jar.SetCookies(u, []*http.Cookie{{Name: "cloakroom-" + u.Port() + "-tx-" + tx, Value: strings.Repeat("A", 43), Path: "/"}})
	other.step("submit", "transaction", tx, "code", d.idp.OTP("otp")).want(410, "login_expired")
	f.step("submit", "code", d.idp.OTP("otp")).done()
}

func TestTwoLoginsInOneBrowser(t *testing.T) {
	t.Parallel()
	f := newDialectRig(t, "auth0", nil).form()
	f.log("otp").want(202, "challenge")
	first := f.member("transaction").(string)
	f.log("sms").want(202, "challenge")
	f.step("choose", "factor", "1").want(202, "challenge") // without a name: the newest
	f.step("submit", "transaction", first, "code", f.d.idp.OTP("otp")).want(200, "done")
	f.step("submit", "code", f.sent("sms")).want(200, "done")
}

// Two tabs show the same step: the one that comes second is told that the login is over, and no code is sent twice.
func TestOneStepAtATime(t *testing.T) {
	t.Parallel()
	f := newDialectRig(t, "auth0", nil).form()
	f.log("otp").want(202, "challenge")
	f.d.idp.Fail(idp.Fault{Act: "mfa_otp", Delay: 300 * time.Millisecond})
	code := f.d.idp.OTP("otp")
	var wait sync.WaitGroup
	answers := make([]answer, 2)
	for i := range answers {
		body, _ := json.Marshal(map[string]string{"action": "submit", "code": code})
		req := f.request("POST", "/auth/login/step", strings.NewReader(string(body)), append([]string{"Content-Type", "application/json"}, fetched...)...)
		wait.Go(func() { answers[i] = f.do(req) })
	}
	wait.Wait()
	got := fmt.Sprint(min(answers[0].StatusCode, answers[1].StatusCode), max(answers[0].StatusCode, answers[1].StatusCode))
	if got != "200 410" {
		t.Errorf("%s: %s %s", got, answers[0].body, answers[1].body)
	}
}

func TestProviderFailsBetweenSteps(t *testing.T) {
	t.Parallel()
	for _, dialect := range stepping {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			f := newDialectRig(t, dialect, nil).form()
			f.log("otp").want(202, "challenge").pick("otp")
			f.d.idp.Fail(idp.Fault{Status: 502, Body: "<html>bad gateway</html>", Times: 2})
			f.step("submit", "code", "123456").want(503, "provider_unavailable")
			if f.member("step", "selected", "type") != "otp" || f.last.Header.Get("Retry-After") == "" {
				t.Errorf("the step is lost: %s", f.last.body)
			}
			f.step("submit", "code", "123456").want(503, "provider_unavailable")
			f.step("submit", "code", f.d.idp.OTP("otp")).done()
		})
	}
}

func TestStepsEndWithTheProvidersPatience(t *testing.T) {
	t.Parallel()
	f := newDialectRig(t, "auth0", nil).form()
	f.log("otp").want(202, "challenge")
	f.d.idp.Advance(11 * time.Minute)
	f.step("submit", "code", f.d.idp.OTP("otp")).want(410, "login_expired")
	f.log("otp").want(202, "challenge")
	f.step("cancel").want(200, "canceled")
	f.step("submit", "code", "123456").want(410, "login_expired")
}

// A refresh that is answered with mfa_required is a step-up, not a logout; the login's own steps do it, and then the call
// works.
func TestStepUpAtRefresh(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"auth0", "challenge"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			f := newDialectRig(t, dialect, nil).form()
			f.log("refresh").done()
			f.send("/auth/login", map[string]any{"step_up": true}).want(200, "done") // nothing is wanted
			f.d.idp.SetMFAAtRefresh("refresh", true)
			f.api.handler = func(w http.ResponseWriter, r *http.Request) {
				if _, _, ok := f.d.idp.CheckAccessToken(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")); !ok {
					w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
					w.WriteHeader(401)
				}
			}
			f.d.idp.Advance(time.Minute) // the access token is over at the provider, and the API says so
			for range 2 {                // the second time without asking the provider again
				f.last = f.fetch("GET", "/api/x")
				f.want(401, "step_up_required")
				if f.member("step", "status") != "step_up" {
					t.Fatalf("%s", f.last.body)
				}
			}
			if a := f.navigate("/pages/x"); a.StatusCode != 302 || a.Header.Get("Location") != "/auth/login?return_to=%2Fpages%2Fx" {
				t.Errorf("a person on the way to a page: %d %s", a.StatusCode, a.Header.Get("Location"))
			}
			if !f.authenticated() {
				t.Fatal("logged out")
			}
			f.send("/auth/login", map[string]any{"step_up": true, "return_to": "/pages/in"}).want(202, "challenge")
			f.pick("otp")
			f.step("submit", "code", "000000").want(401, "invalid_credentials")
			f.step("submit", "code", f.d.idp.OTP("refresh")).done()
		})
	}
}

func TestStepUpNeedsASession(t *testing.T) {
	t.Parallel()
	f := newDialectRig(t, "auth0", nil).form()
	f.send("/auth/login", map[string]any{"step_up": true}).want(401, "session_required")
}

// Twenty spellings of one name share one budget, and strangers keep nobody out of a browser that is known.
func TestStrangersLockNobodyOut(t *testing.T) {
	t.Parallel()
	d := newDialectRig(t, "auth0", func(c *config.Config) {
		c.Limits.PerAccount = config.Rate{Burst: 5, Per: time.Hour}
		c.Limits.PerProvider = config.Rate{Burst: 24, Per: time.Hour}
	})
	owner := d.form()
	owner.logWith("alice", "wonderland", nil).done()
	spellings := []string{
		"alice", "Alice", "ALICE", " alice", "alice ", "\talice", "aLiCe", "\uff41lice", "alic\uff45", "al\u200bice", "\u2060alice", "alice\u00ad",
		"\ufeffalice", "ali\u200dce", "A\uff2cICE", "alice\u00a0", "\u24d0lice", "\U0001d41alice", "al\u2071ce", "aliCE\u3000",
	}
	asked := 0
	for _, name := range spellings {
		switch a := d.form().logWith(name, "guess", nil).last; a.StatusCode {
		case 401:
			asked++
		case 429:
			if a.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		default:
			t.Errorf("%q: %d %s", name, a.StatusCode, a.body)
		}
	}
	if asked != 5 {
		t.Errorf("%d of 20 spellings were asked, want 5", asked)
	}
	d.form().logWith("alice", "wonderland", nil).want(429, "too_many_attempts") // the right password from nowhere
	owner.logWith("alice", "wonderland", nil).done()
	for i := range 12 { // every account of the provider, until its budget for strangers is gone
		d.form().logWith(fmt.Sprint("somebody", i), "guess", nil)
	}
	d.form().logWith("bob", "builder", nil).want(429, "too_many_attempts")
	owner.logWith("alice", "wonderland", nil).done()
	if asked := len(d.idp.Requests()); asked > 24 {
		t.Errorf("the provider was asked %d times", asked)
	}
	// Logging out everywhere makes the browser a stranger: somebody else may have it.
	if a := owner.post("/auth/logout", `{"everywhere":true}`); a.StatusCode != 200 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	owner.logWith("alice", "wonderland", nil).want(429, "too_many_attempts")
}

// Whoever solves the challenge goes on where a limit would make strangers wait.
func TestChallengeForHumans(t *testing.T) {
	t.Parallel()
	var got []url.Values
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got = append(got, r.PostForm)
		writeJSON(w, 200, map[string]any{"success": r.PostForm.Get("response") == "solved", "error-codes": []string{}})
	}))
	defer service.Close()
	d := newDialectRig(t, "auth0", func(c *config.Config) {
		c.Limits.PerAccount = config.Rate{Burst: 2, Per: time.Hour}
		c.Challenge = config.Challenge{VerifyURL: service.URL, Secret: config.NewSecret("challenge-secret")}
	})
	f := d.form()
	f.logWith("alice", "x", nil).want(401, "invalid_credentials")
	f.logWith("alice", "x", nil).want(401, "invalid_credentials")
	f.logWith("alice", "wonderland", nil).want(403, "challenge_required")
	f.logWith("alice", "wonderland", map[string]any{"challenge": "guessed"}).want(403, "challenge_required")
	f.logWith("alice", "wonderland", map[string]any{"challenge": "solved"}).done()
	if v := got[len(got)-1]; v.Get("secret") != "challenge-secret" || v.Get("remoteip") != "127.0.0.1" {
		t.Errorf("%v", v)
	}
	g := d.browser()
	page := g.submit("/auth/login", "username", "alice", "password", "wonderland", "cf-turnstile-response", "solved")
	if page.StatusCode != 303 {
		t.Errorf("by a widget's own field: %d %s", page.StatusCode, page.body)
	}
	for _, text := range []string{d.log.String()} {
		if strings.Contains(text, "challenge-secret") || strings.Contains(text, "solved") {
			t.Error("the challenge's secrets are in the log")
		}
	}
}

// A code works once and for its own login only.
func TestCodesAreNeitherReplayedNorSwapped(t *testing.T) {
	t.Parallel()
	d := newDialectRig(t, "auth0", nil)
	f := d.form()
	f.log("otp").want(202, "challenge")
	code := d.idp.OTP("otp")
	f.step("submit", "code", code).done()
	g := d.form()
	g.log("otp").want(202, "challenge")
	g.step("submit", "code", code).want(401, "invalid_credentials") // replayed

	one, two := d.form(), d.form()
	one.log("sms").want(202, "challenge")
	one.step("choose", "factor", "1").want(202, "challenge")
	first := one.sent("sms")
	two.log("sms").want(202, "challenge")
	two.step("choose", "factor", "1").want(202, "challenge")
	two.step("submit", "code", first).want(401, "invalid_credentials") // swapped
	two.step("submit", "code", two.sent("sms")).done()

	late := d.form()
	late.log("sms").want(202, "challenge")
	late.step("choose", "factor", "2").want(202, "challenge")
	expired := late.sent("sms")
	d.idp.Advance(6 * time.Minute) // a code lives five
	late.step("submit", "code", expired).want(401, "invalid_credentials")
}

// How long a refusal takes is on a grid, whether there is such a user or not. Reported, and only looked at roughly: this
// machine is noisy.
func TestRefusalsAreOnAGrid(t *testing.T) {
	t.Parallel()
	d := newDialectRig(t, "auth0", nil)
	times := map[string]time.Duration{}
	for _, user := range []string{"alice", "nobody-at-all"} {
		var wait sync.WaitGroup
		var mu sync.Mutex
		for range 16 {
			b := d.form()
			wait.Go(func() {
				begun := time.Now()
				b.logWith(user, "wrong", nil)
				mu.Lock()
				defer mu.Unlock()
				times[user] += time.Since(begun) / 16
			})
		}
		wait.Wait()
	}
	t.Logf("mean of 16: %v", times)
	for user, mean := range times {
		if mean < 250*time.Millisecond {
			t.Errorf("%s: refused after %s, before the grid", user, mean)
		}
	}
}
