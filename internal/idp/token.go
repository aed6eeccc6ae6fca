package idp

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// codeLife is how long a code waits for its exchange, and is remembered to notice a second one.
const codeLife = time.Minute

// grantURI is how Auth0, and Okta after it, name their grants of a second factor.
const grantURI = "http://auth0.com/oauth/grant-type/"

// asked is a token request whose client is known.
type asked struct {
	*call
	client Client
}

// granted is what a grant gives: a family of tokens, and what the answer says besides.
type granted struct {
	family    *family
	id        string // of the family
	nonce     string
	asked     string // the scope that was asked for
	refreshed bool
	extra     map[string]any
}

// grant is one grant type. p.mu is held.
type grant func(p *Provider, a asked) (granted, *oauthError)

// token is the token endpoint (RFC 6749 section 3.2).
func (p *Provider) token(c *call) {
	client, ok := p.authenticate(c)
	if !ok {
		return
	}
	for _, s := range []struct{ what, name string }{
		{"code verifier", "code_verifier"},
		{"password", "password"},
		{"one-time code", "otp"},
		{"one-time code", "totp"},
		{"one-time code", "binding_code"},
		{"recovery code", "recovery_code"},
	} {
		p.witness(s.what, c.form.Get(s.name))
	}
	p.mu.Lock()
	defer p.unlock()
	do, known := p.dialect.grants[c.form.Get("grant_type")]
	if !known {
		p.deny(c, p.say(unknownGrant))
		return
	}
	g, problem := do(p, asked{c, client})
	if problem != nil {
		_ = p.save() // what a refused grant revoked
		p.deny(c, problem)
		return
	}
	answer, err := p.issue(g)
	if err == nil {
		err = p.save()
	}
	if err != nil {
		p.deny(c, unwritten)
		return
	}
	u, _ := p.find(g.family.Subject)
	c.log(c.act, "ok", u.Username)
	writeJSON(c.w, http.StatusOK, answer)
}

var unwritten = &oauthError{status: http.StatusInternalServerError, code: "server_error", description: "The provider cannot write its state."}

// deny logs and answers a refusal.
func (p *Provider) deny(c *call, problem *oauthError) {
	c.log(c.act, problem.code, "")
	p.refuse(c.w, problem)
}

// authenticate checks the client, by header or by form, never both.
func (p *Provider) authenticate(c *call) (Client, bool) {
	id, given, basic := c.r.BasicAuth()
	if basic {
		id, _ = url.QueryUnescape(id)
		given, _ = url.QueryUnescape(given)
	} else {
		id, given = c.form.Get("client_id"), c.form.Get("client_secret")
	}
	client, ok := p.client(id)
	if !ok || !same(client.Secret, given) || basic && c.form.Has("client_secret") {
		c.w.Header().Set("WWW-Authenticate", `Basic realm="provider"`)
		p.deny(c, p.say(unknownClient))
		return Client{}, false
	}
	return client, true
}

// exchange turns a code into a family. A code that comes a second time kills what the first one made.
func (p *Provider) exchange(a asked) (granted, *oauthError) {
	key := hash(a.form.Get("code"))
	have, ok := p.state.Codes[key]
	if ok && have.Used {
		if f := p.state.Families[have.Family]; f != nil {
			f.Dead = true
		}
	}
	if !ok || have.Used || p.now().After(have.Ends) || have.Client != a.client.ID || have.RedirectURI != a.form.Get("redirect_uri") ||
		!verified(have.Challenge, a.form.Get("code_verifier")) {
		return granted{}, p.say(badGrant)
	}
	g := p.newFamily(a.client, have.Subject, have.Scope)
	g.family.SID, g.family.Since, g.family.AMR = have.SID, have.Since, have.AMR
	have.Used, have.Family = true, g.id
	p.state.Codes[key] = have
	g.nonce = have.Nonce
	return g, nil
}

// verified is RFC 7636 section 4.6. Who sent no challenge may send no verifier.
func verified(challenge, verifier string) bool {
	if challenge == "" {
		return verifier == ""
	}
	sum := sha256.Sum256([]byte(verifier))
	return same(challenge, base64.RawURLEncoding.EncodeToString(sum[:]))
}

// rotate is the refresh token grant.
func (p *Provider) rotate(a asked) (granted, *oauthError) {
	g, v := p.refreshed(a, a.form.Get("refresh_token"))
	switch v {
	case "":
		g.asked = a.form.Get("scope")
		return g, nil
	case factorRefresh:
		return granted{}, p.stepUp(a, g)
	}
	return granted{}, p.say(v)
}

// refreshed takes a refresh token for a new one. One that was spent before kills its family: it may be stolen.
func (p *Provider) refreshed(a asked, token string) (granted, verdict) {
	given := hash(token)
	id := p.state.Refresh[given]
	f := p.state.Families[id]
	switch {
	case f == nil || f.Client != a.client.ID || p.now().After(f.Ends):
		return granted{}, badGrant
	case f.Dead:
		return granted{}, deadGrant
	case p.Rotation == rotate && !f.spendable(given, p.now().Add(-p.Leeway)):
		f.Dead = true
		a.log("reuse_detected", "family revoked", "")
		return granted{}, reusedGrant
	}
	g := granted{family: f, id: id, refreshed: true}
	u, ok := p.find(f.Subject)
	switch {
	case !ok:
		return granted{}, badGrant
	case u.Locked:
		return granted{}, isLocked
	case p.people.steps(f.Subject):
		return g, factorRefresh
	}
	if p.Rotation == rotate {
		f.spend(given, p.now())
	}
	return g, ""
}

// stepUp refuses a refresh that needs a second factor first, with a way on where the dialect has one. The refresh token
// is not spent.
func (p *Provider) stepUp(a asked, g granted) *oauthError {
	problem := p.say(factorRefresh)
	if p.dialect.wayOn == nil {
		return problem
	}
	at := &attempt{Client: a.client.ID, Subject: g.family.Subject, Scope: g.family.Scope, Family: g.id, AMR: []string{"pwd"}}
	return problem.with(p.dialect.wayOn(p, at))
}

// spendable reports whether a refresh token of the family is good, or was until a moment ago. Only the token before the
// newest has a leeway.
func (f *family) spendable(given string, since time.Time) bool {
	return given == f.Current || slices.Contains(f.Forks, given) || given == f.Previous && f.Rotated.After(since)
}

// spend marks a token as used. What Current was stays good beside the new one if it was not that token.
func (f *family) spend(given string, now time.Time) {
	if f.Current != given {
		f.Forks = append(f.Forks, f.Current)
	}
	f.Forks = slices.DeleteFunc(f.Forks, func(fork string) bool { return fork == given })
	if f.Previous != given {
		f.Previous, f.Rotated = given, now
	}
}

// password is the password grant (RFC 6749 section 4.3).
func (p *Provider) password(a asked) (granted, *oauthError) {
	u, v := p.knock(a.form.Get("username"), a.form.Get("password"), a.address)
	switch {
	case v == needsFactor && p.dialect.wayOn != nil:
		at := &attempt{Client: a.client.ID, Subject: u.subject(), Scope: a.form.Get("scope"), AMR: []string{"pwd"}}
		return granted{}, p.say(v).with(p.dialect.wayOn(p, at))
	case v != "":
		return granted{}, p.say(v)
	}
	return p.newFamily(a.client, u.subject(), a.form.Get("scope")), nil
}

func (p *Provider) newFamily(c Client, subject, scope string) granted {
	id := secret("")[:22]
	f := &family{Client: c.ID, Subject: subject, Scope: scope, Since: p.now(), Ends: p.now().Add(p.RefreshLife), AMR: []string{"pwd"}}
	if p.dialect.sids {
		f.SID = secret("")[:22]
	}
	p.state.Families[id] = f
	return granted{family: f, id: id, asked: scope}
}

// issue makes the next token set of a family.
func (p *Provider) issue(g granted) (map[string]any, error) {
	f := g.family
	at := secret("at_")
	p.witness("access token", at)
	p.state.Access[hash(at)] = access{Family: g.id, Ends: p.now().Add(p.AccessTokenLife)}
	answer := map[string]any{"access_token": at, "token_type": "Bearer", "expires_in": int(p.AccessTokenLife / time.Second), "scope": f.Scope}
	scopes := strings.Fields(f.Scope)
	stays := g.refreshed && p.Rotation == omit
	if (contains(scopes, "offline_access") || p.dialect.alwaysFresh) && !stays {
		rt := secret("rt_")
		p.witness("refresh token", rt)
		f.Current = hash(rt)
		p.state.Refresh[f.Current] = g.id
		answer["refresh_token"] = rt
	}
	if contains(scopes, "openid") {
		token, err := p.idToken(f, g.nonce)
		if err != nil {
			return nil, err
		}
		p.witness("ID token", token)
		answer["id_token"] = token
	}
	if p.dialect.extras != nil {
		p.dialect.extras(p, g, answer)
	}
	maps.Copy(answer, g.extra)
	return answer, nil
}

// revoke is RFC 7009: a token of any kind ends its family. Unknown tokens are fine.
func (p *Provider) revoke(c *call) {
	client, ok := p.authenticate(c)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(c, client, c.form.Get("token"))
	if err := p.save(); err != nil {
		p.refuse(c.w, &oauthError{status: http.StatusServiceUnavailable, code: "server_error", description: unwritten.description})
		return
	}
	c.w.WriteHeader(http.StatusOK)
}

// end kills the family of a token. p.mu is held.
func (p *Provider) end(c *call, client Client, token string) {
	key := hash(token)
	id := p.state.Refresh[key]
	if a, ok := p.state.Access[key]; ok {
		id = a.Family
	}
	if f := p.state.Families[id]; f != nil && f.Client == client.ID {
		f.Dead = true
		u, _ := p.find(f.Subject)
		c.log("revoke", "ok", u.Username)
	}
}

// userinfo is OpenID Connect Core 1.0 section 5.3.
func (p *Provider) userinfo(c *call) {
	token, _ := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	p.mu.Lock()
	f, ok := p.familyOf(token)
	p.mu.Unlock()
	if !ok {
		c.w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		refuse(c.w, http.StatusUnauthorized, "invalid_token", "The access token is not good.")
		return
	}
	u, _ := p.find(f.Subject)
	c.log("userinfo", "ok", u.Username)
	writeJSON(c.w, http.StatusOK, map[string]any{"sub": f.Subject, "name": u.Name, "email": u.Email, "preferred_username": u.Username})
}

func contains(list []string, s string) bool {
	return slices.Contains(list, s)
}
