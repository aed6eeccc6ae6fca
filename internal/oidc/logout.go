package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// LogoutToken is what a provider's back-channel logout says: whose sessions end.
type LogoutToken struct {
	Subject  string    // all sessions of this person; "" where SID says which
	SID      string    // the provider's session
	ID       string    // jti
	IssuedAt time.Time // by the provider's clock
	Expires  time.Time // until when it would be taken
}

const (
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
	// logoutAge is how old a logout token may be where it says no earlier end.
	logoutAge = 10 * time.Minute
)

// VerifyLogout checks a logout token by OpenID Connect Back-Channel Logout 1.0 section 2.6, every rule. An error of
// kind Rejected names the rule in its code; any other kind says that it could not be checked now.
func (p *Provider) VerifyLogout(ctx context.Context, raw string) (LogoutToken, error) {
	if err := p.Discover(ctx); err != nil {
		return LogoutToken{}, err
	}
	jws, err := p.parseJWT(raw, "logout+jwt", "application/logout+jwt", "JWT", "")
	if err != nil {
		return LogoutToken{}, err
	}
	head := jws.Signatures[0].Protected
	keys, err := p.keysFor(ctx, head.KeyID)
	if errors.Is(err, errNoKey) {
		return LogoutToken{}, rejected("key")
	}
	if err != nil {
		return LogoutToken{}, err
	}
	body, ok := open(jws, keys, head.Algorithm)
	if !ok {
		return LogoutToken{}, rejected("signature")
	}
	return p.readLogout(body, time.Now())
}

// readLogout checks the claims of a logout token.
func (p *Provider) readLogout(body []byte, now time.Time) (LogoutToken, error) {
	o, err := parseObject(body)
	if err != nil {
		return LogoutToken{}, rejected("claims")
	}
	m := &members{object: o}
	t := LogoutToken{Subject: m.text("sub"), SID: m.text("sid"), ID: m.text("jti"), IssuedAt: m.moment("iat"), Expires: m.moment("exp")}
	issuer, audience := m.text("iss"), m.oneOrMore("aud")
	var events map[string]json.RawMessage
	m.read("events", &events)
	late := now.Add(skew)
	limit := t.IssuedAt.Add(logoutAge)
	if t.Expires.IsZero() || t.Expires.After(limit) {
		t.Expires = limit
	}
	_, hasNonce := o["nonce"]
	switch {
	case m.bad != "":
		return LogoutToken{}, rejected(m.bad)
	case issuer != p.Config.Issuer:
		return LogoutToken{}, rejected("iss")
	case !slices.Contains(audience, p.ClientID):
		return LogoutToken{}, rejected("aud")
	case t.IssuedAt.IsZero() || t.IssuedAt.After(late):
		return LogoutToken{}, rejected("iat")
	case !now.Before(t.Expires.Add(skew)):
		return LogoutToken{}, rejected("exp")
	case t.ID == "" || len(t.ID) > 512:
		return LogoutToken{}, rejected("jti")
	case t.SID == "" && t.Subject == "", t.SID != "" && !goodSubject(t.SID), t.Subject != "" && !goodSubject(t.Subject):
		return LogoutToken{}, rejected("sub")
	case !isObject(events[logoutEvent]):
		return LogoutToken{}, rejected("events")
	case hasNonce: // an ID token that somebody passes off as a logout token
		return LogoutToken{}, rejected("nonce")
	}
	return t, nil
}

func isObject(raw json.RawMessage) bool {
	_, err := parseObject(raw)
	return err == nil
}

// IssuerOf reads who a JWT says it is from, to choose the provider that is to check it. Nothing of it is believed.
func IssuerOf(raw string) (issuer string, audience []string) {
	if len(raw) > maxIDToken {
		return "", nil
	}
	jws, err := jose.ParseSignedCompact(raw, asymmetric)
	if err != nil {
		return "", nil
	}
	o, err := parseObject(jws.UnsafePayloadWithoutVerification())
	if err != nil {
		return "", nil
	}
	m := &members{object: o}
	return m.text("iss"), m.oneOrMore("aud")
}

// typeAllowed compares a JWT's typ with those that are allowed; "" allows that there is none.
func typeAllowed(typ any, present bool, allowed []string) bool {
	if !present {
		return slices.Contains(allowed, "")
	}
	s, ok := typ.(string)
	return ok && s != "" && slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, s) })
}
