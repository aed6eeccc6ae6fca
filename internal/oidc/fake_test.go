package oidc

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/testserver"
)

const (
	issuer   = "http://localhost"
	clientID = "app"
	secret   = "s3cret +&%=/ü"
	verifier = "verifier-verifier-verifier-verifier-verifier"
)

// keys are made once: making RSA keys is slow.
var keys = sync.OnceValue(func() (k struct {
	rsa, otherRSA, weakRSA *rsa.PrivateKey
	ec                     *ecdsa.PrivateKey
	ed                     ed25519.PrivateKey
},
) {
	k.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.otherRSA, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, k.ed, _ = ed25519.GenerateKey(rand.Reader)
	n, _ := new(big.Int).SetString("9516311845790656153499716760847001433441357", 10) // its size is what matters
	k.weakRSA = &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}}
	return k
})

// fake is a scripted provider on a network in memory, so that it works in fake time. It writes down every request
// byte for byte and shares no code with the product.
type fake struct {
	t      *testing.T
	meta   map[string]any
	jwks   []map[string]any
	client *http.Client
	raw    func(net.Conn) // serves connections in place of the HTTP server
	dial   func() error   // nil error = connect

	mu       sync.Mutex
	requests []recorded
	answers  map[string]http.HandlerFunc // by path, in place of the usual answer
	calls    []event.Call
}

type recorded struct {
	method, path, body string
	header             http.Header
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, answers: map[string]http.HandlerFunc{}, meta: map[string]any{
		"issuer": issuer, "authorization_endpoint": issuer + "/authorize?tenant=7", "token_endpoint": issuer + "/token",
		"jwks_uri": issuer + "/jwks", "revocation_endpoint": issuer + "/revoke", "end_session_endpoint": issuer + "/end?a=b",
		"id_token_signing_alg_values_supported": []string{"RS256", "PS256", "ES256", "EdDSA", "HS256", "none"},
	}}
	f.jwks = []map[string]any{rsaJWK("k1", &keys().rsa.PublicKey)}
	f.serve()
	return f
}

func rsaJWK(kid string, k *rsa.PublicKey) map[string]any {
	return map[string]any{"kty": "RSA", "kid": kid, "use": "sig", "n": b64(k.N.Bytes()), "e": "AQAB"}
}

func ecJWK(kid string, k *ecdsa.PublicKey) map[string]any {
	raw, _ := k.Bytes()
	return map[string]any{"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(raw[1:33]), "y": b64(raw[33:])}
}

func edJWK(kid string, k ed25519.PublicKey) map[string]any {
	return map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(k)}
}

func (f *fake) serve() {
	l := testserver.NewMemory()
	server := &http.Server{Handler: f}
	go server.Serve(l)
	own := NewHTTPClient()
	transport := own.Transport.(*http.Transport)
	transport.Proxy = nil
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		if f.dial != nil {
			if err := f.dial(); err != nil {
				return nil, err
			}
		}
		if f.raw != nil {
			here, there := net.Pipe()
			go f.raw(there)
			return here, nil
		}
		return l.Dial(ctx, "", "")
	}
	f.client = own
	f.t.Cleanup(func() { f.close(); l.Close(); server.Close() })
}

// close ends the connections, so that nothing of a test goes on after it.
func (f *fake) close() { f.client.CloseIdleConnections() }

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.mu.Lock()
	f.requests = append(f.requests, recorded{r.Method, r.URL.Path, string(body), r.Header.Clone()})
	answer := f.answers[r.URL.Path]
	f.mu.Unlock()
	switch {
	case answer != nil:
		answer(w, r)
	case r.URL.Path == "/.well-known/openid-configuration":
		writeJSON(w, 200, f.meta)
	case r.URL.Path == "/jwks":
		writeJSON(w, 200, map[string]any{"keys": f.jwks})
	case r.URL.Path == "/token":
		writeJSON(w, 200, f.tokens(nil))
	case r.URL.Path != "/revoke":
		w.WriteHeader(404)
	}
}

// tokens is a good token answer.
func (f *fake) tokens(more map[string]any) map[string]any {
	a := map[string]any{
		"access_token": "at-1", "token_type": "bEaReR", "expires_in": 300, "refresh_token": "rt-1",
		"id_token": token(nil, nil), "unknown": map[string]any{"x": 1},
	}
	maps.Copy(a, more)
	maps.DeleteFunc(a, func(_ string, v any) bool { return v == nil })
	return a
}

func (f *fake) answer(path string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[path] = h
}

// token answers the token endpoint with a status and a body.
func (f *fake) token(status int, body any) {
	f.answer("/token", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, status, body) })
}

// to are the requests to a path.
func (f *fake) to(path string) (found []recorded) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if r.path == path {
			found = append(found, r)
		}
	}
	return found
}

// outcomes are the events of an act.
func (f *fake) outcomes(act string) (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		if c.Act == act {
			list = append(list, c.Outcome)
		}
	}
	return list
}

// provider is a client of the fake.
func (f *fake) provider(change func(*Config)) *Provider {
	c := Config{
		Name: "main", Issuer: issuer, ClientID: clientID, ClientSecret: config.NewSecret(secret), Profile: "generic",
		Scopes: []string{"openid", "offline_access"}, HTTP: f.client, Events: func(e event.Event) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.calls = append(f.calls, *e.(*event.Call))
		},
	}
	if change != nil {
		change(&c)
	}
	return New(c)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if s, ok := body.(string); ok {
		io.WriteString(w, s)
		return
	}
	json.NewEncoder(w).Encode(body)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

type fields = map[string]any

// token is an ID token: a good one with some header and claims changed; nil takes one out.
func token(header, claims fields) string { return signed(header, claims, keys().rsa) }

func signed(header, claims fields, key any) string {
	h := fields{"alg": "RS256", "kid": "k1", "typ": "JWT"}
	now := time.Now().Unix()
	c := fields{"iss": issuer, "aud": clientID, "sub": "alice", "exp": now + 300, "iat": now, "nonce": "n-1", "name": "Alice"}
	for to, from := range map[*fields]fields{&h: header, &c: claims} {
		for name, v := range from {
			(*to)[name] = v
			if v == nil {
				delete(*to, name)
			}
		}
	}
	hb, _ := json.Marshal(h)
	cb, _ := json.Marshal(c)
	return signRaw(hb, cb, key)
}

// signRaw signs header and claims as they are. What the key is decides how; the header may lie about it.
func signRaw(header, claims []byte, key any) string {
	input := b64(header) + "." + b64(claims)
	sum := sha256.Sum256([]byte(input))
	var sig []byte
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if bytes.Contains(header, []byte(`"PS256"`)) {
			sig, _ = rsa.SignPSS(rand.Reader, k, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: 32})
		} else {
			sig, _ = rsa.SignPKCS1v15(nil, k, crypto.SHA256, sum[:])
		}
	case *ecdsa.PrivateKey:
		r, s, _ := ecdsa.Sign(rand.Reader, k, sum[:])
		sig = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case ed25519.PrivateKey:
		sig = ed25519.Sign(k, []byte(input))
	case []byte:
		m := hmac.New(sha256.New, k)
		m.Write([]byte(input))
		sig = m.Sum(nil)
	case nil:
	default:
		panic(fmt.Sprintf("no such key: %T", key))
	}
	return input + "." + b64(sig)
}

// wantError checks kind and code of an error. code "" = any.
func wantError(t *testing.T, err error, kind Kind, code string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error = %v, want kind %s %s", err, kind, code)
	}
	if e.Kind != kind || code != "" && e.Code != code {
		t.Errorf("error = %s %q (%v), want %s %q", e.Kind, e.Code, err, kind, code)
	}
	for _, s := range []string{secret, "at-1", "rt-1", "hunter2", verifier} {
		if strings.Contains(err.Error(), s) || strings.Contains(fmt.Sprintf("%+v", err), s) {
			t.Errorf("the error holds the secret %q: %v", s, err)
		}
	}
	return e
}

func exchange(t *testing.T, p *Provider, e Expect) (Exchange, error) {
	t.Helper()
	return p.Exchange(t.Context(), "code-1", verifier, "http://localhost:8080/auth/callback", e)
}
