package cloakroom_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

// op is a scripted OpenID provider: it approves at once, rotates refresh tokens, revokes the family when a used
// one comes back, and does wrong on demand. It makes its tokens by hand and shares no code with the product.
type op struct {
	*httptest.Server
	key *rsa.PrivateKey

	mu       sync.Mutex
	life     time.Duration
	codes    map[string]url.Values // code -> authorization request
	families map[string]*family    // refresh token -> its family
	access   map[string]*family    // access token -> its family
	grants   []url.Values          // token requests, in order
	revoked  []string
	secrets  []string // every token value that was issued
	n        int
	sub, sid string
	sso      bool   // the browser is logged in here: prompt=none succeeds
	people   bool   // each login is of somebody else
	wider    string // put behind the scope of an answer
	delay    time.Duration
	// tamper changes header and claims of the next ID tokens; signer replaces the signature.
	tamper func(header, claims map[string]any)
	signer func(input string) []byte
	// token, when set, answers the token endpoint in place of the provider. true: it did.
	token func(w http.ResponseWriter, r *http.Request) bool
	// meta changes the discovery document.
	meta func(map[string]any)
}

type family struct {
	sub     string // whose it is, where each login is of somebody else
	current string // the refresh token that is good
	dead    bool
	used    int // refresh tokens that came back after their use
}

const (
	clientID     = "app"
	clientSecret = "client-secret-canary"
	password     = "correct horse+&%= ü"
)

func newOP(t testing.TB) *op {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &op{key: key, life: time.Hour, sub: "alice", sid: "sid-1", codes: map[string]url.Values{}, families: map[string]*family{}, access: map[string]*family{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /jwks", p.jwks)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.tokenEndpoint)
	mux.HandleFunc("POST /revoke", p.revoke)
	mux.HandleFunc("GET /logout", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("post_logout_redirect_uri"), http.StatusFound)
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *op) with(f func()) { p.mu.Lock(); defer p.mu.Unlock(); f() }

func (p *op) discovery(w http.ResponseWriter, _ *http.Request) {
	m := map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token",
		"jwks_uri": p.URL + "/jwks", "revocation_endpoint": p.URL + "/revoke", "end_session_endpoint": p.URL + "/logout",
		"id_token_signing_alg_values_supported":          []string{"RS256"},
		"authorization_response_iss_parameter_supported": true,
		"token_endpoint_auth_methods_supported":          []string{"client_secret_basic"},
	}
	p.with(func() {
		if p.meta != nil {
			p.meta(m)
		}
	})
	writeJSON(w, 200, m)
}

func (p *op) jwks(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, 200, map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "kid": "k1", "use": "sig", "alg": "RS256",
		"n": b64(p.key.N.Bytes()), "e": "AQAB",
	}}})
}

func (p *op) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" {
		http.Error(w, "bad authorization request", http.StatusBadRequest)
		return
	}
	a := url.Values{"state": q["state"], "iss": {p.URL}}
	if q.Get("prompt") == "none" && !p.sso {
		a.Set("error", "login_required")
	} else {
		p.with(func() {
			p.n++
			code := fmt.Sprintf("code-canary-%d", p.n)
			p.codes[code] = q
			a.Set("code", code)
		})
	}
	back.RawQuery = a.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func (p *op) tokenEndpoint(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "form", http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	p.grants = append(p.grants, r.PostForm)
	fault, delay := p.token, p.delay
	p.mu.Unlock()
	<-time.After(delay) // the provider is slow: that is the fault
	if fault != nil && fault(w, r) {
		return
	}
	if id, secret, ok := r.BasicAuth(); !ok || id != clientID || secret != clientSecret {
		writeJSON(w, 401, map[string]any{"error": "invalid_client"})
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	status, answer := p.grant(r.PostForm)
	writeJSON(w, status, answer)
}

func (p *op) grant(form url.Values) (int, map[string]any) {
	switch form.Get("grant_type") {
	case "authorization_code":
		q, ok := p.codes[form.Get("code")]
		delete(p.codes, form.Get("code"))
		sum := sha256.Sum256([]byte(form.Get("code_verifier")))
		if !ok || b64(sum[:]) != q.Get("code_challenge") || q.Get("redirect_uri") != form.Get("redirect_uri") {
			return 400, map[string]any{"error": "invalid_grant"}
		}
		return 200, p.issue(&family{}, q.Get("nonce"))
	case "password":
		if form.Get("username") == "blocked" && form.Get("password") == password {
			return 401, map[string]any{"error": "unauthorized", "error_description": "user is blocked"}
		}
		if form.Get("username") != "alice" || form.Get("password") != password {
			return 403, map[string]any{"error": "invalid_grant", "error_description": "Wrong email or password."}
		}
		return 200, p.issue(&family{}, "")
	case "refresh_token":
		rt := form.Get("refresh_token")
		f := p.families[rt]
		if f == nil || f.dead || f.current != rt {
			if f != nil {
				f.dead = true
				f.used++
			}
			return 400, map[string]any{"error": "invalid_grant"}
		}
		if target := form.Get("audience"); target == "https://forbidden.example" {
			return 403, map[string]any{"error": "access_denied"}
		}
		return 200, p.aimed(p.issue(f, ""), form)
	case "client_credentials":
		return 200, p.aimed(p.issue(&family{}, ""), form, "refresh_token", "id_token")
	case "urn:ietf:params:oauth:grant-type:token-exchange":
		if p.access[form.Get("subject_token")] == nil {
			return 400, map[string]any{"error": "invalid_request"}
		}
		return 200, p.aimed(p.issue(&family{}, ""), form, "refresh_token", "id_token")
	}
	return 400, map[string]any{"error": "unsupported_grant_type"}
}

// aimed is a token answer for one API: its access token says for whom it is, and by which grant it came.
func (p *op) aimed(answer map[string]any, form url.Values, without ...string) map[string]any {
	if aud := form.Get("audience"); aud != "" {
		at := fmt.Sprintf("%s|%s|%s", answer["access_token"], aud, form.Get("grant_type"))
		p.access[at] = p.access[answer["access_token"].(string)]
		p.secrets = append(p.secrets, at)
		answer["access_token"] = at
	}
	if scope := form.Get("scope"); scope != "" {
		answer["scope"] = scope + p.wider
	}
	for _, name := range without {
		delete(answer, name)
	}
	return answer
}

// issue makes the next token set of a family.
func (p *op) issue(f *family, nonce string) map[string]any {
	p.n++
	at, rt := fmt.Sprintf("access-canary-%d-%s", p.n, rand.Text()), fmt.Sprintf("refresh-canary-%d-%s", p.n, rand.Text())
	f.current = rt
	p.families[rt], p.access[at] = f, f
	claims := map[string]any{
		"iss": p.URL, "sub": p.sub, "aud": clientID, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		"name": "Alice Example", "email": "alice@example.test", "sid": p.sid,
	}
	if p.people {
		if f.sub == "" {
			f.sub = fmt.Sprintf("person-%d", p.n)
		}
		claims["sub"], claims["sid"] = f.sub, "sid-of-"+f.sub
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	id := p.sign(map[string]any{"alg": "RS256", "kid": "k1", "typ": "JWT"}, claims)
	p.secrets = append(p.secrets, at, rt, id)
	return map[string]any{"access_token": at, "refresh_token": rt, "id_token": id, "token_type": "Bearer", "expires_in": int(p.life / time.Second)}
}

func (p *op) sign(header, claims map[string]any) string {
	if p.tamper != nil {
		p.tamper(header, claims)
	}
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	input := b64(h) + "." + b64(c)
	if p.signer != nil {
		return input + "." + b64(p.signer(input))
	}
	sum := sha256.Sum256([]byte(input))
	sig, err := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return input + "." + b64(sig)
}

// publicKey is what an attacker would use as HMAC key against a verifier that takes HS256.
func (p *op) publicKey() []byte {
	der, err := x509.MarshalPKIXPublicKey(&p.key.PublicKey)
	if err != nil {
		panic(err)
	}
	return der
}

func (p *op) revoke(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	p.with(func() {
		p.revoked = append(p.revoked, r.PostForm.Get("token"))
		if f := p.families[r.PostForm.Get("token")]; f != nil {
			f.dead = true
		}
	})
	w.WriteHeader(http.StatusOK)
}

// count is how many token requests with this grant came.
func (p *op) count(grant string) (n int) {
	p.with(func() {
		for _, g := range p.grants {
			if g.Get("grant_type") == grant {
				n++
			}
		}
	})
	return n
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
