package oidc

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var logoutEvents = fields{"http://schemas.openid.net/event/backchannel-logout": fields{}}

// logoutToken is a good one with some header and claims changed; nil takes one out.
func logoutToken(header, claims fields) string { return logoutSigned(header, claims, keys().rsa) }

func logoutSigned(header, claims fields, key any) string {
	h := fields{"typ": "logout+jwt"}
	c := fields{"nonce": nil, "name": nil, "exp": in(2 * time.Minute), "jti": "j-1", "sid": "s-1", "events": logoutEvents}
	maps.Copy(h, header)
	maps.Copy(c, claims)
	return signed(h, c, key)
}

// badLogout is a row: a token that is wrong in one thing, and the rule it breaks.
type badLogout struct{ name, rule, token string }

// badLogouts has a row for each rule of Back-Channel Logout 1.0 section 2.6, in the order of the steps, then tokens of
// every other kind.
func badLogouts(t testing.TB) []badLogout {
	own := map[string]any{"kty": "RSA", "kid": "x", "n": b64(keys().otherRSA.N.Bytes()), "e": "AQAB"}
	claims := func(raw string) string {
		return signRaw([]byte(`{"alg":"RS256","kid":"k1","typ":"logout+jwt"}`), []byte(raw), keys().rsa)
	}
	rows := []badLogout{
		{"absent", "missing", ""},
		{"too large", "too_large", logoutToken(nil, fields{"x": strings.Repeat("x", 64<<10)})},
		{"no token", "form", "abc"},
		{"encrypted", "form", "e30.e30.e30.e30.e30"},
		{"JSON serialization", "form", `{"payload":"e30","protected":"e30","signature":"e30"}`},
		{"typ at+jwt", "typ", logoutToken(fields{"typ": "at+jwt"}, nil)},
		{"typ secevent+jwt", "typ", logoutToken(fields{"typ": "secevent+jwt"}, nil)},
		{"typ dpop+jwt", "typ", logoutToken(fields{"typ": "dpop+jwt"}, nil)},
		{"typ empty", "typ", logoutToken(fields{"typ": ""}, nil)},
		{"typ a list", "typ", logoutToken(fields{"typ": []string{"logout+jwt"}}, nil)},
		{"alg none", "alg", logoutSigned(fields{"alg": "none"}, nil, nil)},
		{"alg none with a good signature", "alg", logoutToken(fields{"alg": "none"}, nil)},
		{"HS256 with the modulus", "alg", logoutSigned(fields{"alg": "HS256"}, nil, keys().rsa.N.Bytes())},
		{"HS256 with the client secret", "alg", logoutSigned(fields{"alg": "HS256"}, nil, []byte(secret))},
		{"RS384, which the provider does not have", "alg", logoutToken(fields{"alg": "RS384"}, nil)},
		{"crit", "crit", logoutToken(fields{"crit": []string{"exp"}, "exp": 1}, nil)},
		{"embedded jwk", "signature", logoutSigned(fields{"jwk": own}, nil, keys().otherRSA)},
		{"jku", "key", logoutSigned(fields{"jku": "https://evil.example/jwks", "kid": "x"}, nil, keys().otherRSA)},
		{"x5u", "signature", logoutSigned(fields{"x5u": "https://evil.example/cert"}, nil, keys().otherRSA)},
		{"flipped bit", "signature", flip(logoutToken(nil, nil))},
		{"other key", "signature", logoutSigned(nil, nil, keys().otherRSA)},
		{"no signature", "signature", logoutSigned(nil, nil, nil)},
		{"unknown kid", "key", logoutSigned(fields{"kid": "k9"}, nil, keys().otherRSA)},
		{"claims no object", "claims", claims(`[]`)},
		{"a claim twice", "claims", claims(`{"sub":"alice","sub":"bob"}`)},
		{"iss of another", "iss", logoutToken(nil, fields{"iss": "http://evil.example"})},
		{"iss with a slash more", "iss", logoutToken(nil, fields{"iss": issuer + "/"})},
		{"no iss", "iss", logoutToken(nil, fields{"iss": nil})},
		{"aud of another", "aud", logoutToken(nil, fields{"aud": "other"})},
		{"aud of others", "aud", logoutToken(nil, fields{"aud": []string{"other", clientID + "2"}})},
		{"no aud", "aud", logoutToken(nil, fields{"aud": nil})},
		{"aud an object", "aud", logoutToken(nil, fields{"aud": fields{clientID: true}})},
		{"no iat", "iat", logoutToken(nil, fields{"iat": nil})},
		{"iat in the future", "iat", logoutToken(nil, fields{"iat": in(2 * time.Minute)})},
		{"iat long ago", "iat", logoutToken(nil, fields{"iat": in(-12 * time.Minute)})},
		{"iat long ago, no exp", "iat", logoutToken(nil, fields{"iat": in(-12 * time.Minute), "exp": nil})},
		{"iat a string", "iat", logoutToken(nil, fields{"iat": fmt.Sprint(in(0))})},
		{"exp over", "exp", logoutToken(nil, fields{"iat": in(-5 * time.Minute), "exp": in(-61 * time.Second)})},
		{"exp a string", "exp", logoutToken(nil, fields{"exp": "9999999999"})},
		{"exp beyond all time", "exp", logoutToken(nil, fields{"exp": 1e300})},
		{"not yet", "nbf", logoutToken(nil, fields{"nbf": in(2 * time.Minute)})},
		{"no jti", "jti", logoutToken(nil, fields{"jti": nil})},
		{"jti empty", "jti", logoutToken(nil, fields{"jti": ""})},
		{"jti a number", "jti", logoutToken(nil, fields{"jti": 7})},
		{"jti endless", "jti", logoutToken(nil, fields{"jti": strings.Repeat("j", 1025)})},
		{"neither sub nor sid", "sub", logoutToken(nil, fields{"sub": nil, "sid": nil})},
		{"sub a number", "sub", logoutToken(nil, fields{"sub": 1})},
		{"sub empty", "sub", logoutToken(nil, fields{"sub": ""})},
		{"sub with a control character", "sub", logoutToken(nil, fields{"sub": "ali\x00ce"})},
		{"sid a number", "sid", logoutToken(nil, fields{"sid": 1})},
		{"sid empty: not everybody's", "sid", logoutToken(nil, fields{"sid": ""})},
		{"sid null: not everybody's", "sid", claims(fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":"alice","sid":null,"iat":%d,"exp":%d,"jti":"j","events":{"http://schemas.openid.net/event/backchannel-logout":{}}}`, issuer, clientID, in(0), in(time.Minute)))},
		{"sid endless", "sid", logoutToken(nil, fields{"sid": strings.Repeat("s", 1025)})},
		{"no events", "events", logoutToken(nil, fields{"events": nil})},
		{"events a list", "events", logoutToken(nil, fields{"events": []string{"http://schemas.openid.net/event/backchannel-logout"}})},
		{"events a string", "events", logoutToken(nil, fields{"events": "http://schemas.openid.net/event/backchannel-logout"})},
		{"another event", "events", logoutToken(nil, fields{"events": fields{"http://schemas.openid.net/event/other": fields{}}})},
		{"the event in other case", "events", logoutToken(nil, fields{"events": fields{"http://schemas.openid.net/event/Backchannel-Logout": fields{}}})},
		{"the event true", "events", logoutToken(nil, fields{"events": fields{"http://schemas.openid.net/event/backchannel-logout": true}})},
		{"the event null", "events", logoutToken(nil, fields{"events": fields{"http://schemas.openid.net/event/backchannel-logout": nil}})},
		{"the event a list", "events", logoutToken(nil, fields{"events": fields{"http://schemas.openid.net/event/backchannel-logout": []int{}}})},
		{"nonce", "nonce", logoutToken(nil, fields{"nonce": "n-1"})},
		{"nonce empty", "nonce", logoutToken(nil, fields{"nonce": ""})},

		{"an ID token", "jti", token(nil, nil)},
		{"an ID token with jti", "events", token(nil, fields{"jti": "j-1", "sid": "s-1"})},
		{"an ID token with an event and a nonce", "nonce", token(nil, fields{"jti": "j-1", "events": logoutEvents})},
		{"an access token", "typ", token(fields{"typ": "at+jwt"}, fields{"jti": "j-1", "client_id": clientID, "scope": "openid"})},
		{"an access token of an older kind", "events", token(nil, fields{"nonce": nil, "jti": "j-1", "azp": clientID, "scope": "openid"})},
		{"a security event", "typ", signed(fields{"typ": "secevent+jwt"}, fields{
			"nonce": nil, "exp": nil, "jti": "j-1", "sub": nil, "sub_id": fields{"format": "iss_sub"},
			"events": fields{"https://schemas.openid.net/secevent/caep/event-type/session-revoked": fields{}},
		}, keys().rsa)},
	}
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[r.name] {
			t.Fatalf("%q is there twice", r.name)
		}
		seen[r.name] = true
	}
	return rows
}

func TestBadLogoutTokens(t *testing.T) {
	f := newFake(t)
	p := f.provider(nil)
	for _, c := range badLogouts(t) {
		t.Run(c.name, func(t *testing.T) {
			if c.rule == "key" {
				p = f.provider(nil) // else the keys were just asked for, and it cannot be told
			}
			got, err := p.VerifyLogout(t.Context(), c.token)
			e := wantError(t, err, Rejected, c.rule)
			if e.Act != "logout_token" || got != (LogoutToken{}) {
				t.Errorf("act %q, %+v", e.Act, got)
			}
		})
	}
}

func TestGoodLogoutTokens(t *testing.T) {
	f := newFake(t)
	f.jwks = append(f.jwks, ecJWK("k2", &keys().ec.PublicKey))
	p := f.provider(nil)
	for _, c := range []struct {
		name  string
		token string
		want  LogoutToken // without its times
	}{
		{"all there", logoutToken(nil, nil), LogoutToken{Subject: "alice", SID: "s-1", ID: "j-1", Typed: true}},
		{"the long type, other case", logoutToken(fields{"typ": "application/Logout+JWT"}, nil), LogoutToken{Subject: "alice", SID: "s-1", ID: "j-1", Typed: true}},
		{"typ JWT", logoutToken(fields{"typ": "JWT"}, nil), LogoutToken{Subject: "alice", SID: "s-1", ID: "j-1"}},
		{"no typ", logoutToken(fields{"typ": nil}, nil), LogoutToken{Subject: "alice", SID: "s-1", ID: "j-1"}},
		{"sid only", logoutToken(nil, fields{"sub": nil}), LogoutToken{SID: "s-1", ID: "j-1", Typed: true}},
		{"sub only", logoutToken(nil, fields{"sid": nil}), LogoutToken{Subject: "alice", ID: "j-1", Typed: true}},
		{"no exp", logoutToken(nil, fields{"exp": nil}), LogoutToken{Subject: "alice", SID: "s-1", ID: "j-1", Typed: true}},
		{"among other audiences", logoutToken(nil, fields{"aud": []string{"other", clientID}}), LogoutToken{Subject: "alice", SID: "s-1", ID: "j-1", Typed: true}},
		{"no kid", logoutToken(fields{"kid": nil}, nil), LogoutToken{Subject: "alice", SID: "s-1", ID: "j-1", Typed: true}},
		{"ES256", logoutSigned(fields{"alg": "ES256", "kid": "k2"}, nil, keys().ec), LogoutToken{Subject: "alice", SID: "s-1", ID: "j-1", Typed: true}},
		{"more claims, an event that says more", logoutToken(nil, fields{"x": 1, "events": fields{"http://schemas.openid.net/event/backchannel-logout": fields{"a": 1}, "urn:x": 2}}), LogoutToken{Subject: "alice", SID: "s-1", ID: "j-1", Typed: true}},
		{"our clock is behind", logoutToken(nil, fields{"iat": in(50 * time.Second)}), LogoutToken{Subject: "alice", SID: "s-1", ID: "j-1", Typed: true}},
		{"our clock is ahead", logoutToken(nil, fields{"iat": in(-170 * time.Second), "exp": in(-50 * time.Second)}), LogoutToken{Subject: "alice", SID: "s-1", ID: "j-1", Typed: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := p.VerifyLogout(t.Context(), c.token)
			if err != nil {
				t.Fatal(err)
			}
			if got.IssuedAt.IsZero() || !got.Until.After(time.Now()) || got.Until.After(time.Now().Add(logoutAge+2*skew)) {
				t.Errorf("issued %v, until %v", got.IssuedAt, got.Until)
			}
			got.IssuedAt, got.Until = time.Time{}, time.Time{}
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// A token is taken until Until and not longer, whatever end it names.
func TestLogoutTokensEnd(t *testing.T) {
	for name, claims := range map[string]fields{"two minutes": nil, "no exp": {"exp": nil}, "a year": {"exp": in(365 * 24 * time.Hour)}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := quiet(nil, keySet{})
				set, err := parseKeys(mustJSON(fields{"keys": []any{rsaJWK("k1", &keys().rsa.PublicKey)}}))
				if err != nil {
					t.Fatal(err)
				}
				p.keys.value = &set
				if name == "a year" {
					claims = fields{"exp": in(365 * 24 * time.Hour)} // of the bubble's clock
				}
				raw := logoutToken(nil, claims)
				first, err := p.VerifyLogout(t.Context(), raw)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Until(first.Until) - time.Millisecond)
				if _, err := p.VerifyLogout(t.Context(), raw); err != nil {
					t.Errorf("just before its end: %v", err)
				}
				time.Sleep(time.Millisecond)
				if _, err := p.VerifyLogout(t.Context(), raw); !IsKind(err, Rejected) {
					t.Errorf("at its end: %v", err)
				}
			})
		})
	}
}

// What cannot be checked now is not refused: the provider may send it again.
func TestLogoutTokensThatCannotBeChecked(t *testing.T) {
	f := newFake(t)
	f.answer("/jwks", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	_, err := f.provider(nil).VerifyLogout(t.Context(), logoutToken(nil, nil))
	if err == nil || IsKind(err, Rejected) {
		t.Errorf("no keys: %v", err)
	}
	f.answer("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	_, err = f.provider(nil).VerifyLogout(t.Context(), logoutToken(nil, nil))
	if err == nil || IsKind(err, Rejected) {
		t.Errorf("no metadata: %v", err)
	}
	f.answers = map[string]http.HandlerFunc{}
	p := f.provider(nil)
	if _, err := p.VerifyLogout(t.Context(), logoutToken(nil, nil)); err != nil {
		t.Fatal(err)
	}
	_, err = p.VerifyLogout(t.Context(), logoutToken(fields{"kid": "of tomorrow"}, nil))
	wantError(t, err, Transient, "unknown_key")
}

func TestIssuerOf(t *testing.T) {
	iss, aud, err := IssuerOf(logoutToken(nil, fields{"aud": []string{"a", clientID}}))
	if err != nil || iss != issuer || fmt.Sprint(aud) != "[a "+clientID+"]" {
		t.Errorf("%q %v %v", iss, aud, err)
	}
	for rule, raw := range map[string]string{
		"missing": "", "too_large": strings.Repeat("x", 65<<10), "form": "a.b", "alg": logoutSigned(fields{"alg": "none"}, nil, nil),
		"claims": signRaw([]byte(`{"alg":"RS256"}`), []byte(`"x"`), keys().rsa),
	} {
		_, _, err := IssuerOf(raw)
		wantError(t, err, Rejected, rule)
	}
}

// FuzzLogoutToken: only what the key has signed as a logout token may end anything, and a refusal names its rule.
func FuzzLogoutToken(f *testing.F) {
	good := logoutToken(nil, nil)
	f.Add(good)
	for _, row := range badLogouts(f) {
		if len(row.token) < 8<<10 {
			f.Add(row.token)
		}
	}
	p := quiet(&metadata{issuer: issuer}, keySet{})
	set, err := parseKeys(mustJSON(fields{"keys": []any{rsaJWK("k1", &keys().rsa.PublicKey)}}))
	if err != nil {
		f.Fatal(err)
	}
	p.keys.value = &set
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := p.VerifyLogout(t.Context(), raw)
		var e *Error
		switch {
		case err == nil && (got.SID != "s-1" || decoded(strings.TrimRight(raw, "=")) != decoded(good)):
			t.Errorf("took %q", raw)
		case err != nil && (!errors.As(err, &e) || e.Code == "" || got != LogoutToken{}):
			t.Errorf("%q: %v", raw, err)
		}
		_, _, _ = IssuerOf(raw)
	})
}

// FuzzLogoutClaims: whatever a signed body says, what passes names somebody and has its event.
func FuzzLogoutClaims(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	good := fmt.Sprintf(`{"iss":%q,"aud":%q,"iat":1800000000,"exp":1800000120,"jti":"j","sid":"s","events":{"http://schemas.openid.net/event/backchannel-logout":{}}}`, issuer, clientID)
	for _, s := range []string{
		good, strings.Replace(good, `"sid":"s"`, `"sub":"a","sid":null`, 1), strings.Replace(good, `"sid":"s"`, `"sub":"a"`, 1),
		strings.Replace(good, ":{}", ":[]", 1), strings.Replace(good, `"jti"`, `"nonce":null,"jti"`, 1), `{}`, `[]`, `{"iat":1e300}`,
	} {
		f.Add([]byte(s))
	}
	p := quiet(nil, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := p.readLogout(body, now)
		if err != nil {
			return
		}
		o, err := parseObject(body)
		if err != nil {
			t.Fatalf("took %q", body)
		}
		_, sid := o["sid"]
		_, nonce := o["nonce"]
		if got.SID == "" && (got.Subject == "" || sid) || nonce || got.ID == "" || !strings.Contains(string(body), "events") ||
			got.IssuedAt.After(now.Add(skew)) || !got.Until.After(now) {
			t.Errorf("took %q as %+v", body, got)
		}
	})
}
