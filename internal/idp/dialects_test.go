package idp

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDiscovery checks that each dialect's document names endpoints that answer.
func TestDiscovery(t *testing.T) {
	for _, tc := range []struct{ dialect, token, authorize, jwks, logout string }{
		{"generic", "/token", "/authorize", "/jwks", "/logout"},
		{"auth0", "/oauth/token", "/authorize", "/.well-known/jwks.json", ""},
		{"okta", "/oauth2/default/v1/token", "/oauth2/default/v1/authorize", "/oauth2/default/v1/keys", "/oauth2/default/v1/logout"},
		{"keycloak", "/realms/demo/protocol/openid-connect/token", "/realms/demo/protocol/openid-connect/auth", "/realms/demo/protocol/openid-connect/certs", "/realms/demo/protocol/openid-connect/logout"},
		{"entra", "/tenant/oauth2/v2.0/token", "/tenant/oauth2/v2.0/authorize", "/tenant/discovery/v2.0/keys", "/tenant/oauth2/v2.0/logout"},
		{"cognito", "/oauth2/token", "/oauth2/authorize", "/pool-demo/.well-known/jwks.json", ""},
		{"challenge", "/token", "/authorize", "/jwks", "/logout"},
	} {
		t.Run(tc.dialect, func(t *testing.T) {
			r := opened(t, tc.dialect, nil)
			got := r.send("GET", strings.TrimSuffix(issuers[tc.dialect], "/")+"/.well-known/openid-configuration", "", nil)
			for name, path := range map[string]string{"token_endpoint": tc.token, "authorization_endpoint": tc.authorize, "jwks_uri": tc.jwks, "end_session_endpoint": tc.logout} {
				want := ""
				if path != "" {
					want = r.server.URL + path
				}
				if got.text(name) != want {
					t.Errorf("%s: %s", name, got.text(name))
				}
			}
			if got.text("issuer") != r.Issuer {
				t.Errorf("issuer %s", got.text("issuer"))
			}
			if keys := r.send("GET", tc.jwks, "", nil); keys.status != 200 || !strings.Contains(keys.body, r.keyID()) {
				t.Errorf("%d %s", keys.status, keys.body)
			}
			if got := r.grant("refresh_token", "refresh_token", "x"); got.status < 400 || got.text("error") != "invalid_grant" {
				t.Errorf("%d %s", got.status, got.body)
			}
			if page := r.send("GET", tc.authorize, "", nil); page.status != 400 {
				t.Errorf("authorize: %d", page.status)
			}
			if challenge := got.text("authorization_challenge_endpoint"); (challenge != "") != (tc.dialect == "challenge") {
				t.Errorf("%q", challenge)
			}
		})
	}
}

// TestPasswordsElsewhere has each column of BFF-PEERS.md section 3.3 that has a password grant.
func TestPasswordsElsewhere(t *testing.T) {
	type row struct {
		user, pass  string
		status      int
		code, words string
		number      int
	}
	const sesame = "open-sesame"
	for dialect, rows := range map[string][]row{
		"generic": {
			{"alice", "x", 403, "invalid_grant", "", 0},
			{"locked", "out-of-luck", 401, "unauthorized", "blocked", 0},
			{"otp", sesame, 400, "mfa_required", "", 0},
			{"newcomer", sesame, 400, "mfa_required", "", 0},
			{"breached", sesame, 401, "password_leaked", "", 0},
			{"robot", sesame, 401, "requires_verification", "", 0},
			{"expired", sesame, 401, "password_expired", "", 0},
			{"consent", sesame, 403, "consent_required", "", 0},
			{"denied", sesame, 403, "access_denied", "", 0},
			{"unverified", sesame, 403, "access_denied", "", 0},
		},
		"okta": {
			{"alice", "x", 400, "invalid_grant", "The credentials provided were invalid.", 0},
			{"locked", "out-of-luck", 400, "invalid_grant", "The credentials provided were invalid.", 0},
			{"nobody", "x", 400, "invalid_grant", "The credentials provided were invalid.", 0},
			{"otp", sesame, 403, "mfa_required", "", 0},
			{"expired", sesame, 400, "access_denied", "Policy", 0},
			{"denied", sesame, 400, "access_denied", "Policy", 0},
			{"unverified", sesame, 400, "access_denied", "Policy", 0},
		},
		"keycloak": {
			{"alice", "x", 401, "invalid_grant", "Invalid user credentials", 0},
			{"locked", "out-of-luck", 400, "invalid_grant", "Account disabled", 0},
			{"otp", sesame, 401, "invalid_grant", "Invalid user credentials", 0},
			{"expired", sesame, 400, "invalid_grant", "Account is not fully set up", 0},
			{"unverified", sesame, 400, "invalid_grant", "Account is not fully set up", 0},
			{"newcomer", sesame, 400, "invalid_grant", "Account is not fully set up", 0},
			{"sms", sesame, 400, "invalid_grant", "Account is not fully set up", 0},
			{"consent", sesame, 400, "invalid_client", "", 0},
		},
		"entra": {
			{"alice", "x", 400, "invalid_grant", "AADSTS50126", 50126},
			{"locked", "out-of-luck", 400, "invalid_grant", "AADSTS50057", 50057},
			{"expired", sesame, 400, "invalid_grant", "AADSTS50055", 50055},
			{"otp", sesame, 400, "invalid_grant", "AADSTS50076", 50076},
			{"newcomer", sesame, 400, "invalid_grant", "AADSTS50079", 50079},
			{"consent", sesame, 400, "consent_required", "AADSTS65001", 65001},
			{"denied", sesame, 400, "invalid_grant", "AADSTS53003", 53003},
		},
		"cognito": {{"alice", "wonderland", 400, "unsupported_grant_type", "", 0}},
	} {
		t.Run(dialect, func(t *testing.T) {
			r := opened(t, dialect, nil)
			for _, tc := range rows {
				got := r.login(tc.user, tc.pass)
				if dialect == "cognito" {
					if got.status != tc.status || got.text("error") != tc.code {
						t.Errorf("%d %s", got.status, got.body)
					}
					continue
				}
				r.wants(tc.user, got, tc.status, tc.code, tc.words)
				codes, _ := got.m["error_codes"].([]any)
				if tc.number != 0 && (len(codes) != 1 || codes[0] != float64(tc.number) || got.text("trace_id") == "" || got.text("correlation_id") == "") {
					t.Errorf("%s: %s", tc.user, got.body)
				}
				if _, way := got.m["mfa_token"]; way != (dialect == "okta" && tc.code == "mfa_required") {
					t.Errorf("%s: %s", tc.user, got.body)
				}
			}
		})
	}
}

// TestLockedOut has what each dialect says after ten wrong passwords.
func TestLockedOut(t *testing.T) {
	for _, tc := range []struct {
		dialect     string
		status      int
		code, words string
	}{
		{"okta", 400, "invalid_grant", "The credentials provided were invalid."},
		{"keycloak", 401, "invalid_grant", "Invalid user credentials"},
		{"entra", 400, "invalid_grant", "AADSTS50053"},
		{"generic", 200, "", ""},
	} {
		r := opened(t, tc.dialect, nil)
		for range mostWrong {
			r.login("alice", "x")
		}
		r.wants(tc.dialect, r.login("alice", "wonderland"), tc.status, tc.code, tc.words)
	}
}

// TestRefreshElsewhere has the rules of BFF-PEERS.md section 3.5 for a second use of a refresh token.
func TestRefreshElsewhere(t *testing.T) {
	for _, tc := range []struct {
		dialect, rotation string
		again             string // what a second use of the first token says; "" = it works
		then              string // what the good token says then
		number            int
	}{
		{"generic", "", "invalid_grant", "invalid_grant", 0},
		{"okta", "", "", "", 0},
		{"keycloak", "", "", "", 0},
		{"entra", "", "", "", 0},
		{"keycloak", "rotate", "Maximum allowed refresh token reuse exceeded", "Session doesn't have required client", 0},
		{"entra", "rotate", "AADSTS70008", "AADSTS50173", 50173},
	} {
		t.Run(tc.dialect+tc.rotation, func(t *testing.T) {
			r := opened(t, tc.dialect, func(c *Config) { c.Rotation = tc.rotation })
			first := r.login("alice", "wonderland")
			second := r.refresh(first.text("refresh_token"))
			if second.text("refresh_token") == "" || second.text("refresh_token") == first.text("refresh_token") {
				t.Fatalf("%s", second.body)
			}
			for _, step := range []struct{ token, want string }{{first.text("refresh_token"), tc.again}, {second.text("refresh_token"), tc.then}} {
				got := r.refresh(step.token)
				if (got.status == 200) != (step.want == "") || !strings.Contains(got.body, step.want) {
					t.Errorf("%d %s", got.status, got.body)
				}
			}
			_, _, alive := r.CheckAccessToken(second.text("access_token"))
			if alive != (tc.again == "") {
				t.Errorf("the access token: %v", alive)
			}
		})
	}
	r := opened(t, "okta", nil)
	first := r.login("alice", "wonderland").text("refresh_token")
	r.refresh(first)
	r.Advance(31 * time.Second)
	r.wants("okta after its leeway", r.refresh(first), 400, "invalid_grant", "The refresh token is invalid or expired.")
	r = opened(t, "generic", func(c *Config) { c.Rotation = omit })
	first = r.login("alice", "wonderland").text("refresh_token")
	if got := r.refresh(first); got.status != 200 || got.m["refresh_token"] != nil {
		t.Errorf("%d %s", got.status, got.body)
	}
	r.people.change(mustUser(t, r.Provider, "alice").subject(), func(u *User) { u.Locked = true })
	r.wants("blocked since", r.refresh(first), 401, "unauthorized", "")
}

// TestFactorAtRefresh has what each dialect says if a refresh needs a second factor.
func TestFactorAtRefresh(t *testing.T) {
	for _, tc := range []struct {
		dialect     string
		status      int
		code, wayOn string
	}{
		{"generic", 400, "mfa_required", ""},
		{"okta", 403, "mfa_required", "mfa_token"},
		{"challenge", 403, "insufficient_authorization", "auth_session"},
		{"entra", 400, "interaction_required", "error_codes"},
		{"keycloak", 400, "invalid_grant", ""},
	} {
		r := opened(t, tc.dialect, nil)
		token := r.login("refresh", "open-sesame").text("refresh_token")
		r.SetMFAAtRefresh("refresh", true)
		got := r.refresh(token)
		r.wants(tc.dialect, got, tc.status, tc.code, "")
		if tc.wayOn != "" && got.m[tc.wayOn] == nil {
			t.Errorf("%s: %s", tc.dialect, got.body)
		}
		r.SetMFAAtRefresh("refresh", false)
		r.good(tc.dialect, r.refresh(token))
		r.SetMFAAtRefresh("alice", true) // is no such user
		r.good("alice", r.refresh(r.login("alice", "wonderland").text("refresh_token")))
	}
}

func TestOkta(t *testing.T) {
	r := opened(t, "okta", nil)
	both := grantURI + "mfa-oob " + grantURI + "mfa-otp"
	challenge := func(token, types, hint string) reply {
		form := url.Values{"mfa_token": {token}, "challenge_types_supported": {types}}
		if hint != "" {
			form.Set("channel_hint", hint)
		}
		return r.form("/oauth2/default/v1/challenge", form)
	}
	token := r.mfaToken("push")
	got := challenge(token, both, "push")
	if got.m["binding_method"] != "transfer" || got.m["binding_code"] != "42" || got.m["expires_in"] != 300.0 || got.m["interval"] != 5.0 || got.m["channel"] != "push" {
		t.Errorf("%s", got.body)
	}
	poll := func() reply {
		return r.grant(grantURI+"mfa-oob", "mfa_token", token, "oob_code", got.text("oob_code"))
	}
	r.wants("pending", poll(), 400, "authorization_pending", "")
	r.wants("fast", poll(), 400, "slow_down", "")
	r.Advance(6 * time.Second)
	poll()
	r.Advance(6 * time.Second)
	r.amr(r.good("accepted", poll()), "pwd", "push")
	token = r.mfaToken("sms")
	got = challenge(token, both, "sms")
	if got.m["binding_method"] != "prompt" || got.m["binding_code"] != nil {
		t.Errorf("%s", got.body)
	}
	oob := func(code string) reply {
		return r.grant(grantURI+"mfa-oob", "mfa_token", token, "oob_code", got.text("oob_code"), "binding_code", code)
	}
	r.wants("wrong", oob("x"), 400, "invalid_grant", "passcode")
	r.good("right", oob(r.sentCode("sms")))
	r.wants("nothing of the kind", challenge(r.mfaToken("sms"), both, "voice"), 400, "unsupported_challenge_type", "")
	if got := challenge(r.mfaToken("otp"), both, ""); got.text("challenge_type") != grantURI+"mfa-otp" {
		t.Errorf("%s", got.body)
	}
	r.good("otp", r.grant(grantURI+"mfa-otp", "mfa_token", r.mfaToken("otp"), "otp", r.OTP("otp")))
	r.people.change(mustUser(t, r.Provider, "refuser").subject(), func(u *User) { u.Factors[0].Number = "" })
	token = r.mfaToken("refuser")
	if got = challenge(token, both, "push"); got.m["binding_method"] != "none" {
		t.Errorf("%s", got.body)
	}
	r.wants("refused", poll(), 400, "access_denied", "rejected")
	r.wants("a token of before", challenge("x", both, "push"), 400, "invalid_grant", "mfa_token")
	if got := r.send("GET", "/oauth2/default/v1/logout?client_id=app", "", nil); got.status != 400 {
		t.Errorf("logout without a hint: %d", got.status)
	}
	hint := r.login("alice", "wonderland").text("id_token")
	q := url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"http://app.test/"}, "state": {"s"}}
	if got := r.send("GET", "/oauth2/default/v1/logout?"+q.Encode(), "", nil); got.header.Get("Location") != "http://app.test/?state=s" {
		t.Errorf("logout: %d %v", got.status, got.header)
	}
}

func TestKeycloak(t *testing.T) {
	r := opened(t, "keycloak", nil)
	got := r.login("alice", "wonderland")
	claims := r.good("alice", got)
	if got.m["refresh_expires_in"] == nil || got.text("session_state") == "" || claims["sid"] != got.m["session_state"] || got.m["not-before-policy"] != 0.0 {
		t.Errorf("%s", got.body)
	}
	totp := func(code string) reply {
		form := password("otp", "open-sesame")
		form.Set("totp", code)
		return r.token(form)
	}
	r.wants("a wrong code", totp("000000"), 401, "invalid_grant", "Invalid user credentials")
	r.amr(r.good("a right code", totp(r.OTP("otp"))), "pwd", "otp")
	if out := r.form(r.at.logout, url.Values{"refresh_token": {got.text("refresh_token")}}); out.status != 204 {
		t.Errorf("logout: %d %s", out.status, out.body)
	}
	r.wants("after it", r.refresh(got.text("refresh_token")), 400, "invalid_grant", "Session doesn't have required client")
	r.wants("again", r.form(r.at.logout, url.Values{"refresh_token": {got.text("refresh_token")}}), 400, "invalid_grant", "")
	if got := r.send("GET", r.at.logout, "", nil); got.status != 200 || got.header.Get("Location") != "" {
		t.Errorf("logout without a client: %d", got.status)
	}
}

func TestEntra(t *testing.T) {
	r := opened(t, "entra", nil)
	got := r.login("alice", "wonderland")
	if got.m["ext_expires_in"] != got.m["expires_in"] {
		t.Errorf("%s", got.body)
	}
	if got := r.grant("password", "username", "alice", "password", "wonderland", "scope", "profile"); got.m["id_token"] != nil || got.m["refresh_token"] != nil {
		t.Errorf("%s", got.body)
	}
	for to, want := range map[string]int{"http://app.test/": 303, "http://evil.test/": 400, "": 200} {
		if got := r.send("GET", r.at.logout+"?post_logout_redirect_uri="+url.QueryEscape(to), "", nil); got.status != want {
			t.Errorf("%s: %d", to, got.status)
		}
	}
	doc := r.send("GET", "/tenant/v2.0/.well-known/openid-configuration", "", nil)
	if doc.m["revocation_endpoint"] != nil {
		t.Error("Entra has no revocation endpoint")
	}
}

// Witness is told every secret, and the log holds none.
func TestSecretsAreWitnessed(t *testing.T) {
	for _, dialect := range []string{"auth0", "okta"} {
		var told []string
		r := opened(t, dialect, func(c *Config) { c.Witness = func(_, value string) { told = append(told, value) } })
		token := r.mfaToken("otp")
		code := r.OTP("otp")
		done := r.grant(grantURI+"mfa-otp", "mfa_token", token, "otp", code)
		r.good(dialect, done)
		for _, secret := range []string{"open-sesame", token, code, done.text("access_token"), done.text("refresh_token"), done.text("id_token")} {
			if !slices.Contains(told, secret) {
				t.Errorf("%s was not told", secret)
			}
		}
		log, err := json.Marshal(r.Requests())
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range told {
			if strings.Contains(string(log), secret) {
				t.Errorf("the log holds %s", secret)
			}
		}
	}
}
