package idp

import (
	"net/http"
	"time"
)

// keycloak is Keycloak with a direct access grant: the code of the authenticator app comes along with the password.
func keycloak() dialect {
	grants := plainGrants()
	grants["password"] = (*Provider).keycloakPassword
	return dialect{
		paths: func(base string) addresses {
			at := under(base + "/protocol/openid-connect")
			at.authorize, at.jwks = base+"/protocol/openid-connect/auth", base+"/protocol/openid-connect/certs"
			return at
		},
		grants: grants, rotation: keep, bruteForce: true, alwaysFresh: true, sids: true, issuerBack: true,
		words: keycloakWords,
		extras: func(p *Provider, g granted, answer map[string]any) {
			answer["not-before-policy"], answer["session_state"] = 0, g.family.SID
			if answer["refresh_token"] != nil {
				answer["refresh_expires_in"] = int(g.family.Ends.Sub(p.now()) / time.Second)
			}
		},
		document: map[string]any{"backchannel_logout_supported": true, "backchannel_logout_session_supported": true},
		routes: func(p *Provider) {
			p.handle("POST "+p.at.logout, "logout", p.keycloakLogout)
		},
	}
}

var (
	keycloakWrong  = &oauthError{status: http.StatusUnauthorized, code: "invalid_grant", description: "Invalid user credentials"}
	keycloakHidden = &oauthError{status: http.StatusBadRequest, code: "invalid_grant", description: "Account is not fully set up"}
)

// keycloakWords hide much: a brute-force lock and a wrong code are a wrong password, and every required action is the
// same.
var keycloakWords = map[verdict]*oauthError{
	unknownClient: {status: http.StatusUnauthorized, code: "unauthorized_client", description: "Invalid client or Invalid client credentials"},
	badGrant:      {status: http.StatusBadRequest, code: "invalid_grant", description: "Token is not active"},
	reusedGrant:   {status: http.StatusBadRequest, code: "invalid_grant", description: "Maximum allowed refresh token reuse exceeded"},
	deadGrant:     {status: http.StatusBadRequest, code: "invalid_grant", description: "Session doesn't have required client"},
	wrongPassword: keycloakWrong,
	tooManyWrong:  keycloakWrong,
	wrongCode:     keycloakWrong,
	tooManyCodes:  keycloakWrong,
	isLocked:      {status: http.StatusBadRequest, code: "invalid_grant", description: "Account disabled"},
	isDenied:      {status: http.StatusBadRequest, code: "access_denied", description: "Access denied"},
	needsConsent:  {status: http.StatusBadRequest, code: "invalid_client", description: "Client requires user consent"},
	isBreached:    keycloakHidden,
	needsCaptcha:  keycloakHidden,
	isUnverified:  keycloakHidden,
	isExpired:     keycloakHidden,
	mustEnrol:     keycloakHidden,
	factorRefresh: {status: http.StatusBadRequest, code: "invalid_grant", description: "Session not active"},
}

// keycloakPassword checks the code in the same request. It knows authenticator apps only: who has none has to enrol one.
func (p *Provider) keycloakPassword(a asked) (granted, *oauthError) {
	u, v := p.knock(a.form.Get("username"), a.form.Get("password"), a.address)
	if v != needsFactor {
		if v != "" {
			return granted{}, p.say(v)
		}
		return p.newFamily(a.client, u.subject(), a.form.Get("scope")), nil
	}
	f, ok := first(u.Factors, "otp")
	if !ok {
		return granted{}, p.say(mustEnrol)
	}
	at := &attempt{Client: a.client.ID, Subject: u.subject(), Scope: a.form.Get("scope"), AMR: []string{"pwd"}, Since: p.now(), factor: f}
	if a.form.Get("totp") == "" {
		return granted{}, p.say(wrongCode)
	}
	return p.through(a, at, p.answer(at, a.form.Get("totp")))
}

// keycloakLogout ends the session of a refresh token, server to server.
func (p *Provider) keycloakLogout(c *call) {
	client, ok := p.authenticate(c)
	if !ok {
		return
	}
	p.mu.Lock()
	id := p.state.Refresh[hash(c.form.Get("refresh_token"))]
	f := p.state.Families[id]
	if f == nil || f.Client != client.ID || f.Dead {
		p.mu.Unlock()
		p.deny(c, &oauthError{status: http.StatusBadRequest, code: "invalid_grant", description: "Invalid refresh token"})
		return
	}
	for _, have := range p.state.Families {
		if have.SID == f.SID {
			have.Dead = true
		}
	}
	for key, s := range p.state.Sessions {
		if s.ID == f.SID {
			delete(p.state.Sessions, key)
		}
	}
	err := p.save()
	p.mu.Unlock()
	if err != nil {
		p.deny(c, unwritten)
		return
	}
	u, _ := p.find(f.Subject)
	c.log("logout", "ok", u.Username)
	c.w.WriteHeader(http.StatusNoContent)
}
