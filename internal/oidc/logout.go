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
	Subject  string    // all sessions of this person; with SID the one that is theirs
	SID      string    // the provider's session; "" = none is named
	ID       string    // jti
	IssuedAt time.Time // by the provider's clock
	Until    time.Time // from then on it is not taken any more
	Typed    bool      // it calls itself a logout token (typ: logout+jwt)
}

const (
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
	// logoutAge is how old a logout token may be, whatever end it names: so long we know which ones we had.
	logoutAge = 10 * time.Minute
	// maxLogoutName bounds jti and sid. Nothing in the specification does.
	maxLogoutName = 1024
)

// VerifyLogout checks a logout token by OpenID Connect Back-Channel Logout 1.0 section 2.6, every rule. An error of
// kind Rejected names the rule in its code; any other kind says that it could not be checked now.
//
// A token without a type, or with the type JWT, is taken: the specification only recommends logout+jwt, and Keycloak
// before 25, authentik before 2025.12 and others do not send it. The type is one of three things that keep a token of
// another kind out, and the other two are always demanded: the event, which no other kind has, and no nonce. Any other
// type is refused. A token without exp is taken as long as it is young: earlier drafts had no exp.
func (p *Provider) VerifyLogout(ctx context.Context, raw string) (LogoutToken, error) {
	t, err := p.verifyLogout(ctx, raw)
	var e *Error
	if errors.As(err, &e) && e.Kind == Rejected {
		return LogoutToken{}, refusedLogout(e.Code)
	}
	return t, err
}

// refusedLogout is a logout token that does not hold. rule names the check.
func refusedLogout(rule string) *Error {
	return &Error{Kind: Rejected, Act: "logout_token", Code: rule}
}

func (p *Provider) verifyLogout(ctx context.Context, raw string) (LogoutToken, error) {
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
	t, err := p.readLogout(body, time.Now())
	t.Typed = typeAllowed(head.ExtraHeaders[jose.HeaderType], true, []string{"logout+jwt", "application/logout+jwt"})
	return t, err
}

// readLogout checks the claims of a logout token.
func (p *Provider) readLogout(body []byte, now time.Time) (LogoutToken, error) {
	o, err := parseObject(body)
	if err != nil {
		return LogoutToken{}, rejected("claims")
	}
	m := &members{object: o}
	t := LogoutToken{Subject: m.text("sub"), SID: m.text("sid"), ID: m.text("jti"), IssuedAt: m.moment("iat")}
	issuer, audience, ends, begins := m.text("iss"), m.oneOrMore("aud"), m.moment("exp"), m.moment("nbf")
	var events map[string]json.RawMessage
	m.read("events", &events)
	late := now.Add(skew)
	t.Until = t.IssuedAt.Add(logoutAge + skew)
	if end := ends.Add(skew); !ends.IsZero() && end.Before(t.Until) {
		t.Until = end
	}
	_, hasNonce := o["nonce"]
	switch {
	case m.bad != "":
		return LogoutToken{}, rejected(m.bad)
	case issuer != p.Config.Issuer:
		return LogoutToken{}, rejected("iss")
	case !slices.Contains(audience, p.ClientID):
		return LogoutToken{}, rejected("aud")
	case t.IssuedAt.IsZero() || t.IssuedAt.After(late) || !now.Before(t.IssuedAt.Add(logoutAge+skew)):
		return LogoutToken{}, rejected("iat")
	case !now.Before(t.Until):
		return LogoutToken{}, rejected("exp")
	case begins.After(late):
		return LogoutToken{}, rejected("nbf")
	case !goodName(t.ID, maxLogoutName):
		return LogoutToken{}, rejected("jti")
	}
	if name := badWho(o, t); name != "" {
		return LogoutToken{}, rejected(name)
	}
	switch {
	case !isObject(events[logoutEvent]):
		return LogoutToken{}, rejected("events")
	case hasNonce: // an ID token that somebody passes off as a logout token
		return LogoutToken{}, rejected("nonce")
	}
	return t, nil
}

// badWho names the claim that does not say whose session is meant. A sid that is there and says nothing must not read
// as "no sid": the logout of one session would be one of all.
func badWho(o object, t LogoutToken) string {
	_, hasSubject := o["sub"]
	_, hasSID := o["sid"]
	switch {
	case !hasSubject && !hasSID, hasSubject && !goodSubject(t.Subject):
		return "sub"
	case hasSID && !goodName(t.SID, maxLogoutName):
		return "sid"
	}
	return ""
}

func isObject(raw json.RawMessage) bool {
	_, err := parseObject(raw)
	return err == nil
}

// IssuerOf reads who a logout token says it is from and for, to choose the provider that is to check it. Nothing of it
// is believed. The error is one of VerifyLogout.
func IssuerOf(raw string) (issuer string, audience []string, err error) {
	switch {
	case raw == "":
		return "", nil, refusedLogout("missing")
	case len(raw) > maxIDToken:
		return "", nil, refusedLogout("too_large")
	}
	jws, err := jose.ParseSignedCompact(raw, asymmetric)
	var alg *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &alg):
		return "", nil, refusedLogout("alg")
	case err != nil:
		return "", nil, refusedLogout("form")
	}
	o, err := parseObject(jws.UnsafePayloadWithoutVerification())
	if err != nil {
		return "", nil, refusedLogout("claims")
	}
	m := &members{object: o}
	return m.text("iss"), m.oneOrMore("aud"), nil
}

// typeAllowed compares a JWT's typ with those that are allowed; "" allows that there is none.
func typeAllowed(typ any, present bool, allowed []string) bool {
	if !present {
		return slices.Contains(allowed, "")
	}
	s, ok := typ.(string)
	return ok && s != "" && slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, s) })
}
