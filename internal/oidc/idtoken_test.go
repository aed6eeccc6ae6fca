package oidc

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// in is a time from now as a claim.
func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

// leftHalf is at_hash, made by hand.
func leftHalf(sum []byte) string { return b64(sum[:len(sum)/2]) }

func flip(t string) string {
	i := strings.LastIndexByte(t, '.') + 20
	c := byte('A')
	if t[i] == c {
		c = 'B'
	}
	return t[:i] + string(c) + t[i+1:]
}

func publicPEM(t *testing.T) []byte {
	der, err := x509.MarshalPKIXPublicKey(&keys().rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// TestBadIDTokens has a row for each rule of OpenID Connect Core section 3.1.3.7 and what attackers try. None may log
// anybody in, and nothing of the answer may come back.
func TestBadIDTokens(t *testing.T) {
	own := map[string]any{"kty": "RSA", "kid": "x", "n": b64(keys().otherRSA.N.Bytes()), "e": "AQAB"}
	asked := Expect{Nonce: "n-1"}
	for _, c := range []struct {
		name, rule, token string
		expect            Expect
	}{
		{"absent", "missing", "", asked},
		{"64 kB", "too_large", token(nil, fields{"x": strings.Repeat("x", 64<<10)}), asked},
		{"no token", "form", "abc", asked},
		{"two parts", "form", "e30.e30", asked},
		{"encrypted", "form", "e30.e30.e30.e30.e30", asked},
		{"flipped bit in the signature", "signature", flip(token(nil, nil)), asked},
		{"no signature", "signature", signed(nil, nil, nil), asked},
		{"other key", "signature", signed(nil, nil, keys().otherRSA), asked},
		{"other key, no kid", "signature", signed(fields{"kid": nil}, nil, keys().otherRSA), asked},
		{"unknown kid", "key", signed(fields{"kid": "k9"}, nil, keys().otherRSA), asked},
		{"alg none", "alg", signed(fields{"alg": "none"}, nil, nil), asked},
		{"alg None", "alg", signed(fields{"alg": "None"}, nil, nil), asked},
		{"alg none with a good signature", "alg", token(fields{"alg": "none"}, nil), asked},
		{"no alg", "alg", token(fields{"alg": nil}, nil), asked},
		{"HS256 with the public key in PEM", "alg", signed(fields{"alg": "HS256"}, nil, publicPEM(t)), asked},
		{"HS256 with the modulus", "alg", signed(fields{"alg": "HS256"}, nil, keys().rsa.N.Bytes()), asked},
		{"HS256 with the client secret", "alg", signed(fields{"alg": "HS256"}, nil, []byte(secret)), asked},
		{"RS384, which the provider does not have", "alg", token(fields{"alg": "RS384"}, nil), asked},
		{"ES256 with an RSA key", "signature", signed(fields{"alg": "ES256"}, nil, keys().ec), asked},
		{"embedded jwk", "signature", signed(fields{"jwk": own}, nil, keys().otherRSA), asked},
		{"embedded jwk, its kid", "key", signed(fields{"jwk": own, "kid": "x"}, nil, keys().otherRSA), asked},
		{"jku", "key", signed(fields{"jku": "https://evil.example/jwks", "kid": "x"}, nil, keys().otherRSA), asked},
		{"x5u", "signature", signed(fields{"x5u": "https://evil.example/cert"}, nil, keys().otherRSA), asked},
		{"crit", "crit", token(fields{"crit": []string{"exp"}, "exp": 1}, nil), asked},
		{"crit b64", "crit", token(fields{"crit": []string{"b64"}, "b64": true}, nil), asked},
		{"a logout token", "typ", token(fields{"typ": "logout+jwt"}, nil), asked},
		{"an access token", "typ", token(fields{"typ": "at+jwt"}, nil), asked},
		{"typ a number", "typ", token(fields{"typ": 1}, nil), asked},
		{"header with alg twice", "form", signRaw([]byte(`{"alg":"none","alg":"RS256","kid":"k1"}`), []byte("{}"), keys().rsa), asked},
		{"iss of another", "iss", token(nil, fields{"iss": "http://evil.example"}), asked},
		{"iss with a slash more", "iss", token(nil, fields{"iss": issuer + "/"}), asked},
		{"iss in other case", "iss", token(nil, fields{"iss": "http://LOCALHOST"}), asked},
		{"no iss", "iss", token(nil, fields{"iss": nil}), asked},
		{"aud of another", "aud", token(nil, fields{"aud": "other"}), asked},
		{"aud and a further one", "aud", token(nil, fields{"aud": []string{clientID, "other"}}), asked},
		{"aud and a further one with azp", "aud", token(nil, fields{"aud": []string{clientID, "other"}, "azp": clientID}), asked},
		{"aud empty", "aud", token(nil, fields{"aud": []string{}}), asked},
		{"no aud", "aud", token(nil, fields{"aud": nil}), asked},
		{"aud an object", "aud", token(nil, fields{"aud": fields{}}), asked},
		{"azp of another", "azp", token(nil, fields{"azp": "other"}), asked},
		{"azp empty", "azp", token(nil, fields{"azp": ""}), asked},
		{"expired", "exp", token(nil, fields{"exp": in(-61 * time.Second)}), asked},
		{"no exp", "exp", token(nil, fields{"exp": nil}), asked},
		{"exp a string", "exp", token(nil, fields{"exp": "9999999999"}), asked},
		{"exp beyond all time", "exp", token(nil, fields{"exp": 1e300}), asked},
		{"exp negative", "exp", token(nil, fields{"exp": -1}), asked},
		{"not yet", "nbf", token(nil, fields{"nbf": in(2 * time.Minute)}), asked},
		{"nbf beyond all time", "nbf", token(nil, fields{"nbf": 1e300}), asked},
		{"iat in the future", "iat", token(nil, fields{"iat": in(2 * time.Minute)}), asked},
		{"no iat", "iat", token(nil, fields{"iat": nil}), asked},
		{"no nonce", "nonce", token(nil, fields{"nonce": nil}), asked},
		{"nonce null", "nonce", signRaw([]byte(`{"alg":"RS256"}`), fmt.Appendf(nil, `{"iss":%q,"aud":%q,"sub":"a","exp":%d,"iat":1,"nonce":null}`, issuer, clientID, in(time.Minute)), keys().rsa), asked},
		{"nonce of another login", "nonce", token(nil, fields{"nonce": "n-2"}), asked},
		{"no sub", "sub", token(nil, fields{"sub": nil}), asked},
		{"sub empty", "sub", token(nil, fields{"sub": ""}), asked},
		{"sub of 256", "sub", token(nil, fields{"sub": strings.Repeat("a", 256)}), asked},
		{"sub a number", "sub", token(nil, fields{"sub": 1}), asked},
		{"sub with a control character", "sub", token(nil, fields{"sub": "alice\x00"}), asked},
		{"sub of half a character", "sub", signRaw([]byte(`{"alg":"RS256"}`), fmt.Appendf(nil, `{"iss":%q,"aud":%q,"sub":"a\ud800","exp":%d,"iat":1}`, issuer, clientID, in(time.Minute)), keys().rsa), Expect{}},
		{"sub twice", "claims", signRaw([]byte(`{"alg":"RS256"}`), fmt.Appendf(nil, `{"iss":%q,"aud":%q,"sub":"alice","sub":"bob","exp":%d,"iat":1}`, issuer, clientID, in(time.Minute)), keys().rsa), Expect{}},
		{"SUB for sub", "sub", signRaw([]byte(`{"alg":"RS256"}`), fmt.Appendf(nil, `{"iss":%q,"aud":%q,"SUB":"alice","exp":%d,"iat":1}`, issuer, clientID, in(time.Minute)), keys().rsa), Expect{}},
		{"body no object", "claims", signRaw([]byte(`{"alg":"RS256"}`), []byte(`["a"]`), keys().rsa), asked},
		{"body not UTF-8", "claims", signRaw([]byte(`{"alg":"RS256"}`), []byte("{\"sub\":\"\xff\"}"), keys().rsa), asked},
		{"body and more", "claims", signRaw([]byte(`{"alg":"RS256"}`), []byte(`{} {}`), keys().rsa), asked},
		{"no auth_time", "auth_time", token(nil, nil), Expect{Nonce: "n-1", MaxAge: time.Minute}},
		{"old auth_time", "auth_time", token(nil, fields{"auth_time": in(-3 * time.Minute)}), Expect{Nonce: "n-1", MaxAge: time.Minute}},
		{"auth_time in the future", "auth_time", token(nil, fields{"auth_time": in(3 * time.Minute)}), asked},
		{"auth_time a string", "auth_time", token(nil, fields{"auth_time": "now"}), asked},
		{"no acr", "acr", token(nil, nil), Expect{Nonce: "n-1", ACRValues: "gold"}},
		{"lower acr", "acr", token(nil, fields{"acr": "bronze"}), Expect{Nonce: "n-1", ACRValues: "gold silver"}},
		{"acr of part of a word", "acr", token(nil, fields{"acr": "go"}), Expect{Nonce: "n-1", ACRValues: "gold"}},
		{"at_hash of another token", "at_hash", token(nil, fields{"at_hash": leftHalf(make([]byte, 32))}), asked},
		{"session_expiry unreadable", "session_expiry", token(nil, fields{"session_expiry": "soon"}), asked},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			f.token(200, f.tokens(fields{"id_token": c.token}))
			x, err := exchange(t, f.provider(nil), c.expect)
			wantError(t, err, Rejected, c.rule)
			if !cmp.Equal(x, Exchange{}) {
				t.Error("something of the answer came back")
			}
			if got := f.outcomes("authorization_code"); !slices.Equal(got, []string{"rejected " + c.rule}) {
				t.Errorf("events %q", got)
			}
			if _, err := f.provider(nil).Password(t.Context(), PasswordRequest{Username: "a", Password: "hunter2"}); err == nil && c.rule != "nonce" && c.expect == asked {
				t.Error("the login by form took it")
			}
		})
	}
}

// TestGoodIDTokens has what must not be refused, above all the edges of the clock.
func TestGoodIDTokens(t *testing.T) {
	s256, s512 := sha256.Sum256([]byte("at-1")), sha512.Sum512([]byte("at-1"))
	for name, c := range map[string]struct {
		token  string
		expect Expect
	}{
		"plain":                  {token(nil, nil), Expect{Nonce: "n-1"}},
		"nonce that nobody asks": {token(nil, nil), Expect{}},
		"aud as a list":          {token(nil, fields{"aud": []string{clientID}}), Expect{}},
		"azp":                    {token(nil, fields{"azp": clientID}), Expect{}},
		"just expired":           {token(nil, fields{"exp": in(-50 * time.Second)}), Expect{}},
		"nbf and iat just ahead": {token(nil, fields{"nbf": in(50 * time.Second), "iat": in(50 * time.Second)}), Expect{}},
		"times with fractions":   {token(nil, fields{"exp": float64(in(time.Minute)) + .5}), Expect{}},
		"max_age":                {token(nil, fields{"auth_time": in(-90 * time.Second)}), Expect{MaxAge: time.Minute}},
		"acr":                    {token(nil, fields{"acr": "silver"}), Expect{ACRValues: "gold silver"}},
		"at_hash":                {token(nil, fields{"at_hash": leftHalf(s256[:])}), Expect{}},
		"no kid":                 {token(fields{"kid": nil}, nil), Expect{}},
		"no typ":                 {token(fields{"typ": nil}, nil), Expect{}},
		"typ jwt":                {token(fields{"typ": "jwt"}, nil), Expect{}},
		"jku that nobody asks":   {token(fields{"jku": "https://evil.example/"}, nil), Expect{}},
		"PS256":                  {token(fields{"alg": "PS256"}, nil), Expect{}},
		"ES256":                  {signed(fields{"alg": "ES256", "kid": "ec"}, fields{"at_hash": leftHalf(s256[:])}, keys().ec), Expect{}},
		"EdDSA":                  {signed(fields{"alg": "EdDSA", "kid": "ed"}, fields{"at_hash": leftHalf(s512[:])}, keys().ed), Expect{}},
		"sub beyond ASCII":       {token(nil, fields{"sub": "Jürgen"}), Expect{}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.jwks = append(f.jwks, ecJWK("ec", &keys().ec.PublicKey), edJWK("ed", keys().ed.Public().(ed25519.PublicKey)))
			f.token(200, f.tokens(fields{"id_token": c.token}))
			if _, err := exchange(t, f.provider(nil), c.expect); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAlgorithms: what the provider says bounds what we take; without a word it is RS256.
func TestAlgorithms(t *testing.T) {
	for _, c := range []struct {
		name  string
		says  any
		token string
		rule  string
	}{
		{"nothing said, RS256", nil, token(nil, nil), ""},
		{"nothing said, PS256", nil, token(fields{"alg": "PS256"}, nil), "alg"},
		{"only ES256 said", []string{"ES256"}, token(nil, nil), "alg"},
		{"only HS256 said", []string{"HS256"}, signed(fields{"alg": "HS256"}, nil, []byte(secret)), "alg"},
		{"only none said", []string{"none"}, signed(fields{"alg": "none"}, nil, nil), "alg"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			f.meta["id_token_signing_alg_values_supported"] = c.says
			f.token(200, f.tokens(fields{"id_token": c.token}))
			_, err := exchange(t, f.provider(nil), Expect{})
			if c.rule == "" && err != nil {
				t.Error(err)
			}
			if c.rule != "" {
				wantError(t, err, Rejected, c.rule)
			}
		})
	}
}

// TestKeyWithAlgorithm: a key that names its algorithm serves no other.
func TestKeyWithAlgorithm(t *testing.T) {
	f := newFake(t)
	f.jwks[0]["alg"] = "PS256"
	_, err := exchange(t, f.provider(nil), Expect{})
	wantError(t, err, Rejected, "signature")
}

func TestClaims(t *testing.T) {
	f := newFake(t)
	at, over := in(-time.Hour), in(time.Hour)
	f.token(200, f.tokens(fields{"id_token": token(nil, fields{
		"sid": "s-1", "auth_time": at, "acr": "gold", "amr": "pwd", "azp": clientID,
		"session_expiry": over, "jti": "j", "email": "a@example.com", "groups": []string{"x"}, "Sub": "mallory", "nbf": at, "c_hash": "c", "s_hash": "s",
	})}))
	x, err := exchange(t, f.provider(nil), Expect{Nonce: "n-1"})
	if err != nil {
		t.Fatal(err)
	}
	c := x.Claims
	if c.Subject != "alice" || c.Issuer != issuer || c.SID != "s-1" || c.ACR != "gold" || c.Nonce != "n-1" || c.AuthTime.Unix() != at ||
		c.SessionExpiry.Unix() != over || !slices.Equal(c.AMR, []string{"pwd"}) || !slices.Equal(c.Audience, []string{clientID}) {
		t.Errorf("claims %+v", c)
	}
	want := map[string]json.RawMessage{
		"sub": json.RawMessage(`"alice"`), "Sub": json.RawMessage(`"mallory"`), "name": json.RawMessage(`"Alice"`),
		"email": json.RawMessage(`"a@example.com"`), "groups": json.RawMessage(`["x"]`),
	}
	if d := cmp.Diff(want, c.User); d != "" {
		t.Error(d)
	}
}

// FuzzIDToken: only what the key has signed, and only good claims, may pass.
func FuzzIDToken(f *testing.F) {
	good := token(nil, nil)
	for _, s := range []string{good, flip(good), "e30.e30.", "..", signed(fields{"alg": "none"}, nil, nil), token(fields{"crit": []string{"x"}}, nil)} {
		f.Add(s)
	}
	p := quiet(&metadata{issuer: issuer}, keySet{})
	set, err := parseKeys(mustJSON(fields{"keys": []any{rsaJWK("k1", &keys().rsa.PublicKey)}}))
	if err != nil {
		f.Fatal(err)
	}
	p.keys.value = &set
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := p.verify(t.Context(), raw, "at-1", Expect{})
		if err == nil && (c.Subject != "alice" || strings.TrimRight(raw, "=") != good && decoded(raw) != decoded(good)) {
			t.Errorf("took %q", raw)
		}
	})
}

// FuzzClaims: whatever a body says, what passes is complete and keeps protocol claims out of the display data.
func FuzzClaims(f *testing.F) {
	for _, s := range []string{`{"sub":"a","aud":["x"],"exp":1e300}`, `{"sub":"a","sub":"b"}`, `{}`, `[]`, `{"exp":"1"}`, "{\"a\":\"\xff\"}", `{"amr":1}`} {
		f.Add([]byte(s))
	}
	p := quiet(nil, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := parseClaims(body)
		if err != nil {
			return
		}
		for name := range maps.Keys(c.User) {
			if slices.Contains(protocol, name) {
				t.Errorf("%s is shown", name)
			}
		}
		if p.broken(c, Expect{}, time.Now()) == "" && (c.Issuer != issuer || c.Subject == "" || c.Expires.IsZero()) {
			t.Errorf("took %q", body)
		}
	})
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// decoded is a token with each part decoded: two spellings of the same bytes are one token.
func decoded(t string) string {
	var out []string
	for part := range strings.SplitSeq(t, ".") {
		b, _ := base64.RawURLEncoding.DecodeString(part)
		out = append(out, string(b))
	}
	return strings.Join(out, ".")
}

// quiet is a client that has its documents and asks for none.
func quiet(m *metadata, k keySet) *Provider {
	p := New(Config{Issuer: issuer, ClientID: clientID, Profile: "generic"})
	if m == nil {
		m = &metadata{issuer: issuer}
	}
	far := time.Now().Add(1000 * time.Hour)
	p.meta.value, p.meta.loaded, p.meta.next = m, far, far
	p.keys.value, p.keys.loaded, p.keys.next = &k, far, far
	return p
}
