package idp

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// firstParty is a login at the challenge endpoint: the newest auth_session goes along.
type firstParty struct {
	*rig
	session string
}

func (f *firstParty) ask(pairs ...string) reply {
	f.t.Helper()
	sum := sha256.Sum256([]byte("verifier"))
	form := url.Values{
		"response_type": {"code"}, "scope": {"openid offline_access"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"nonce": {"no"},
	}
	if f.session != "" {
		form.Set("auth_session", f.session)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	got := f.form("/authorize-challenge", form)
	if next := got.text("auth_session"); next != "" {
		f.session = next
	}
	return got
}

func (f *firstParty) password(user string) reply {
	f.t.Helper()
	return f.ask("username", user, "password", "open-sesame")
}

// more checks an answer that wants more.
func (f *firstParty) more(what string, got reply, required string) {
	f.t.Helper()
	if got.status != 403 || got.text("error") != "insufficient_authorization" || got.text("required") != required || got.text("auth_session") == "" {
		f.t.Errorf("%s: %d %s", what, got.status, got.body)
	}
}

// code exchanges the code of an answer.
func (f *firstParty) code(what string, got reply) (tokens reply, claims map[string]any) {
	f.t.Helper()
	if got.status != 200 || got.text("authorization_code") == "" || got.header.Get("Cache-Control") != "no-store" {
		f.t.Fatalf("%s: %d %s", what, got.status, got.body)
	}
	tokens = f.grant("authorization_code", "code", got.text("authorization_code"), "code_verifier", "verifier")
	return tokens, f.good(what, tokens)
}

func TestChallengePassword(t *testing.T) {
	f := &firstParty{rig: opened(t, "challenge", nil)}
	got := f.ask("login_hint", "alice")
	f.more("nothing yet", got, "password")
	first := f.session
	f.wants("wrong", f.ask("username", "alice", "password", "x"), 400, "invalid_grant", "")
	if f.session == first {
		t.Error("the auth_session did not change")
	}
	got = f.ask("username", "alice", "password", "wonderland")
	_, claims := f.code("right", got)
	if f.amr(claims, "pwd"); claims["nonce"] != "no" {
		t.Errorf("%v", claims)
	}
	again := f.grant("authorization_code", "code", got.text("authorization_code"), "code_verifier", "verifier")
	f.wants("the code again", again, 400, "invalid_grant", "")
	f.session = first
	f.wants("an old auth_session", f.ask("username", "alice", "password", "wonderland"), 400, "invalid_session", "")
	f.session = ""
	f.wants("no response type", f.ask("response_type", ""), 400, "invalid_request", "")
	if got := f.send("POST", "/authorize-challenge", "response_type=code", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}); got.status != 401 {
		t.Errorf("without a client: %d", got.status)
	}
	f.wants("blocked", f.ask("username", "locked", "password", "out-of-luck"), 400, "access_denied", "")
	f.wants("denied", f.password("denied"), 400, "access_denied", "")
	f.session = ""
	f.password("otp")
	f.Advance(attemptLife + time.Second)
	f.wants("late", f.ask("otp", f.OTP("otp")), 400, "invalid_session", "")
}

func TestChallengeFactors(t *testing.T) {
	r := opened(t, "challenge", nil)
	f := &firstParty{rig: r}
	got := f.password("otp")
	f.more("one factor is chosen", got, "otp")
	if got.text("selected") != "totp|app" {
		t.Errorf("%s", got.body)
	}
	f.wants("wrong", f.ask("otp", "000000"), 400, "invalid_grant", "")
	_, claims := f.code("right", f.ask("otp", r.OTP("otp")))
	r.amr(claims, "pwd", "otp")

	f = &firstParty{rig: r}
	got = f.password("sms")
	f.more("several", got, "factor")
	factors, _ := got.m["factors"].([]any)
	if one, _ := factors[1].(map[string]any); len(factors) != 4 || one["id"] != "sms|2" || one["type"] != "sms" || one["name"] != "XXXXXXX5678" {
		t.Errorf("%s", got.body)
	}
	f.more("chosen", f.ask("factor", "sms|2"), "otp")
	old := r.sentCode("sms")
	f.more("sent again", f.ask("factor", "sms|2"), "otp")
	if r.sentCode("sms") == old {
		t.Error("the same code")
	}
	f.wants("no such factor", f.ask("factor", "x"), 400, "invalid_request", "")
	_, claims = f.code("sms", f.ask("factor", "sms|2", "otp", r.sentCode("sms")))
	r.amr(claims, "pwd", "sms")

	f = &firstParty{rig: r}
	f.more("both", f.password("recover"), "factor")
	_, claims = f.code("named with its code", f.ask("factor", "recovery|1", "otp", "ABCD-EFGH-IJKL"))
	r.amr(claims, "pwd", "recovery_code")
}

func TestChallengePush(t *testing.T) {
	r := opened(t, "challenge", nil)
	f := &firstParty{rig: r}
	f.more("both", f.password("push"), "factor")
	got := f.ask("factor", "push|phone")
	f.more("started", got, "push")
	if got.m["interval"] != 5.0 || got.text("display_code") != "42" {
		t.Errorf("%s", got.body)
	}
	for range 2 {
		f.more("pending", f.ask("factor", "push|phone"), "push")
		f.more("too fast", f.ask("factor", "push|phone"), "push")
		r.Advance(5 * time.Second)
	}
	_, claims := f.code("accepted", f.ask("factor", "push|phone"))
	r.amr(claims, "pwd", "push")
	f = &firstParty{rig: r}
	f.more("the only one", f.password("refuser"), "push")
	f.wants("rejected", f.ask("factor", "push|phone"), 400, "access_denied", "")
	f.more("anew", f.ask("factor", "push|phone"), "push")
}

func TestChallengeEnrolment(t *testing.T) {
	r := opened(t, "challenge", nil)
	f := &firstParty{rig: r}
	f.more("none", f.password("newcomer"), "enroll")
	f.wants("without a number", f.ask("factor", "sms"), 400, "invalid_request", "")
	f.more("a number", f.ask("factor", "sms", "phone_number", "+15550107777"), "otp")
	if m := r.Messages("newcomer"); m[0].To != "+15550107777" {
		t.Errorf("%+v", m)
	}
	got := f.ask("factor", "otp")
	f.more("an app", got, "otp")
	codes, _ := got.m["recovery_codes"].([]any)
	if got.text("otp_secret") == "" || !strings.HasPrefix(got.text("otp_uri"), "otpauth://") || got.text("selected") != "otp" || len(codes) != 1 {
		t.Errorf("%s", got.body)
	}
	_, claims := f.code("enrolled", f.ask("factor", "otp", "otp", codeAt(got.text("otp_secret"), r.now())))
	r.amr(claims, "pwd", "otp")
	if u := mustUser(t, r.Provider, "newcomer"); len(u.Factors) != 2 {
		t.Errorf("%+v", u.Factors)
	}
}

func TestChallengeStepUp(t *testing.T) {
	r := opened(t, "challenge", nil)
	f := &firstParty{rig: r}
	_, claims := f.code("password", f.password("refresh"))
	r.amr(claims, "pwd")
	r.Advance(14 * 24 * time.Hour)
	f.more("acr_values", f.ask("acr_values", acrFactor), "otp")
	tokens, claims := f.code("shown", f.ask("acr_values", acrFactor, "otp", r.OTP("refresh")))
	r.amr(claims, "pwd", "otp")
	f.more("max_age", f.ask("max_age", "60"), "password")

	r.SetMFAAtRefresh("refresh", true)
	got := r.refresh(tokens.text("refresh_token"))
	r.wants("refresh", got, 403, "insufficient_authorization", "")
	f.session = got.text("auth_session")
	f.more("goes on", f.ask(), "otp")
	r.Advance(otpPeriod)
	_, claims = f.code("shown", f.ask("otp", r.OTP("refresh")))
	r.amr(claims, "pwd", "otp")
	r.good("refreshed", r.refresh(tokens.text("refresh_token")))
}

func TestChallengeGoesToTheWeb(t *testing.T) {
	r := opened(t, "challenge", nil)
	for user, reason := range map[string]string{"robot": "captcha", "consent": "consent", "expired": "provider_policy", "breached": "provider_policy", "unverified": "provider_policy"} {
		f := &firstParty{rig: r}
		got := f.ask("username", user, "password", "open-sesame", "state", "st")
		r.wants(user, got, 403, "redirect_to_web", "")
		if got.text("reason") != reason || got.m["expires_in"] != 90.0 {
			t.Errorf("%s: %s", user, got.body)
		}
		b := newBrowser(t, r)
		page := b.get("/authorize?" + url.Values{"client_id": {"app"}, "request_uri": {got.text("request_uri")}}.Encode())
		if !strings.Contains(page.body, `value="`+user+`"`) {
			t.Fatalf("no login_hint: %s", page.body)
		}
		to := b.finish(page, user)
		if to.Query().Get("state") != "st" || to.Query().Get("iss") != r.Issuer {
			t.Errorf("%v", to)
		}
		r.good(user, r.grant("authorization_code", "code", to.Query().Get("code"), "redirect_uri", redirectURI, "code_verifier", "verifier"))
		r.Advance(pushedLife + time.Second)
		if late := newBrowser(t, r).get("/authorize?" + url.Values{"client_id": {"app"}, "request_uri": {got.text("request_uri")}}.Encode()); late.status != http.StatusBadRequest {
			t.Errorf("late: %d", late.status)
		}
	}
	f := &firstParty{rig: r}
	if got := f.ask("username", "robot", "password", "open-sesame", "code_challenge", ""); got.text("error") != "redirect_to_web" || got.m["request_uri"] != nil {
		t.Errorf("without PKCE: %s", got.body)
	}
}

func TestChallengeWitness(t *testing.T) {
	var told []string
	r := opened(t, "challenge", func(c *Config) { c.Witness = func(_, value string) { told = append(told, value) } })
	f := &firstParty{rig: r}
	f.password("recover")
	first := f.session
	f.ask("factor", "recovery|1")
	f.ask("otp", "ABCD-EFGH-IJKL")
	for _, secret := range []string{"open-sesame", first, f.session, "ABCD-EFGH-IJKL"} {
		if !slices.Contains(told, secret) {
			t.Errorf("%s was not told", secret)
		}
	}
}
