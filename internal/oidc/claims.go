package oidc

import "maps"

// protocol are the claims that are no display data.
var protocol = []string{
	"iss", "aud", "exp", "iat", "nbf", "nonce", "at_hash", "c_hash", "s_hash", "azp", "auth_time", "acr", "amr", "sid",
	"session_expiry", "jti",
}

// idClaims is an ID token's body as far as we read it.
type idClaims struct {
	Claims
	hasParty bool   // azp is there
	party    string // azp
	hash     string // at_hash
	before   int64  // nbf, seconds; 0 = not said
}

// parseClaims reads an ID token's body. A claim of the wrong type spoils the whole: what limits a session must not
// vanish because it cannot be read.
func parseClaims(body []byte) (idClaims, error) {
	o, err := parseObject(body)
	if err != nil {
		return idClaims{}, rejected("claims")
	}
	m := &members{object: o}
	c := idClaims{
		Claims: Claims{
			Issuer: m.text("iss"), Subject: m.text("sub"), SID: m.text("sid"), Audience: m.oneOrMore("aud"),
			IssuedAt: m.moment("iat"), Expires: m.moment("exp"), AuthTime: m.moment("auth_time"),
			ACR: m.text("acr"), AMR: m.oneOrMore("amr"), Nonce: m.text("nonce"), // some providers send amr as a bare string
			SessionExpiry: m.moment("session_expiry"),
		},
		hasParty: o.has("azp"), party: m.text("azp"), hash: m.text("at_hash"),
	}
	if t := m.moment("nbf"); !t.IsZero() {
		c.before = t.Unix()
	}
	if m.bad != "" {
		return idClaims{}, rejected(m.bad)
	}
	c.User = maps.Clone(o)
	for _, name := range protocol {
		delete(c.User, name)
	}
	return c, nil
}
