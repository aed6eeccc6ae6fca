package oidc

import (
	"crypto/rsa"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestUnknownKeyFlood: a thousand made-up key ids make few requests, also many at once.
func TestUnknownKeyFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		p := f.provider(nil)
		if _, err := exchange(t, p, Expect{}); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				_, err := p.verify(t.Context(), token(fields{"kid": fmt.Sprint("made-up-", i)}, nil), "", Expect{})
				wantError(t, err, Transient, "unknown_key") // just asked: cannot be told now
			})
		}
		all.Wait()
		if n := len(f.to("/jwks")); n != 1 {
			t.Errorf("asked %d times", n)
		}
		for i := range 600 { // ten minutes
			p.verify(t.Context(), token(fields{"kid": fmt.Sprint("other-", i)}, nil), "", Expect{})
			time.Sleep(time.Second)
		}
		if n := len(f.to("/jwks")); n != 20 {
			t.Errorf("asked %d times in ten minutes", n)
		}
		if _, err := exchange(t, p, Expect{}); err != nil {
			t.Error("the known key does not serve any more:", err)
		}
		f.close()
	})
}

// TestKeyRotation: a new key is found as soon as it is met, an old one is forgotten within the hour.
func TestKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		p := f.provider(nil)
		exchange(t, p, Expect{})
		f.jwks = []map[string]any{rsaJWK("k2", &keys().otherRSA.PublicKey)}
		time.Sleep(keysPause)
		if _, err := p.verify(t.Context(), signed(fields{"kid": "k2"}, nil, keys().otherRSA), "", Expect{}); err != nil {
			t.Error(err)
		}
		f.jwks = []map[string]any{}
		time.Sleep(keysLife)
		_, err := p.verify(t.Context(), signed(fields{"kid": "k2"}, nil, keys().otherRSA), "", Expect{})
		wantError(t, err, Rejected, "key")
		f.close()
	})
}

// TestKeysOutage: known keys serve on while the provider does not answer, or answers badly; without any, it is
// trouble, not a verdict.
func TestKeysOutage(t *testing.T) {
	for name, h := range brokenAnswers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bomb() // outside of the measured time
				f := newFake(t)
				f.answer("/jwks", h)
				p := f.provider(nil)
				_, err := exchange(t, p, Expect{})
				wantError(t, err, Transient, "unknown_key")
				time.Sleep(time.Minute)
				f.answer("/jwks", nil)
				if _, err := exchange(t, p, Expect{}); err != nil {
					t.Error("not found when it was back:", err)
				}
				f.answer("/jwks", h)
				time.Sleep(2 * keysLife)
				for range 3 {
					if _, err := exchange(t, p, Expect{}); err != nil {
						t.Error("the old keys do not serve:", err)
					}
				}
				f.close()
			})
		})
	}
}

// TestRefreshWithoutKeys: an ID token that cannot be judged now ends no session, and the tokens are not lost; one of
// somebody else is refused all the same.
func TestRefreshWithoutKeys(t *testing.T) {
	f := newFake(t)
	f.answer("/jwks", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	old := TokenSet{Refresh: "rt-0", ID: "old", Generation: 4}
	e := Expect{Issuer: issuer, Subject: "alice"}
	x, err := f.provider(nil).Refresh(t.Context(), old, Target{}, e)
	if err != nil || x.Tokens.Refresh != "rt-1" || x.Tokens.ID != "old" || x.Tokens.Generation != 5 || x.Claims.Subject != "" {
		t.Errorf("%v %v", x.Claims, err)
	}
	f.token(200, f.tokens(fields{"id_token": token(nil, fields{"sub": "mallory"})}))
	x, err = f.provider(nil).Refresh(t.Context(), old, Target{}, e)
	wantError(t, err, Rejected, "subject_changed")
	if x.Tokens.Refresh != "rt-1" || x.Claims.Subject != "" {
		t.Error("the tokens were lost, or the claims believed")
	}
}

// TestUsableKeys: what may not verify a signature is not kept.
func TestUsableKeys(t *testing.T) {
	good := rsaJWK("k1", &keys().rsa.PublicKey)
	with := func(name string, v any) map[string]any {
		k := rsaJWK("k", &keys().rsa.PublicKey)
		k[name] = v
		return k
	}
	big := make([]byte, 4096)
	big[0] = 0x80
	for name, bad := range map[string]any{
		"for encryption":  with("use", "enc"),
		"too short":       rsaJWK("k", &keys().weakRSA.PublicKey),
		"too long":        map[string]any{"kty": "RSA", "n": b64(big), "e": "AQAB"},
		"symmetric":       map[string]any{"kty": "oct", "k": b64([]byte(secret))},
		"private":         map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(keys().ed[32:]), "d": b64(keys().ed[:32])},
		"unknown":         map[string]any{"kty": "AKP", "alg": "ML-DSA-44"},
		"off the curve":   map[string]any{"kty": "EC", "crv": "P-256", "x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))},
		"no object":       "key",
		"null":            nil,
		"modulus missing": map[string]any{"kty": "RSA", "e": "AQAB"},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := parseKeys(mustJSON(fields{"keys": []any{bad, good}}))
			if err != nil || len(set) != 1 || set[0].KeyID != "k1" {
				t.Errorf("kept %d keys, %v", len(set), err)
			}
		})
	}
	many := make([]any, 1000)
	for i := range many {
		many[i] = good
	}
	if set, err := parseKeys(mustJSON(fields{"keys": many})); err != nil || len(set) != maxKeys {
		t.Errorf("kept %d keys of a flood, %v", len(set), err)
	}
}

// FuzzKeys: whatever comes, what is kept is public and strong enough.
func FuzzKeys(f *testing.F) {
	for _, k := range []any{rsaJWK("k1", &keys().rsa.PublicKey), ecJWK("e", &keys().ec.PublicKey), map[string]any{"kty": "oct", "k": "AAAA"}} {
		f.Add(mustJSON(fields{"keys": []any{k}}))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		set, err := parseKeys(body)
		if err != nil && set != nil {
			t.Error("keys with an error")
		}
		for _, k := range set {
			if r, ok := k.Key.(*rsa.PublicKey); !k.IsPublic() || ok && r.N.BitLen() < minRSABits {
				t.Errorf("kept %T", k.Key)
			}
		}
	})
}
