package idp

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// browser is somebody at the hosted page.
type browser struct {
	*rig
	client *http.Client
	code   func() string // the second factor that this person types
}

func newBrowser(t *testing.T, r *rig) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{rig: r, client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (b *browser) do(req *http.Request, err error) reply {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	res, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if strings.Contains(string(raw), "<script") {
		b.t.Error("a script")
	}
	return reply{status: res.StatusCode, header: res.Header, body: string(raw)}
}

func (b *browser) get(path string) reply {
	b.t.Helper()
	return b.do(http.NewRequest("GET", b.server.URL+path, nil))
}

func authorization(change func(url.Values)) url.Values {
	sum := sha256.Sum256([]byte("verifier"))
	q := url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {redirectURI}, "scope": {"openid offline_access"}, "state": {"st"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	if change != nil {
		change(q)
	}
	return q
}

func (b *browser) authorize(change func(url.Values)) reply {
	b.t.Helper()
	return b.get(b.at.authorize + "?" + authorization(change).Encode())
}

var hidden = regexp.MustCompile(`name="(query|step)" value="([^"]*)"`)

// press sends a page's form.
func (b *browser) press(page reply, pairs ...string) reply {
	b.t.Helper()
	form := url.Values{}
	for _, m := range hidden.FindAllStringSubmatch(page.body, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequest("POST", b.server.URL+b.at.authorize, strings.NewReader(form.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return b.do(req, err)
}

// finish goes through whatever is asked until the app is reached.
func (b *browser) finish(page reply, user string) *url.URL {
	b.t.Helper()
	for range 8 {
		switch body := page.body; {
		case page.status == http.StatusSeeOther:
			to, err := url.Parse(page.header.Get("Location"))
			if err != nil {
				b.t.Fatal(err)
			}
			return to
		case strings.Contains(body, `name="password"`):
			page = b.press(page, "username", user, "password", "open-sesame")
		case strings.Contains(body, `name="captcha"`):
			page = b.press(page, "captcha", "on")
		case strings.Contains(body, `name="new_password"`):
			page = b.press(page, "new_password", "correct-horse")
		case strings.Contains(body, `name="consent"`):
			page = b.press(page, "consent", "yes")
		case strings.Contains(body, `A code was sent to you`):
			page = b.press(page, "code", b.sentCode(user))
		case strings.Contains(body, `name="code"`):
			page = b.press(page, "code", b.code())
		case strings.Contains(body, `up. Write down the new one`):
			page = b.press(page)
		default:
			b.t.Fatalf("%d %s", page.status, body)
		}
	}
	b.t.Fatalf("it does not end: %s", page.body)
	return nil
}

// exchanged are the claims of the login that came back.
func (b *browser) exchanged(to *url.URL) map[string]any {
	b.t.Helper()
	return b.good("exchange", b.grant("authorization_code", "code", to.Query().Get("code"), "redirect_uri", redirectURI, "code_verifier", "verifier"))
}

// TestHostedEscalation logs every user in at the hosted page of every dialect, whatever stands against it.
func TestHostedEscalation(t *testing.T) {
	for _, dialect := range []string{"generic", "auth0", "okta", "keycloak", "entra", "cognito", "challenge"} {
		t.Run(dialect, func(t *testing.T) {
			r := opened(t, dialect, nil)
			for _, user := range []string{"otp", "newcomer", "expired", "breached", "robot", "consent", "unverified", "refresh"} {
				b := newBrowser(t, r)
				b.code = func() string { return r.OTP(user) }
				claims := b.exchanged(b.finish(b.authorize(nil), user))
				if user == "otp" || user == "newcomer" {
					r.amr(claims, "pwd", "otp")
				} else {
					r.amr(claims, "pwd")
				}
				if claims["sid"] == nil {
					t.Errorf("%s: no sid", user)
				}
			}
			to := newBrowser(t, r).finish(newBrowser(t, r).authorize(nil), "denied")
			if to.Query().Get("error") != "access_denied" || to.Query().Has("iss") != r.dialect.issuerBack {
				t.Errorf("%v", to)
			}
			if got := newBrowser(t, r); got.press(got.authorize(nil), "username", "locked", "password", "out-of-luck").status != 403 {
				t.Error("blocked")
			}
		})
	}
}

func TestHostedFactors(t *testing.T) {
	r := opened(t, "generic", nil)
	b := newBrowser(t, r)
	page := b.press(b.authorize(nil), "username", "sms", "password", "open-sesame")
	if !strings.Contains(page.body, "Text message to XXXXXXX5678") || !strings.Contains(page.body, "E-mail to") {
		t.Fatalf("%s", page.body)
	}
	page = b.press(page, "factor", "sms|2")
	if r.Messages("sms")[0].To != "XXXXXXX5678" {
		t.Errorf("%+v", r.Messages("sms"))
	}
	if wrong := b.press(page, "code", "x"); wrong.status != 422 || !strings.Contains(wrong.body, "This code is wrong.") {
		t.Errorf("%d %s", wrong.status, wrong.body)
	}
	if other := b.press(page, "other", "yes"); !strings.Contains(other.body, "Text message to XXXXXXX9012") {
		t.Errorf("%s", other.body)
	}
	page = b.press(page, "factor", "sms|1")
	b.code = func() string { return r.sentCode("sms") }
	r.amr(b.exchanged(b.finish(page, "sms")), "pwd", "sms")

	b = newBrowser(t, r)
	page = b.press(b.press(b.authorize(nil), "username", "push", "password", "open-sesame"), "factor", "push|phone")
	if !strings.Contains(page.body, "<strong>42</strong>") {
		t.Errorf("%s", page.body)
	}
	for range 2 {
		if page = b.press(page, "poll", "yes"); !strings.Contains(page.body, "Nobody has answered") {
			t.Errorf("%s", page.body)
		}
		r.Advance(5 * time.Second)
	}
	r.amr(b.exchanged(b.finish(b.press(page, "poll", "yes"), "push")), "pwd", "push")
	b = newBrowser(t, r)
	page = b.press(b.authorize(nil), "username", "refuser", "password", "open-sesame")
	if page = b.press(page, "poll", "yes"); !strings.Contains(page.body, "was refused on your phone") {
		t.Errorf("%s", page.body)
	}
	b = newBrowser(t, r)
	page = b.press(b.authorize(nil), "username", "recover", "password", "open-sesame")
	page = b.press(b.press(page, "factor", "recovery|1"), "code", "abcdefghijkl")
	if strings.Contains(page.body, "ABCD-EFGH-IJKL") || !strings.Contains(page.body, `id="recovery"`) {
		t.Errorf("%s", page.body)
	}
	r.amr(b.exchanged(b.finish(page, "recover")), "pwd", "recovery_code")
}

func TestHostedSteps(t *testing.T) {
	r := opened(t, "generic", nil)
	b := newBrowser(t, r)
	robot := b.press(b.authorize(nil), "username", "robot", "password", "open-sesame")
	if got := b.press(robot); got.status != 422 || !strings.Contains(got.body, "Tick the box.") {
		t.Errorf("%d", got.status)
	}
	done := b.press(robot, "captcha", "on")
	if done.status != 303 {
		t.Errorf("%d", done.status)
	}
	if again := b.press(robot, "captcha", "on"); again.status != 403 {
		t.Errorf("a form that was used: %d", again.status)
	}
	expired := b.press(b.authorize(func(q url.Values) { q.Set("prompt", "login") }), "username", "expired", "password", "open-sesame")
	if got := b.press(expired, "new_password", "open-sesame"); !strings.Contains(got.body, "Choose another password") {
		t.Errorf("the old one: %s", got.body)
	}
	consent := b.press(b.authorize(func(q url.Values) { q.Set("prompt", "login") }), "username", "consent", "password", "open-sesame")
	if got := b.finish(b.press(consent, "consent", "no"), ""); got.Query().Get("error") != "access_denied" {
		t.Errorf("%v", got)
	}
	late := b.press(b.authorize(func(q url.Values) { q.Set("prompt", "login") }), "username", "otp", "password", "open-sesame")
	r.Advance(attemptLife + time.Second)
	if got := b.press(late, "code", r.OTP("otp")); got.status != 403 || !strings.Contains(got.body, `name="password"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestHostedSingleSignOn(t *testing.T) {
	r := opened(t, "generic", nil)
	b := newBrowser(t, r)
	b.code = func() string { return r.OTP("refresh") }
	page := b.authorize(func(q url.Values) { q.Set("login_hint", "refresh") })
	if !strings.Contains(page.body, `value="refresh"`) {
		t.Errorf("login_hint: %s", page.body)
	}
	first := b.exchanged(b.finish(page, "refresh"))
	r.amr(first, "pwd")
	silent := func(change func(url.Values)) *url.URL {
		return b.finish(b.authorize(func(q url.Values) {
			q.Set("prompt", "none")
			if change != nil {
				change(q)
			}
		}), "refresh")
	}
	mfa := func(q url.Values) { q.Set("acr_values", acrFactor) }
	if to := silent(mfa); to.Query().Get("error") != "interaction_required" {
		t.Errorf("%v", to)
	}
	r.Advance(time.Minute)
	up := b.exchanged(b.finish(b.authorize(mfa), "refresh"))
	r.amr(up, "pwd", "otp")
	if up["sid"] != first["sid"] || up["auth_time"] != first["auth_time"] {
		t.Errorf("%v %v", first, up)
	}
	r.amr(b.exchanged(silent(mfa)), "pwd", "otp")
	if to := silent(func(q url.Values) { q.Set("max_age", "10") }); to.Query().Get("error") != "login_required" {
		t.Errorf("max_age: %v", to)
	}
	if page := b.authorize(func(q url.Values) { q.Set("prompt", "login") }); !strings.Contains(page.body, `name="password"`) {
		t.Errorf("prompt=login: %s", page.body)
	}
	r.people.change(mustUser(t, r.Provider, "refresh").subject(), func(u *User) { u.Consent = true })
	if to := silent(nil); to.Query().Get("error") != "consent_required" {
		t.Errorf("consent: %v", to)
	}
	r.SetMFAAtRefresh("refresh", true)
	b = newBrowser(t, r)
	b.code = func() string { return r.OTP("refresh") }
	r.Advance(otpPeriod)
	r.amr(b.exchanged(b.finish(b.authorize(nil), "refresh")), "pwd", "otp")
	if r.people.steps(mustUser(t, r.Provider, "refresh").subject()) {
		t.Error("a shown factor does not end it")
	}
}
