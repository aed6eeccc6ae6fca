package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

// Acts, as event.Call names them.
const (
	actCode     = "authorization_code"
	actPassword = "password"
	actRefresh  = "refresh_token"
	actRevoke   = "revoke"
)

// Expect is what the caller knows that the answer must agree with.
type Expect struct {
	Nonce     string        // "" = there was none (login by form, refresh)
	MaxAge    time.Duration // 0 = not asked
	ACRValues string        // "" = not asked
	Subject   string        // at a refresh: whom the session belongs to
	Issuer    string        // at a refresh
	AuthTime  time.Time     // at a refresh: of the login; zero = unknown
}

// Exchange is what a grant brought.
type Exchange struct {
	Tokens TokenSet
	Claims Claims // zero where no ID token came

	RecoveryCode config.Secret // the next one, after a login with the last (Auth0)
}

// PasswordRequest is a login by form. The password goes to the provider byte for byte.
type PasswordRequest struct {
	Username, Password, ClientAddress string
	OTP                               string // Keycloak takes the second factor's code together with the password
}

func (PasswordRequest) String() string               { return "[password request]" }
func (PasswordRequest) Format(f fmt.State, _ rune)   { fmt.Fprint(f, "[password request]") }
func (PasswordRequest) GoString() string             { return "[password request]" }
func (PasswordRequest) MarshalText() ([]byte, error) { return []byte("[password request]"), nil }

// Exchange turns an authorization code into tokens (RFC 6749 section 4.1.3, RFC 7636).
func (p *Provider) Exchange(ctx context.Context, code, verifier, redirectURI string, e Expect) (Exchange, error) {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {redirectURI}}
	p.askOwn(form)
	return p.tokenRequest(ctx, posting{act: actCode, form: form}, p.login(ctx, e))
}

// Password logs in by form (RFC 6749 section 4.3). It is sent once, whatever happens: a second try would count
// double towards a lockout. The error's Reason says what it means for the person.
func (p *Provider) Password(ctx context.Context, r PasswordRequest) (Exchange, error) {
	form := url.Values{
		"grant_type": {"password"}, "username": {r.Username}, "password": {r.Password},
		"scope": {strings.Join(p.Scopes, " ")},
	}
	if p.Realm != "" && p.profile.realmGrant != "" {
		form.Set("grant_type", p.profile.realmGrant)
		form.Set("realm", p.Realm)
	}
	if asked := p.asked(); len(asked) > 0 {
		form[p.profile.audienceParameter()] = asked
	}
	if r.OTP != "" {
		form.Set("totp", r.OTP)
	}
	return p.Grant(ctx, actPassword, form, r.ClientAddress, Expect{})
}

// Grant asks the token endpoint with a grant that is a step of a login by form. clientAddress is the person's, for a
// provider that wants to know. The error's Reason says what it means for the person.
func (p *Provider) Grant(ctx context.Context, act string, form url.Values, clientAddress string, e Expect) (Exchange, error) {
	x, err := p.tokenRequest(ctx, posting{act: act, form: form, header: p.addressOf(clientAddress)}, p.login(ctx, e))
	return x, withReason(err)
}

// addressOf is the header that hands on the person's address, as the profile names it.
func (p *Provider) addressOf(client string) http.Header {
	header := http.Header{}
	if a, err := netip.ParseAddr(client); err == nil && p.profile.addressHeader != "" {
		header.Set(p.profile.addressHeader, a.Unmap().WithZone("").String())
	}
	return header
}

// withReason says in an error what it means for a person who logs in by form.
func withReason(err error) error {
	if failed, ok := errors.AsType[*Error](err); ok {
		failed.Reason = reasonOf(failed)
	}
	return err
}

// Refresh gets a new token set. What the provider leaves out keeps its old value. An ID token that came along and
// does not hold is an *Error of Kind Rejected beside the complete Exchange: the tokens must be saved first, for the
// old refresh token may be spent. One that cannot be judged now, because the provider's keys cannot be had, is left
// out like one that did not come: a session must not end over that.
//
// With a target the new access token is for that and stands among the set's further ones; its own one stays.
func (p *Provider) Refresh(ctx context.Context, old TokenSet, target Target, e Expect) (Exchange, error) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {old.Refresh}}
	if target == (Target{}) {
		p.askOwn(form)
	}
	p.askFor(form, target, p.profile.audienceParameter())
	return p.tokenRequest(ctx, posting{act: actRefresh, form: form}, func(x *Exchange) error {
		fresh := x.Tokens
		x.Tokens = merge(old, fresh)
		if target != (Target{}) {
			x.Tokens = Aside(old, x.Tokens, tokenFor(target, fresh))
		}
		if fresh.ID == "" {
			return nil
		}
		claims, err := p.verifyRefreshed(ctx, fresh, e)
		if err != nil || claims.Subject == "" {
			x.Tokens.ID = old.ID
			return err
		}
		x.Claims = claims
		return nil
	})
}

// merge is the token set after a refresh: the fresh one, with the old one's values where it says nothing.
func merge(old, fresh TokenSet) TokenSet {
	fresh.Generation = old.Generation + 1
	if fresh.Refresh == "" {
		fresh.Refresh = old.Refresh
		if fresh.RefreshEnd.IsZero() {
			fresh.RefreshEnd = old.RefreshEnd
		}
	}
	if fresh.ID == "" {
		fresh.ID = old.ID
	}
	if fresh.AuthSession == "" {
		fresh.AuthSession = old.AuthSession
	}
	if fresh.Scope == "" {
		fresh.Scope = old.Scope
	}
	fresh.Further = old.Further
	return fresh
}

// login judges the answer to a login, which must bring an ID token that holds.
func (p *Provider) login(ctx context.Context, e Expect) func(*Exchange) error {
	return func(x *Exchange) (err error) {
		if x.Tokens.Refresh == "" {
			x.Tokens.RefreshEnd = time.Time{}
		}
		if x.Claims, err = p.verify(ctx, x.Tokens.ID, x.Tokens.Access, e); err != nil {
			*x = Exchange{} // nothing of it may be used
		}
		return err
	}
}

// tokenRequest asks the token endpoint and judges what came.
func (p *Provider) tokenRequest(ctx context.Context, o posting, judge func(*Exchange) error) (x Exchange, err error) {
	o.endpoint = func(m *metadata) string { return m.token }
	err = p.post(ctx, o, func(a answer) (err error) {
		if x.Tokens, err = p.parseTokens(o.act, a, time.Now()); err != nil {
			return err
		}
		x.RecoveryCode = recoveryCodeOf(a.body)
		if err = judge(&x); err == nil {
			return nil
		}
		if e, ok := errors.AsType[*Error](err); ok {
			e.Act = o.act
		}
		return err
	})
	return x, err
}

// parseTokens reads a token endpoint's answer (RFC 6749 sections 5.1 and 5.2). Unknown members are ignored.
func (p *Provider) parseTokens(act string, a answer, now time.Time) (TokenSet, error) {
	o, err := parseObject(a.body)
	if err != nil || a.status != http.StatusOK || o.has("error") {
		return TokenSet{}, p.refusal(act, a, o)
	}
	m := &members{object: o}
	t := TokenSet{
		Access: m.text("access_token"), TokenType: m.text("token_type"), Refresh: m.text("refresh_token"),
		ID: m.text("id_token"), Scope: strings.Join(m.oneOrMore("scope"), " "), Obtained: now, // some write a list
		AuthSession: m.text("auth_session"),
	}
	wrong := func(rule string) error { return &Error{Kind: Rejected, Act: act, Status: a.status, Code: rule} }
	switch {
	case m.bad != "":
		return TokenSet{}, wrong(m.bad)
	case t.Access == "":
		return TokenSet{}, p.refusal(act, a, nil)
	case !strings.EqualFold(t.TokenType, "Bearer"):
		return TokenSet{}, wrong("token_type")
	case !bearer(t.Access), !visible(t.Refresh):
		return TokenSet{}, wrong("token_characters")
	}
	if life := o.seconds("expires_in"); life > 0 {
		t.Expires = now.Add(life)
	}
	life := o.seconds("refresh_expires_in")
	if life == 0 {
		life = o.seconds("refresh_token_expires_in")
	}
	if life > 0 {
		t.RefreshEnd = now.Add(life)
	}
	return t, nil
}

// recoveryCodeOf reads the code that comes beside the tokens where one was just used up.
func recoveryCodeOf(body []byte) config.Secret {
	o, _ := parseObject(body)
	m := &members{object: o}
	return config.NewSecret(m.text("recovery_code"))
}

// Accept judges tokens that came in another way than from the token endpoint, as the answer to a login.
func (p *Provider) Accept(ctx context.Context, act string, t TokenSet, e Expect) (Exchange, error) {
	if t.Access == "" || !bearer(t.Access) || !visible(t.Refresh) {
		return Exchange{}, &Error{Kind: Rejected, Act: act, Code: "token_characters", Reason: ReasonConfig}
	}
	x := Exchange{Tokens: t}
	err := p.login(ctx, e)(&x)
	if failed, ok := errors.AsType[*Error](err); ok {
		failed.Act = act
	}
	return x, withReason(err)
}

// visible reports whether a token is made of the characters of RFC 6749 appendix A: printable ASCII.
func visible(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) < 0
}

// bearer reports whether a token may stand in a header (RFC 6750 section 2.1, generously): no space either.
func bearer(s string) bool { return visible(s) && !strings.Contains(s, " ") }

// Revoke tells the provider that a token set is of no use any more (RFC 7009): its refresh token, or the access
// token where there is none. Without an endpoint there is nothing to tell; a token that the provider does not know is
// fine with it and with us.
func (p *Provider) Revoke(ctx context.Context, t TokenSet) error {
	m, err := p.discover(ctx)
	if err != nil {
		return err
	}
	form := url.Values{"token": {t.Refresh}, "token_type_hint": {"refresh_token"}}
	if t.Refresh == "" {
		form = url.Values{"token": {t.Access}, "token_type_hint": {"access_token"}}
	}
	if m.revocation == "" || form.Get("token") == "" {
		return nil
	}
	o := posting{act: actRevoke, form: form, endpoint: func(m *metadata) string { return m.revocation }}
	return p.post(ctx, o, func(a answer) error {
		if a.status == http.StatusOK || a.status == http.StatusNoContent {
			return nil
		}
		refused, _ := parseObject(a.body) // what is no object has no code
		return p.refusal(actRevoke, a, refused)
	})
}
