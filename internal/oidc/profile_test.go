package oidc

import (
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// TestPasswordByteExact: whatever a person types goes to the provider as it was typed.
func TestPasswordByteExact(t *testing.T) {
	for _, password := range []string{
		"+&%= ;#?/\\\"'<>", " spaces around ", norm.NFC.String("Zoë ü Å"), norm.NFD.String("Zoë ü Å"), "密码🔑", "a\x00b\r\n\t", "\xff\xfe", "%41%zz", "", strings.Repeat("x", 10000),
	} {
		for _, method := range []string{clientSecretBasic, clientSecretPost} {
			f := newFake(t)
			p := f.provider(func(c *Config) { c.ClientAuth = method })
			user := "ünïcode+" + password
			x, err := p.Password(t.Context(), PasswordRequest{Username: user, Password: password})
			if err != nil || x.Claims.Subject != "alice" {
				t.Fatal(err)
			}
			form, err := url.ParseQuery(f.to("/token")[0].body)
			if err != nil || form.Get("password") != password || form.Get("username") != user || form.Get("grant_type") != "password" || form.Get("scope") != "openid offline_access" {
				t.Errorf("sent %q for %q", form, password)
			}
			if n := len(f.to("/token")); n != 1 {
				t.Errorf("%d requests", n)
			}
		}
	}
}

// TestPasswordNeedsIDToken: without an ID token nobody is known, so nobody is logged in.
func TestPasswordNeedsIDToken(t *testing.T) {
	f := newFake(t)
	f.token(200, f.tokens(fields{"id_token": nil}))
	x, err := f.provider(nil).Password(t.Context(), PasswordRequest{Username: "alice", Password: "hunter2"})
	if e := wantError(t, err, Rejected, "missing"); e.Reason != ReasonConfig || !reflect.DeepEqual(x.Tokens, TokenSet{}) {
		t.Errorf("reason %s", e.Reason)
	}
}

// TestPasswordRequests: what the profiles add to the request.
func TestPasswordRequests(t *testing.T) {
	for _, c := range []struct {
		profile, realm, address string
		grant, forwarded, name  string
	}{
		{"generic", "", "203.0.113.7", "password", "", "resource"},
		{"generic", "users", "203.0.113.7", "password", "", "resource"},
		{"keycloak", "", "203.0.113.7", "password", "", "resource"},
		{"auth0", "", "203.0.113.7", "password", "203.0.113.7", "audience"},
		{"auth0", "users", "::ffff:203.0.113.7", "http://auth0.com/oauth/grant-type/password-realm", "203.0.113.7", "audience"},
		{"auth0", "", "2001:db8::1%eth0", "password", "2001:db8::1", "audience"},
		{"auth0", "", "invalid IP", "password", "", "audience"},
		{"auth0", "", "1.2.3.4, 5.6.7.8", "password", "", "audience"},
		{"auth0", "", "", "password", "", "audience"},
	} {
		f := newFake(t)
		p := f.provider(func(o *Config) { o.Profile, o.Realm, o.Audience = c.profile, c.realm, "https://api.example" })
		if _, err := p.Password(t.Context(), PasswordRequest{Username: "alice", Password: "hunter2", ClientAddress: c.address}); err != nil {
			t.Fatal(err)
		}
		sent := f.to("/token")[0]
		form, _ := url.ParseQuery(sent.body)
		realm := ""
		if c.profile == "auth0" {
			realm = c.realm
		}
		if form.Get("grant_type") != c.grant || form.Get("realm") != realm || form.Get(c.name) != "https://api.example" || sent.header.Get("auth0-forwarded-for") != c.forwarded {
			t.Errorf("%+v: sent %v %q", c, form, sent.header.Get("auth0-forwarded-for"))
		}
		if form.Has("audience") && form.Has("resource") {
			t.Error("both audience and resource")
		}
	}
}

// TestPasswordReasons has the answers of BFF-PEERS.md sections 3.1 and 3.3 and what they mean for the person.
func TestPasswordReasons(t *testing.T) {
	entra := func(number string) string {
		return `{"error":"invalid_grant","error_description":"AADSTS` + number + `: x","error_codes":[` + number + `]}`
	}
	for _, c := range []struct {
		profile string
		status  int
		body    string
		want    Reason
		kind    Kind
	}{
		{"generic", 400, `{"error":"invalid_grant"}`, ReasonInvalidCredentials, Definitive},
		{"generic", 401, `{"error":"access_denied"}`, ReasonInvalidCredentials, Definitive},
		{"generic", 403, `{"error":"access_denied"}`, ReasonAccessDenied, Definitive},
		{"generic", 403, `{"error":"mfa_required","mfa_token":"hunter2"}`, ReasonSecondFactor, StepUp},
		{"generic", 400, `{"error":"interaction_required"}`, ReasonPolicy, StepUp},
		{"generic", 401, `{"error":"invalid_client"}`, ReasonConfig, Misconfigured},
		{"generic", 400, `{"error":"invalid_request"}`, ReasonConfig, Misconfigured},
		{"generic", 400, `{"error":"invalid_target"}`, ReasonConfig, Misconfigured},
		{"generic", 400, `{"error":"slow_down"}`, ReasonRateLimited, Transient},
		{"generic", 429, ``, ReasonRateLimited, Transient},
		{"generic", 503, `{"error":"temporarily_unavailable"}`, ReasonUnavailable, Transient},
		{"generic", 501, `{"error":"unsupported_grant_type"}`, ReasonUnavailable, Transient},
		{"generic", 502, `<html>`, ReasonUnavailable, Ambiguous},
		{"generic", 401, ``, ReasonConfig, Misconfigured},
		// Only Auth0 is known to check the password first: elsewhere these words tell strangers who has an account.
		{"generic", 401, `{"error":"unauthorized","error_description":"user is blocked"}`, ReasonPolicy, Misconfigured},
		{"generic", 401, `{"error":"password_leaked"}`, ReasonPolicy, Misconfigured},
		{"auth0", 403, `{"error":"invalid_grant","error_description":"Wrong email or password."}`, ReasonInvalidCredentials, Definitive},
		{"auth0", 401, `{"error":"invalid_user_password"}`, ReasonInvalidCredentials, Definitive},
		{"auth0", 401, `{"error":"unauthorized","error_description":"user is blocked"}`, ReasonAccountBlocked, Definitive},
		{"auth0", 403, `{"code":"blocked_user","description":{"x":1},"name":"E"}`, ReasonAccountBlocked, Definitive},
		{"auth0", 401, `{"error":"password_leaked"}`, ReasonPasswordBreached, Definitive},
		{"auth0", 401, `{"error":"requires_verification"}`, ReasonCaptcha, StepUp},
		{"auth0", 401, `{"error":"requires_validation"}`, ReasonCaptcha, StepUp},
		{"auth0", 401, `{"code":"password_expired"}`, ReasonPasswordExpired, StepUp},
		{"auth0", 429, `{"error":"too_many_attempts"}`, ReasonRateLimited, Transient},
		{"auth0", 429, `{"error":"too_many_requests"}`, ReasonRateLimited, Transient},
		{"auth0", 403, `{"error":"mfa_required"}`, ReasonSecondFactor, StepUp},
		{"auth0", 403, `{"error":"access_denied","error_description":"by a Rule"}`, ReasonAccessDenied, Definitive},
		{"auth0", 401, `{"error":"access_denied"}`, ReasonConfig, Misconfigured},
		{"auth0", 403, `{"error":"unauthorized_client"}`, ReasonConfig, Misconfigured},
		{"keycloak", 401, `{"error":"invalid_grant","error_description":"Invalid user credentials"}`, ReasonInvalidCredentials, Definitive},
		{"keycloak", 400, `{"error":"invalid_grant","error_description":"Account disabled"}`, ReasonInvalidCredentials, Definitive},
		{"keycloak", 400, `{"error":"invalid_grant","error_description":"Account is not fully set up"}`, ReasonPolicy, StepUp},
		{"generic", 400, `{"error":"invalid_grant","error_description":"Account is not fully set up"}`, ReasonInvalidCredentials, Definitive},
		{"okta", 400, `{"error":"invalid_grant","error_description":"The credentials provided were invalid."}`, ReasonInvalidCredentials, Definitive},
		{"okta", 403, `{"error":"mfa_required","mfa_token":"x"}`, ReasonSecondFactor, StepUp},
		{"entra", 400, entra("50126"), ReasonInvalidCredentials, Definitive},
		{"entra", 400, entra("50034"), ReasonInvalidCredentials, Definitive},
		{"entra", 400, entra("50053"), ReasonInvalidCredentials, Definitive},
		{"entra", 400, entra("50057"), ReasonInvalidCredentials, Definitive},
		{"entra", 400, entra("50055"), ReasonPasswordExpired, StepUp},
		{"entra", 400, entra("50076"), ReasonSecondFactor, StepUp},
		{"entra", 400, entra("65001"), ReasonConsent, StepUp},
		{"generic", 400, `{"error":"consent_required"}`, ReasonConsent, StepUp},
		{"generic", 403, `{"error":"insufficient_authorization"}`, ReasonSecondFactor, StepUp},
		{"entra", 400, entra("50158"), ReasonPolicy, StepUp},
		{"entra", 400, entra("53003"), ReasonPolicy, StepUp},
		{"entra", 400, entra("50142"), ReasonPasswordExpired, StepUp},
		{"keycloak", 400, `{"error":"invalid_client","error_description":"Client requires user consent"}`, ReasonConsent, StepUp},
		{"keycloak", 401, `{"error":"invalid_client","error_description":"Invalid client or Invalid client credentials"}`, ReasonConfig, Misconfigured},
		{"cognito", 400, `{"error":"invalid_grant"}`, ReasonInvalidCredentials, Definitive},
	} {
		t.Run(c.profile+" "+c.body, func(t *testing.T) {
			f := newFake(t)
			f.token(c.status, c.body)
			_, err := f.provider(func(o *Config) { o.Profile = c.profile }).Password(t.Context(), PasswordRequest{Username: "alice", Password: "hunter2"})
			if e := wantError(t, err, c.kind, ""); e.Reason != c.want {
				t.Errorf("reason %s, want %s", e.Reason, c.want)
			}
			if n := len(f.to("/token")); n != 1 {
				t.Errorf("the password was sent %d times", n)
			}
		})
	}
}

// TestRefreshRules: what a refusal of a refresh means where a provider has words of its own.
func TestRefreshRules(t *testing.T) {
	for _, c := range []struct {
		profile string
		status  int
		body    string
		want    Kind
		meaning Meaning
	}{
		{"auth0", 403, `{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}`, Definitive, MeaningUnknown},
		{"auth0", 401, `{"error":"access_denied"}`, Misconfigured, ""}, // a wrong client secret must end no session
		{"auth0", 403, `{"error":"access_denied"}`, Definitive, ""},
		{"auth0", 403, `{"error":"unauthorized","error_description":"user is blocked"}`, Definitive, MeaningBlocked},
		{"auth0", 401, `{"error":"unauthorized"}`, Misconfigured, ""},
		{"auth0", 403, `{"error":"mfa_required"}`, StepUp, ""},
		{"auth0", 429, `{"error":"too_many_requests"}`, Transient, ""},
		{"generic", 401, `{"error":"access_denied"}`, Misconfigured, ""},
		{"keycloak", 400, `{"error":"invalid_grant","error_description":"Session not active"}`, Definitive, MeaningSessionOver},
		{"keycloak", 401, `{"error":"unauthorized_client"}`, Misconfigured, ""},
		{"entra", 400, `{"error":"invalid_grant","error_codes":[700082]}`, Definitive, MeaningExpired},
		{"entra", 400, `{"error":"invalid_grant","error_codes":[50173]}`, Definitive, MeaningRevoked},
		{"entra", 400, `{"error":"invalid_grant","error_codes":[50076]}`, StepUp, ""},
		{"entra", 400, `{"error":"invalid_grant","error_codes":["50076"]}`, Definitive, ""},
		{"keycloak", 400, `{"error":"invalid_grant","error_description":"Maximum allowed refresh token reuse exceeded"}`, Definitive, MeaningReused},
		{"keycloak", 400, `{"error":"invalid_grant","error_description":"Stale token"}`, Definitive, MeaningReused},
		{"keycloak", 400, `{"error":"invalid_grant","error_description":"Session doesn't have required client"}`, Definitive, MeaningSessionOver},
		{"keycloak", 400, `{"error":"invalid_grant","error_description":"Token is not active"}`, Definitive, MeaningExpired},
		{"keycloak", 400, `{"error":"invalid_grant","error_description":"User disabled"}`, Definitive, MeaningBlocked},
		{"generic", 400, `{"error":"invalid_grant","error_description":"Stale token"}`, Definitive, ""},
		{"entra", 400, `{"error":"invalid_grant","error_codes":[70008]}`, Definitive, MeaningExpired},
		{"entra", 400, `{"error":"invalid_grant","error_codes":[50057]}`, Definitive, MeaningBlocked},
		{"okta", 400, `{"error":"invalid_grant","error_description":"The refresh token is invalid or expired."}`, Definitive, ""},
		{"cognito", 400, `{"error":"invalid_grant"}`, Definitive, ""},
	} {
		f := newFake(t)
		f.token(c.status, c.body)
		_, err := f.provider(func(o *Config) { o.Profile = c.profile }).Refresh(t.Context(), TokenSet{Refresh: "rt-1"}, Target{}, Expect{})
		if e := wantError(t, err, c.want, ""); e.Meaning != c.meaning {
			t.Errorf("%s %s: meaning %q, want %q", c.profile, c.body, e.Meaning, c.meaning)
		}
	}
}

// TestProfilesAreAll: the configuration's words and our table are the same.
func TestProfilesAreAll(t *testing.T) {
	for _, name := range []string{"auth0", "keycloak", "okta", "entra", "cognito", "generic"} {
		if _, ok := profiles[name]; !ok {
			t.Errorf("no profile %s", name)
		}
	}
	if p := New(Config{Profile: ""}); p.profile.audienceParameter() != "resource" || p.HTTP.CheckRedirect == nil || http.DefaultClient.CheckRedirect != nil {
		t.Error("no profile is not the generic one")
	}
}
