package idp

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestAuth0Passwords has each row of BFF-PEERS.md section 3.1's table of errors.
func TestAuth0Passwords(t *testing.T) {
	r := opened(t, "auth0", nil)
	for _, tc := range []struct {
		user, pass  string
		status      int
		code, words string
	}{
		{"alice", "wrong", 403, "invalid_grant", "Wrong email or password."},
		{"nobody", "open-sesame", 403, "invalid_grant", "Wrong email or password."},
		{"locked", "wrong", 403, "invalid_grant", "Wrong email or password."},
		{"locked", "out-of-luck", 401, "unauthorized", "user is blocked"},
		{"breached", "open-sesame", 401, "password_leaked", ""},
		{"robot", "open-sesame", 401, "requires_verification", ""},
		{"denied", "open-sesame", 403, "access_denied", ""},
		{"unverified", "open-sesame", 403, "access_denied", "verify your email"},
		{"consent", "open-sesame", 403, "consent_required", ""},
		{"otp", "open-sesame", 403, "mfa_required", "Multifactor"},
		{"alice", "", 400, "invalid_request", ""},
	} {
		r.wants(tc.user, r.login(tc.user, tc.pass), tc.status, tc.code, tc.words)
	}
	claims := r.good("alice", r.login("alice", "wonderland"))
	r.amr(claims, "pwd")
	if claims["iss"] != r.Issuer || claims["sid"] != nil {
		t.Errorf("%v", claims)
	}
	r.wants("a grant that is not allowed", r.grant("client_credentials"), 403, "unauthorized_client", "")
	bad := r.send("POST", r.at.token, "grant_type=password", map[string]string{"Content-Type": "application/x-www-form-urlencoded"})
	r.wants("no client", bad, 401, "access_denied", "")
}

// TestAuth0OtherShape is the error whose description is an object.
func TestAuth0OtherShape(t *testing.T) {
	r := opened(t, "auth0", nil)
	got := r.login("expired", "open-sesame")
	d, _ := got.m["description"].(map[string]any)
	if got.status != 401 || got.text("code") != "password_expired" || got.text("name") == "" || d["rules"] == nil || got.m["error"] != nil {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestAuth0Realm(t *testing.T) {
	r := opened(t, "auth0", func(c *Config) { c.Realm = "customers" })
	realm := func(name string) reply {
		return r.grant(grantURI+"password-realm", "realm", name, "username", "alice", "password", "wonderland", "scope", "openid")
	}
	r.good("realm", realm("customers"))
	r.wants("another", realm("staff"), 400, "invalid_request", "")
	if e := r.Requests(); e[0].Act != "password" || e[0].Params["realm"] != "customers" || e[0].Params["password"] != "" || e[0].Status != 200 {
		t.Errorf("%+v", e)
	}
	got := r.json(r.at.token, map[string]string{"grant_type": "password", "username": "alice", "password": "wonderland", "client_id": "app", "client_secret": "s&cret", "scope": "openid"})
	r.good("JSON", got)
}

func TestAuth0ScopeIsSaidWhereItDiffers(t *testing.T) {
	r := opened(t, "auth0", nil)
	got := r.login("alice", "wonderland")
	if _, said := got.m["scope"]; said {
		t.Error("said as asked")
	}
	if _, said := r.grant("password", "username", "alice", "password", "wonderland").m["scope"]; !said {
		t.Error("not said where none was asked")
	}
	if r.refresh(got.text("refresh_token")).m["scope"] == nil {
		t.Error("not said at a refresh without scope")
	}
}

func TestAuth0BruteForce(t *testing.T) {
	for _, tc := range []struct {
		name   string
		trust  bool
		second int
	}{{"trusted", true, 200}, {"not trusted", false, 429}} {
		t.Run(tc.name, func(t *testing.T) {
			r := opened(t, "auth0", func(c *Config) { c.TrustForwardedFor = tc.trust })
			for range mostWrong {
				r.wants("wrong", r.token(password("alice", "x"), "auth0-forwarded-for", "192.0.2.1"), 403, "invalid_grant", "")
			}
			got := r.token(password("alice", "wonderland"), "auth0-forwarded-for", "192.0.2.1")
			r.wants("blocked", got, 429, "too_many_attempts", "")
			if got.header.Get("Retry-After") == "" || got.header.Get("X-RateLimit-Limit") == "" {
				t.Errorf("%v", got.header)
			}
			if got := r.token(password("alice", "wonderland"), "auth0-forwarded-for", "192.0.2.2"); got.status != tc.second {
				t.Errorf("from elsewhere: %d %s", got.status, got.body)
			}
			r.good("somebody else", r.token(password("bob", "builder"), "auth0-forwarded-for", "192.0.2.1"))
		})
	}
}

func TestAuth0RateLimit(t *testing.T) {
	r := opened(t, "auth0", func(c *Config) { c.RateLimit = 2 })
	for left := 1; left >= 0; left-- {
		if got := r.login("alice", "wonderland"); got.status != 200 || got.header.Get("X-RateLimit-Remaining") != strconv.Itoa(left) {
			t.Errorf("%d %v", got.status, got.header)
		}
	}
	got := r.login("alice", "wonderland")
	r.wants("over", got, 429, "too_many_requests", "")
	if got.header.Get("Retry-After") != "50" || got.header.Get("X-RateLimit-Reset") == "" {
		t.Errorf("%v", got.header)
	}
	r.Advance(50 * time.Second)
	r.good("a minute later", r.login("alice", "wonderland"))
}

func (r *rig) mfaToken(user string) string {
	r.t.Helper()
	got := r.login(user, "open-sesame")
	if got.text("error") != "mfa_required" || got.text("mfa_token") == "" {
		r.t.Fatalf("%d %s", got.status, got.body)
	}
	return got.text("mfa_token")
}

func (r *rig) challengeOf(token, types, id string) reply {
	r.t.Helper()
	return r.json("/mfa/challenge", map[string]string{
		"mfa_token": token, "client_id": "app", "client_secret": "s&cret", "challenge_type": types, "authenticator_id": id,
	})
}

func TestAuth0OTP(t *testing.T) {
	r := opened(t, "auth0", nil)
	token := r.mfaToken("otp")
	list := r.send("GET", "/mfa/authenticators", "", map[string]string{"Authorization": "Bearer " + token})
	if list.status != 200 || !strings.Contains(list.body, `"authenticator_type":"otp"`) || !strings.Contains(list.body, `"active":true`) {
		t.Errorf("%d %s", list.status, list.body)
	}
	if got := r.challengeOf(token, "otp oob", ""); got.text("challenge_type") != "otp" {
		t.Errorf("%d %s", got.status, got.body)
	}
	r.wants("none of that kind", r.challengeOf(token, "oob", ""), 400, "unsupported_challenge_type", "")
	otp := func(token, code string) reply { return r.grant(grantURI+"mfa-otp", "mfa_token", token, "otp", code) }
	r.wants("wrong", otp(token, "000000"), 403, "invalid_grant", "Invalid otp_code.")
	code := r.OTP("otp")
	r.amr(r.good("right", otp(token, code)), "pwd", "otp")
	r.wants("the token again", otp(token, r.OTP("otp")), 401, "invalid_grant", "Malformed mfa_token")
	token = r.mfaToken("otp")
	r.wants("the code again", otp(token, code), 403, "invalid_grant", "Invalid otp_code.")
	if other := r.OTP("otp"); other == code || other == "" {
		t.Errorf("the code of the step before: %q", other)
	}
	r.good("the step before", otp(token, r.OTP("otp")))
	if r.OTP("otp") != "" {
		t.Error("a code is left")
	}
	r.Advance(otpPeriod)
	token = r.mfaToken("otp")
	r.Advance(attemptLife + time.Second)
	r.wants("late", otp(token, r.OTP("otp")), 401, "expired_token", "mfa_token is expired")
	r.wants("malformed", otp("x", "000000"), 401, "invalid_grant", "Malformed mfa_token")
}

func TestAuth0OTPBucket(t *testing.T) {
	r := opened(t, "auth0", nil)
	token := r.mfaToken("otp")
	otp := func(code string) reply { return r.grant(grantURI+"mfa-otp", "mfa_token", token, "otp", code) }
	for range bucketSize {
		r.wants("wrong", otp("000000"), 403, "invalid_grant", "")
	}
	got := otp(r.OTP("otp"))
	r.wants("empty", got, 429, "too_many_attempts", "")
	if got.header.Get("Retry-After") != "360" {
		t.Errorf("%v", got.header)
	}
	r.Advance(codeRefill)
	r.good("one more", otp(r.OTP("otp")))
}

func TestAuth0SMS(t *testing.T) {
	var delivered []Message
	r := opened(t, "auth0", func(c *Config) { c.Deliver = func(m Message) { delivered = append(delivered, m) } })
	token := r.mfaToken("sms")
	got := r.challengeOf(token, "otp oob", "sms|2")
	if got.text("challenge_type") != "oob" || got.text("binding_method") != "prompt" || got.text("oob_code") == "" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if len(delivered) != 1 || delivered[0].To != "XXXXXXX5678" || delivered[0].Channel != "sms" || delivered[0].User != "sms" {
		t.Errorf("%+v", delivered)
	}
	oob := func(oob, code string) reply {
		return r.grant(grantURI+"mfa-oob", "mfa_token", token, "oob_code", oob, "binding_code", code)
	}
	r.wants("wrong", oob(got.text("oob_code"), "000000x"), 403, "invalid_grant", "Invalid binding_code.")
	old := delivered[0].Code
	again := r.challengeOf(token, "oob", "sms|2")
	r.wants("the first oob_code", oob(got.text("oob_code"), old), 403, "invalid_grant", "Invalid binding_code.")
	r.amr(r.good("right", oob(again.text("oob_code"), r.sentCode("sms"))), "pwd", "sms")
	token = r.mfaToken("sms")
	got = r.challengeOf(token, "oob", "email|sms")
	r.Advance(sentLife + time.Second)
	r.wants("a code after five minutes", oob(got.text("oob_code"), r.sentCode("sms")), 403, "invalid_grant", "")
	token = r.mfaToken("sms")
	for range bucketSize - 3 {
		r.challengeOf(token, "oob", "sms|1")
	}
	r.wants("the bucket of messages", r.challengeOf(token, "oob", "sms|1"), 429, "too_many_requests", "")
}

func TestAuth0Push(t *testing.T) {
	r := opened(t, "auth0", nil)
	r.people.change(mustUser(t, r.Provider, "bob").subject(), func(u *User) {
		u.MFA, u.Factors = true, []Factor{{ID: "p", Type: "push", Push: "reject_invalid_grant"}}
	})
	r.people.change(mustUser(t, r.Provider, "alice").subject(), func(u *User) {
		u.MFA, u.Factors = true, []Factor{{ID: "p", Type: "push", Push: "wait"}}
	})
	start := func(user, pass string) func() reply {
		token := r.login(user, pass).text("mfa_token")
		got := r.challengeOf(token, "oob", "")
		if got.text("oob_code") == "" || got.m["binding_method"] != nil {
			t.Fatalf("%d %s", got.status, got.body)
		}
		return func() reply { return r.grant(grantURI+"mfa-oob", "mfa_token", token, "oob_code", got.text("oob_code")) }
	}
	poll := start("push", "open-sesame")
	r.wants("first", poll(), 400, "authorization_pending", "")
	r.wants("at once", poll(), 400, "slow_down", "")
	r.Advance(5 * time.Second)
	r.wants("second", poll(), 400, "authorization_pending", "")
	r.Advance(5 * time.Second)
	r.amr(r.good("accepted", poll()), "pwd", "push")
	r.wants("rejected", start("refuser", "open-sesame")(), 400, "access_denied", "MFA Authorization rejected.")
	r.wants("rejected, the other way", start("bob", "builder")(), 400, "invalid_grant", "MFA Authorization rejected.")
	poll = start("alice", "wonderland")
	for range 20 {
		r.wants("never", poll(), 400, "authorization_pending", "")
		r.Advance(5 * time.Second)
	}
}

func mustUser(t *testing.T, p *Provider, name string) User {
	t.Helper()
	u, ok := p.named(name)
	if !ok {
		t.Fatalf("no user %s", name)
	}
	return u
}

func TestAuth0RecoveryCode(t *testing.T) {
	r := opened(t, "auth0", nil)
	by := func(code string) reply {
		return r.grant(grantURI+"mfa-recovery-code", "mfa_token", r.mfaToken("recover"), "recovery_code", code, "scope", "openid")
	}
	r.wants("wrong", by("AAAA-BBBB-CCCC"), 403, "invalid_grant", "")
	got := by("ABCD-EFGH-IJKL")
	r.amr(r.good("right", got), "pwd", "recovery_code")
	if got.text("recovery_code") == "" || got.text("recovery_code") == "ABCD-EFGH-IJKL" {
		t.Fatalf("%s", got.body)
	}
	r.wants("the old one", by("ABCD-EFGH-IJKL"), 403, "invalid_grant", "")
	r.good("the new one", by(got.text("recovery_code")))
}

func TestAuth0Enrolment(t *testing.T) {
	r := opened(t, "auth0", nil)
	associate := func(token string, body map[string]any) reply {
		return r.json("/mfa/associate", body, "Authorization", "Bearer "+token)
	}
	token := r.mfaToken("newcomer")
	if got := r.send("GET", "/mfa/authenticators", "", map[string]string{"Authorization": "Bearer " + token}); got.body != "[]\n" {
		t.Errorf("%s", got.body)
	}
	r.wants("nothing to challenge", r.challengeOf(token, "otp oob", ""), 400, "association_required", "")
	got := associate(token, map[string]any{"authenticator_types": []string{"oob"}, "oob_channels": []string{"sms"}, "phone_number": "+15550107777"})
	if got.text("oob_code") == "" || got.text("binding_method") != "prompt" || r.Messages("newcomer")[0].To != "+15550107777" {
		t.Errorf("%d %s", got.status, got.body)
	}
	got = associate(token, map[string]any{"authenticator_types": []string{"otp"}})
	codes, _ := got.m["recovery_codes"].([]any)
	if got.text("secret") == "" || !strings.HasPrefix(got.text("barcode_uri"), "otpauth://totp/") || len(codes) != 1 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if code := codeAt(got.text("secret"), r.now()); code != r.OTP("newcomer") {
		t.Error("OTP is not of the app that is enrolled")
	}
	r.amr(r.good("the first code", r.grant(grantURI+"mfa-otp", "mfa_token", token, "otp", r.OTP("newcomer"))), "pwd", "otp")
	token = r.mfaToken("newcomer")
	r.wants("another one", associate(token, map[string]any{"authenticator_types": []string{"otp"}}), 403, "access_denied", "already enrolled")
	r.good("the recovery code", r.grant(grantURI+"mfa-recovery-code", "mfa_token", token, "recovery_code", codes[0].(string)))
}

func TestAuth0Refresh(t *testing.T) {
	r := opened(t, "auth0", func(c *Config) { c.Leeway = 30 * time.Second })
	first := r.login("alice", "wonderland").text("refresh_token")
	second := r.refresh(first).text("refresh_token")
	fork := r.refresh(first).text("refresh_token") // inside the leeway
	if second == "" || fork == "" || fork == second {
		t.Fatal("no fork")
	}
	third := r.refresh(second).text("refresh_token") // the first child still works
	r.good("the fork", r.refresh(fork))
	r.wants("the one before the last", r.refresh(first), 403, "invalid_grant", "Unknown or invalid refresh token.")
	r.wants("the family is dead", r.refresh(third), 403, "invalid_grant", "Unknown or invalid refresh token.")
	first = r.login("alice", "wonderland").text("refresh_token")
	r.refresh(first)
	r.Advance(31 * time.Second)
	r.wants("after the leeway", r.refresh(first), 403, "invalid_grant", "Unknown or invalid refresh token.")
	r.wants("unknown", r.refresh("x"), 403, "invalid_grant", "Unknown or invalid refresh token.")
}

func TestAuth0FactorAtRefresh(t *testing.T) {
	r := opened(t, "auth0", nil)
	first := r.login("refresh", "open-sesame").text("refresh_token")
	first = r.refresh(first).text("refresh_token")
	r.SetMFAAtRefresh("refresh", true)
	got := r.refresh(first)
	r.wants("step-up", got, 403, "mfa_required", "")
	r.wants("and again: the token is not spent", r.refresh(first), 403, "mfa_required", "")
	done := r.grant(grantURI+"mfa-otp", "mfa_token", got.text("mfa_token"), "otp", r.OTP("refresh"))
	r.amr(r.good("shown", done), "pwd", "otp")
	r.amr(r.good("refreshed", r.refresh(done.text("refresh_token"))), "pwd", "otp")
}

func TestAuth0Logout(t *testing.T) {
	r := opened(t, "auth0", func(c *Config) {
		c.Clients = append(c.Clients, Client{ID: "other", PostLogoutRedirectURIs: []string{"http://other.test/"}})
	})
	for _, tc := range []struct {
		query  url.Values
		status int
		to     string
	}{
		{url.Values{"client_id": {"app"}, "returnTo": {"http://app.test/"}}, 303, "http://app.test/"},
		{url.Values{"client_id": {"app"}}, 303, "http://app.test/"},
		{url.Values{"client_id": {"app"}, "returnTo": {"http://other.test/"}}, 400, ""},
		{url.Values{"returnTo": {"http://other.test/"}}, 303, "http://other.test/"},
		{url.Values{"client_id": {"app"}, "returnTo": {"http://evil.test/"}}, 400, ""},
	} {
		got := r.send("GET", "/v2/logout?"+tc.query.Encode(), "", nil)
		if got.status != tc.status || got.header.Get("Location") != tc.to {
			t.Errorf("%v: %d %s", tc.query, got.status, got.header.Get("Location"))
		}
	}
	if got := r.send("POST", r.at.revoke, "", nil); got.status != http.StatusUnauthorized {
		t.Errorf("revocation without a client: %d", got.status)
	}
}
