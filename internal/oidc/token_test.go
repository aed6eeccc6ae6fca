package oidc

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloakroom/cloakroom/config"
)

// TestCodeRequest checks the request byte for byte, with both client authentications.
func TestCodeRequest(t *testing.T) {
	const plain = "code=code-1&code_verifier=" + verifier + "&grant_type=authorization_code&redirect_uri=http%3A%2F%2Flocalhost%3A8080%2Fauth%2Fcallback"
	const encoded = "s3cret+%2B%26%25%3D%2F%C3%BC"
	for method, want := range map[string]recorded{
		clientSecretBasic: {body: plain, header: http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("app%3A1:"+encoded))}}},
		clientSecretPost:  {body: "client_id=app%3A1&client_secret=" + encoded + "&" + plain},
	} {
		t.Run(method, func(t *testing.T) {
			f := newFake(t)
			f.token(200, f.tokens(fields{"id_token": token(nil, fields{"aud": "app:1"})}))
			p := f.provider(func(c *Config) { c.ClientAuth, c.ClientID = method, "app:1" })
			x, err := exchange(t, p, Expect{Nonce: "n-1"})
			if err != nil {
				t.Fatal(err)
			}
			got := f.to("/token")[0]
			decodedForm, _ := url.ParseQuery(got.body)
			sorted, _ := url.ParseQuery(want.body)
			if d := cmp.Diff(sorted, decodedForm); d != "" || len(got.body) != len(want.body) {
				t.Errorf("body %q %s", got.body, d)
			}
			if a := got.header.Get("Authorization"); a != want.header.Get("Authorization") {
				t.Errorf("authorization %q", a)
			}
			if got.method != "POST" || got.header.Get("Content-Type") != "application/x-www-form-urlencoded" || got.header.Get("Accept") != "application/json" {
				t.Errorf("%s %v", got.method, got.header)
			}
			tokens := x.Tokens
			if tokens.Access != "at-1" || tokens.Refresh != "rt-1" || tokens.TokenType != "bEaReR" || tokens.ID == "" || !tokens.RefreshEnd.IsZero() {
				t.Error("tokens are wrong")
			}
			if d := tokens.Expires.Sub(tokens.Obtained); d != 300*time.Second || time.Since(tokens.Obtained) > time.Minute {
				t.Errorf("life %v", d)
			}
		})
	}
}

// TestLives has every spelling of a life that providers, or attackers, may choose.
func TestLives(t *testing.T) {
	for raw, want := range map[string]time.Duration{
		`300`: 300 * time.Second, `"300"`: 300 * time.Second, `300.5`: 300500 * time.Millisecond, `3e2`: 300 * time.Second,
		`0`: 0, `-5`: 0, `"-5"`: 0, `null`: 0, `""`: 0, `"soon"`: 0, `{}`: 0, `[300]`: 0, `true`: 0, `"\"300\""`: 0, `"0x10"`: 0, `"Inf"`: 0, `"NaN"`: 0,
		`99999999999999999999`: maxLife, `1e300`: maxLife, `1e400`: maxLife, `"1e400"`: maxLife, `-1e400`: 0,
	} {
		if got := (object{"x": json.RawMessage(raw)}).seconds("x"); got != want {
			t.Errorf("%s: %v, want %v", raw, got, want)
		}
	}
	if (object{}).seconds("x") != 0 {
		t.Error("absent is not unknown")
	}
	f := newFake(t)
	for name, want := range map[string]time.Duration{"refresh_expires_in": 1800 * time.Second, "refresh_token_expires_in": 1800 * time.Second} {
		f.token(200, f.tokens(fields{name: 1800, "expires_in": nil}))
		x, err := exchange(t, f.provider(nil), Expect{})
		if err != nil || x.Tokens.RefreshEnd.Sub(x.Tokens.Obtained) != want || !x.Tokens.Expires.IsZero() {
			t.Errorf("%s: %v %v", name, x.Tokens.RefreshEnd, err)
		}
	}
	f.token(200, f.tokens(fields{"refresh_expires_in": 0}))
	if x, _ := exchange(t, f.provider(nil), Expect{}); !x.Tokens.RefreshEnd.IsZero() {
		t.Error("0 is not unknown") // Keycloak says it of offline tokens
	}
}

// TestTokenAnswers has an answer per row and what it means, the same for code and refresh unless said.
func TestTokenAnswers(t *testing.T) {
	f := newFake(t)
	oauth := func(code string) string { return fmt.Sprintf(`{"error":%q,"error_description":"x"}`, code) }
	for _, c := range []struct {
		name    string
		status  int
		body    any
		kind    Kind
		code    string
		refresh Kind
	}{
		{"invalid_grant", 400, oauth("invalid_grant"), Definitive, "invalid_grant", Definitive},
		{"invalid_grant with 401", 401, oauth("invalid_grant"), Definitive, "invalid_grant", Definitive},
		{"invalid_grant with 200", 200, oauth("invalid_grant"), Definitive, "invalid_grant", Definitive},
		{"an error beside tokens", 200, f.tokens(fields{"error": "invalid_grant"}), Definitive, "invalid_grant", Definitive},
		{"access_denied", 403, oauth("access_denied"), Definitive, "access_denied", Misconfigured},
		{"mfa_required", 403, oauth("mfa_required"), StepUp, "mfa_required", StepUp},
		{"interaction_required", 400, oauth("interaction_required"), StepUp, "interaction_required", StepUp},
		{"login_required", 400, oauth("login_required"), StepUp, "login_required", StepUp},
		{"consent_required", 400, oauth("consent_required"), StepUp, "consent_required", StepUp},
		{"account_selection_required", 400, oauth("account_selection_required"), StepUp, "account_selection_required", StepUp},
		{"insufficient_authorization", 403, oauth("insufficient_authorization"), StepUp, "insufficient_authorization", StepUp},
		{"temporarily_unavailable", 503, oauth("temporarily_unavailable"), Transient, "temporarily_unavailable", Transient},
		{"server_error", 500, oauth("server_error"), Transient, "server_error", Transient},
		{"slow_down", 400, oauth("slow_down"), Transient, "slow_down", Transient},
		{"429 and a code", 429, oauth("too_many_attempts"), Transient, "too_many_attempts", Transient},
		{"429 and invalid_grant", 429, oauth("invalid_grant"), Transient, "invalid_grant", Transient},
		{"429 and HTML", 429, "<html>", Transient, "", Transient},
		{"invalid_client", 401, oauth("invalid_client"), Misconfigured, "invalid_client", Misconfigured},
		{"unauthorized_client", 400, oauth("unauthorized_client"), Misconfigured, "unauthorized_client", Misconfigured},
		{"invalid_scope", 400, oauth("invalid_scope"), Misconfigured, "invalid_scope", Misconfigured},
		{"invalid_request", 400, oauth("invalid_request"), Misconfigured, "invalid_request", Misconfigured},
		{"unsupported_grant_type", 400, oauth("unsupported_grant_type"), Misconfigured, "unsupported_grant_type", Misconfigured},
		{"unsupported_grant_type with 501", 501, oauth("unsupported_grant_type"), Transient, "unsupported_grant_type", Transient},
		{"a code nobody knows", 400, oauth("oops"), Misconfigured, "oops", Misconfigured},
		{"the other shape of an error", 400, `{"code":"invalid_grant","description":{"rules":[]},"name":"Error"}`, Definitive, "invalid_grant", Definitive},
		{"401 and nothing", 401, "", Misconfigured, "", Misconfigured},
		{"a framework's error", 500, `{"status":500,"error":"Internal Server Error"}`, Ambiguous, "", Ambiguous},
		{"a code nobody knows with 500", 500, oauth("oops"), Ambiguous, "oops", Ambiguous},
		{"an error that is no text", 400, `{"error":{"code":1}}`, Ambiguous, "", Ambiguous},
		{"an error of HTML", 400, `{"error":"<script>alert(1)</script>"}`, Ambiguous, "", Ambiguous},
		{"error twice", 400, `{"error":"invalid_grant","error":"slow_down"}`, Ambiguous, "", Ambiguous},
		{"HTML", 200, "<html>", Ambiguous, "", Ambiguous},
		{"HTML with 400", 400, "<html>", Ambiguous, "", Ambiguous},
		{"HTML with 502", 502, "<html>bad gateway", Ambiguous, "", Ambiguous},
		{"nothing with 504", 504, "", Ambiguous, "", Ambiguous},
		{"nothing", 200, "", Ambiguous, "", Ambiguous},
		{"tokens with 500", 500, f.tokens(nil), Ambiguous, "", Ambiguous},
		{"half of an answer", 200, `{"access_token":"at-1","token_type":`, Ambiguous, "", Ambiguous},
		{"something after it", 200, `{"access_token":"at-1","token_type":"Bearer"} x`, Ambiguous, "", Ambiguous},
		{"access_token twice", 200, `{"access_token":"a","token_type":"Bearer","access_token":"at-1"}`, Ambiguous, "", Ambiguous},
		{"Access_Token", 200, `{"Access_Token":"at-1","token_type":"Bearer"}`, Ambiguous, "", Ambiguous},
		{"no access token", 200, f.tokens(fields{"access_token": nil}), Ambiguous, "", Ambiguous},
		{"access token a number", 200, f.tokens(fields{"access_token": 1}), Rejected, "access_token", Rejected},
		{"refresh token a list", 200, f.tokens(fields{"refresh_token": []int{1}}), Rejected, "refresh_token", Rejected},
		{"line break in a token", 200, f.tokens(fields{"access_token": "a\r\nX: y"}), Rejected, "token_characters", Rejected},
		{"space in a token", 200, f.tokens(fields{"access_token": "a b"}), Rejected, "token_characters", Rejected},
		{"umlaut in a refresh token", 200, f.tokens(fields{"refresh_token": "ü"}), Rejected, "token_characters", Rejected},
		{"token_type mac", 200, f.tokens(fields{"token_type": "mac"}), Rejected, "token_type", Rejected},
		{"token_type DPoP", 200, f.tokens(fields{"token_type": "DPoP"}), Rejected, "token_type", Rejected},
		{"no token_type", 200, f.tokens(fields{"token_type": nil}), Rejected, "token_type", Rejected},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			f.token(c.status, c.body)
			p := f.provider(nil)
			x, err := exchange(t, p, Expect{})
			e := wantError(t, err, c.kind, c.code)
			if e.Code != c.code || e.Status != c.status || e.Act != "authorization_code" {
				t.Errorf("code %q, status %d, act %q", e.Code, e.Status, e.Act)
			}
			if !reflect.DeepEqual(x.Tokens, TokenSet{}) {
				t.Error("tokens came back")
			}
			x, err = p.Refresh(t.Context(), TokenSet{Refresh: "rt-0"}, Target{}, Expect{})
			wantError(t, err, c.refresh, c.code)
			if !reflect.DeepEqual(x.Tokens, TokenSet{}) {
				t.Error("tokens came back")
			}
			want := strings.TrimSpace(c.refresh.String() + " " + c.code)
			if got := f.outcomes("refresh_token"); len(got) != 1 || got[0] != want {
				t.Errorf("events %q, want %q", got, want)
			}
			if n := len(f.to("/token")); n != 2 {
				t.Errorf("%d requests for 2 grants", n)
			}
		})
	}
}

// TestRefresh: what the provider leaves out keeps its value, and the ID token is of the same person.
func TestRefresh(t *testing.T) {
	now := time.Now()
	old := TokenSet{Access: "at-0", Refresh: "rt-0", ID: "old", Scope: "openid", RefreshEnd: now.Add(time.Hour), Expires: now, Generation: 7}
	f := newFake(t)
	p := f.provider(nil)
	expect := Expect{Issuer: issuer, Subject: "alice", AuthTime: now}

	f.token(200, fields{"access_token": "at-1", "token_type": "Bearer", "refresh_token": nil, "id_token": nil})
	x, err := p.Refresh(t.Context(), old, Target{}, expect)
	if err != nil {
		t.Fatal(err)
	}
	got := x.Tokens
	if got.Access != "at-1" || got.Refresh != "rt-0" || got.ID != "old" || got.Scope != "openid" || !got.RefreshEnd.Equal(old.RefreshEnd) ||
		!got.Expires.IsZero() || got.Generation != 8 || x.Claims.Subject != "" {
		t.Error("an omitted field lost its value, or Expires was kept")
	}
	if body := f.to("/token")[0].body; body != "grant_type=refresh_token&refresh_token=rt-0" {
		t.Errorf("body %q", body)
	}

	f.token(200, f.tokens(fields{"scope": []string{"openid", "email"}, "id_token": token(nil, fields{"nonce": nil, "auth_time": now.Unix()})}))
	x, err = p.Refresh(t.Context(), old, Target{}, expect)
	if err != nil || x.Tokens.Refresh != "rt-1" || x.Tokens.ID == "old" || x.Claims.Subject != "alice" || x.Tokens.Scope != "openid email" || !x.Tokens.RefreshEnd.IsZero() {
		t.Error("a full answer was not taken", err)
	}

	for rule, bad := range map[string]string{
		"subject_changed": token(nil, fields{"sub": "mallory"}),
		"iss":             token(nil, fields{"iss": "http://evil.example"}),
		"aud":             token(nil, fields{"aud": "other"}),
		"azp":             token(nil, fields{"azp": "other"}),
		"auth_time":       token(nil, fields{"auth_time": now.Unix() + 61}),
		"signature":       signed(nil, nil, keys().otherRSA),
		"exp":             token(nil, fields{"exp": in(-time.Hour)}),
		"at_hash":         token(nil, fields{"at_hash": "x"}),
		"form":            "x",
	} {
		f.token(200, f.tokens(fields{"id_token": bad}))
		e := expect
		if rule == "auth_time" {
			e.AuthTime = now.Add(-time.Second)
		}
		x, err := p.Refresh(t.Context(), old, Target{}, e)
		wantError(t, err, Rejected, rule)
		if x.Tokens.Access != "at-1" || x.Tokens.Refresh != "rt-1" || x.Tokens.ID != "old" || x.Tokens.Generation != 8 || x.Claims.Subject != "" {
			t.Errorf("%s: the tokens are lost, or the ID token was believed", rule)
		}
	}
	// Keycloak tells of later logins of the same person.
	f.token(200, f.tokens(fields{"id_token": token(nil, fields{"auth_time": now.Unix()})}))
	keycloak := f.provider(func(c *Config) { c.Profile = "keycloak" })
	if _, err := keycloak.Refresh(t.Context(), old, Target{}, Expect{AuthTime: now.Add(-time.Hour)}); err != nil {
		t.Error(err)
	}
}

func TestRevoke(t *testing.T) {
	f := newFake(t)
	p := f.provider(nil)
	full := TokenSet{Access: "at-1", Refresh: "rt-1"}
	if !p.HasRevocation() || p.Revoke(t.Context(), full) != nil || p.Revoke(t.Context(), TokenSet{Access: "at-1"}) != nil || p.Revoke(t.Context(), TokenSet{}) != nil {
		t.Error("revoking failed")
	}
	sent := f.to("/revoke")
	if len(sent) != 2 || sent[0].body != "token=rt-1&token_type_hint=refresh_token" || sent[1].body != "token=at-1&token_type_hint=access_token" ||
		!strings.HasPrefix(sent[0].header.Get("Authorization"), "Basic ") {
		t.Errorf("sent %v", sent)
	}
	for _, c := range []struct {
		status int
		body   string
		kind   Kind
	}{{503, "", Ambiguous}, {503, `{"error":"temporarily_unavailable"}`, Transient}, {401, `{"error":"invalid_client"}`, Misconfigured}, {307, "", Ambiguous}} {
		f.answer("/revoke", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			writeJSON(w, c.status, c.body)
		})
		wantError(t, p.Revoke(t.Context(), full), c.kind, "")
	}
	if len(f.to("/elsewhere")) != 0 {
		t.Error("followed a redirect")
	}
	delete(f.meta, "revocation_endpoint")
	if p := f.provider(nil); p.HasRevocation() || p.Revoke(t.Context(), full) != nil {
		t.Error("revoked without an endpoint")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"7": 7 * time.Second, " 7 ": 7 * time.Second, "": 0, "-7": 0, "soon": 0, "99999999": time.Hour, "99999999999999999999": 0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second, "Fri, 02 Jan 2026 03:04:04 GMT": 0, "Fri, 02 Jan 2099 03:04:05 GMT": time.Hour,
		"-9223372036854775808": 0,
	} {
		if got := retryAfter(s, now); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.answer("/token", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "12")
			writeJSON(w, 429, `{"error":"slow_down"}`)
		})
		_, err := exchange(t, f.provider(nil), Expect{})
		if e := wantError(t, err, Transient, "slow_down"); e.RetryAfter != 12*time.Second {
			t.Errorf("retry after %v", e.RetryAfter)
		}
		f.close()
	})
}

// TestNothingPrintsSecrets: by no verb does a token, a password or the secret come out of our types.
func TestNothingPrintsSecrets(t *testing.T) {
	set := TokenSet{Access: "at-1", Refresh: "rt-1", ID: "id-1"}
	request := PasswordRequest{Username: "alice", Password: "hunter2"}
	p := New(Config{ClientSecret: config.NewSecret(secret)})
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "set", set, "exchange", Exchange{Tokens: set}, "request", request)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "set", set, "exchange", Exchange{Tokens: set}, "request", request)
	for _, v := range []any{set, &set, Exchange{Tokens: set}, []TokenSet{set}, map[string]any{"x": set}, request, &request, p.Config} {
		fmt.Fprintf(&log, "%v %+v %#v %s %q %x %d\n", v, v, v, v, v, v, v)
	}
	for _, s := range []string{"at-1", "rt-1", "id-1", "hunter2", secret, fmt.Sprintf("%x", "at-1"), fmt.Sprintf("%x", "hunter2")} {
		if strings.Contains(log.String(), s) {
			t.Errorf("%q was printed", s)
		}
	}
}

// FuzzTokenAnswer: whatever comes, it is a usable token set or an error, and tokens may stand in a header.
func FuzzTokenAnswer(f *testing.F) {
	f.Add(200, []byte(`{"access_token":"a","token_type":"bearer","expires_in":"300","refresh_expires_in":1e9}`))
	f.Add(400, []byte(`{"error":"invalid_grant","error_description":"\u0000","error_codes":[1]}`))
	f.Add(401, []byte(`{"code":"x","description":{}}`))
	f.Add(502, []byte(`<html>`))
	f.Add(200, []byte(`{"access_token":"a","access_token":"b"}`))
	p := quiet(nil, nil)
	now := time.Now()
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		tokens, err := p.parseTokens(actPassword, answer{status: status, body: body}, now)
		if err == nil {
			if _, e := http.NewRequest("GET", "/", nil); e != nil || tokens.Access == "" || strings.ContainsAny(tokens.Access, "\r\n \x00") || status != 200 {
				t.Errorf("took %q", body)
			}
			if !tokens.Expires.IsZero() && (!tokens.Expires.After(now) || tokens.Expires.After(now.Add(maxLife))) {
				t.Errorf("expires %v", tokens.Expires)
			}
			return
		}
		e := wantKnown(t, err)
		if !reflect.DeepEqual(tokens, TokenSet{}) || strings.ContainsAny(e.Error(), "\r\n\x1b") || reasonOf(e) == "" {
			t.Errorf("error %q", e.Error())
		}
	})
}

func wantKnown(t *testing.T, err error) *Error {
	t.Helper()
	e, ok := err.(*Error) //nolint:errorlint // it must be one itself
	if !ok {
		t.Fatalf("error of type %T", err)
	}
	return e
}
