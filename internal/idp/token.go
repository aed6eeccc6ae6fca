package idp

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// codeLife is how long a code waits for its exchange, and is remembered to notice a second one.
const codeLife = time.Minute

// token is the token endpoint (RFC 6749 section 3.2).
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	c, form, ok := p.authenticate(w, r)
	if !ok {
		return
	}
	p.witness("code verifier", form.Get("code_verifier"))
	p.witness("password", form.Get("password"))
	p.mu.Lock()
	defer p.mu.Unlock()
	grant := form.Get("grant_type")
	var f *family
	var id, nonce string
	var problem *oauthError
	switch grant {
	case "authorization_code":
		f, id, nonce, problem = p.exchange(c, form)
	case "refresh_token":
		f, id, problem = p.rotate(c, form)
	case "password":
		f, id, problem = p.password(c, form)
	default:
		problem = &oauthError{http.StatusBadRequest, "unsupported_grant_type", "There is no such grant here."}
	}
	if problem != nil {
		_ = p.save() // what a refused grant revoked
		p.log(grant, problem.code, "")
		refuse(w, problem.status, problem.code, problem.description)
		return
	}
	answer, err := p.issue(f, id, nonce)
	if err == nil {
		err = p.save()
	}
	if err != nil {
		p.log(grant, "server_error", "")
		refuse(w, http.StatusInternalServerError, "server_error", "The provider cannot write its state.")
		return
	}
	u, _ := p.find(f.Subject)
	p.log(grant, "ok", u.Username)
	writeJSON(w, http.StatusOK, answer)
}

type oauthError struct {
	status            int
	code, description string
}

var (
	badGrant    = &oauthError{http.StatusBadRequest, "invalid_grant", "The grant is not valid, or was used before."}
	badPassword = &oauthError{http.StatusForbidden, "invalid_grant", "Wrong email or password."}
	blocked     = &oauthError{http.StatusUnauthorized, "unauthorized", "user is blocked"}
)

// authenticate checks the client, by header or by form, never both.
func (p *Provider) authenticate(w http.ResponseWriter, r *http.Request) (Client, url.Values, bool) {
	if err := r.ParseForm(); err != nil {
		refuse(w, http.StatusBadRequest, "invalid_request", "The form cannot be read.")
		return Client{}, nil, false
	}
	id, given, basic := r.BasicAuth()
	if basic {
		id, _ = url.QueryUnescape(id)
		given, _ = url.QueryUnescape(given)
	} else {
		id, given = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	c, ok := p.client(id)
	if !ok || !same(c.Secret, given) || basic && r.PostForm.Has("client_secret") {
		w.Header().Set("WWW-Authenticate", `Basic realm="provider"`)
		refuse(w, http.StatusUnauthorized, "invalid_client", "The client is not known by this secret.")
		return Client{}, nil, false
	}
	return c, r.PostForm, true
}

// exchange turns a code into a family. A code that comes a second time kills what the first one made.
func (p *Provider) exchange(c Client, form url.Values) (*family, string, string, *oauthError) {
	key := hash(form.Get("code"))
	have, ok := p.state.Codes[key]
	if ok && have.Used {
		if f := p.state.Families[have.Family]; f != nil {
			f.Dead = true
		}
	}
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	if !ok || have.Used || time.Now().After(have.Ends) || have.Client != c.ID || have.RedirectURI != form.Get("redirect_uri") ||
		!same(have.Challenge, base64.RawURLEncoding.EncodeToString(sum[:])) {
		return nil, "", "", badGrant
	}
	f, id := p.newFamily(c, have.Subject, have.Scope)
	f.SID, f.Since = have.SID, have.Since
	have.Used, have.Family = true, id
	p.state.Codes[key] = have
	return f, id, have.Nonce, nil
}

// rotate takes a refresh token for a new one. One that was spent before kills its family: it may be stolen.
func (p *Provider) rotate(c Client, form url.Values) (*family, string, *oauthError) {
	given := hash(form.Get("refresh_token"))
	id := p.state.Refresh[given]
	f := p.state.Families[id]
	if f == nil || f.Dead || f.Client != c.ID || time.Now().After(f.Ends) {
		return nil, "", badGrant
	}
	if f.Current != given {
		f.Dead = true
		p.log("reuse_detected", "family revoked", "")
		return nil, "", badGrant
	}
	return f, id, nil
}

func (p *Provider) password(c Client, form url.Values) (*family, string, *oauthError) {
	u, ok := p.user(form.Get("username"), form.Get("password"))
	switch {
	case !ok:
		return nil, "", badPassword
	case u.Locked:
		return nil, "", blocked
	}
	f, id := p.newFamily(c, u.subject(), form.Get("scope"))
	return f, id, nil
}

func (p *Provider) newFamily(c Client, subject, scope string) (*family, string) {
	id := secret("")[:22]
	f := &family{Client: c.ID, Subject: subject, Scope: scope, Since: time.Now(), Ends: time.Now().Add(p.RefreshLife)}
	p.state.Families[id] = f
	return f, id
}

// issue makes the next token set of a family.
func (p *Provider) issue(f *family, id, nonce string) (map[string]any, error) {
	at := secret("at_")
	p.witness("access token", at)
	p.state.Access[hash(at)] = access{Family: id, Ends: time.Now().Add(p.AccessTokenLife)}
	answer := map[string]any{"access_token": at, "token_type": "Bearer", "expires_in": int(p.AccessTokenLife / time.Second), "scope": f.Scope}
	scopes := strings.Fields(f.Scope)
	if contains(scopes, "offline_access") {
		rt := secret("rt_")
		p.witness("refresh token", rt)
		f.Current = hash(rt)
		p.state.Refresh[f.Current] = id
		answer["refresh_token"] = rt
	}
	if contains(scopes, "openid") {
		token, err := p.idToken(f, nonce)
		if err != nil {
			return nil, err
		}
		p.witness("ID token", token)
		answer["id_token"] = token
	}
	return answer, nil
}

func (p *Provider) idToken(f *family, nonce string) (string, error) {
	u, _ := p.find(f.Subject)
	now := time.Now()
	claims := map[string]any{
		"iss": p.Issuer, "sub": f.Subject, "aud": f.Client, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"auth_time": f.Since.Unix(), "amr": []string{"pwd"}, "name": u.Name, "email": u.Email, "preferred_username": u.Username,
	}
	if f.SID != "" {
		claims["sid"] = f.SID
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	return p.sign("JWT", claims)
}

// sign makes a JWT of a type.
func (p *Provider) sign(typ string, claims map[string]any) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: p.key, KeyID: p.keyID()}},
		(&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(body)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

func (p *Provider) keyID() string { return hash(p.key.N.String())[:12] }

func (p *Provider) jwks(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
		Key: &p.key.PublicKey, KeyID: p.keyID(), Algorithm: "RS256", Use: "sig",
	}}})
}

// revoke is RFC 7009: a token of any kind ends its family. Unknown tokens are fine.
func (p *Provider) revoke(w http.ResponseWriter, r *http.Request) {
	c, form, ok := p.authenticate(w, r)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := hash(form.Get("token"))
	id := p.state.Refresh[key]
	if a, ok := p.state.Access[key]; ok {
		id = a.Family
	}
	if f := p.state.Families[id]; f != nil && f.Client == c.ID {
		f.Dead = true
		u, _ := p.find(f.Subject)
		p.log("revoke", "ok", u.Username)
	}
	if err := p.save(); err != nil {
		refuse(w, http.StatusServiceUnavailable, "server_error", "The provider cannot write its state.")
		return
	}
	w.WriteHeader(http.StatusOK)
}

func contains(list []string, s string) bool {
	return slices.Contains(list, s)
}
