package oidc

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Target is what an access token is for, beside the one that a login brings. The zero value is that one. It can be
// compared.
type Target struct {
	Audience string // the API; "" = the provider decides
	Scope    string // apart by spaces; "" = the provider decides
}

// AccessToken is an access token without the token set that it came with. Value is a secret: it prints as
// "[access token]".
type AccessToken struct {
	Target     Target
	Value      string
	Header     string    // "Bearer " and the value, which is a part of it; "" = not made yet
	Scope      string    // what it is good for, where the provider says so or was asked
	Obtained   time.Time // our clock, when the answer came
	Expires    time.Time // zero = unknown
	Generation uint64    // tells it from the one before and the one after
}

func (AccessToken) String() string               { return "[access token]" }
func (AccessToken) GoString() string             { return "[access token]" }
func (t AccessToken) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[access token]") }

// MarshalText keeps encoders, and loggers that use them, from showing the fields.
func (AccessToken) MarshalText() ([]byte, error) { return []byte("[access token]"), nil }

// Ready makes the header once for all requests that will carry it. The value becomes a part of it.
func (t AccessToken) Ready() AccessToken {
	const scheme = "Bearer "
	t.Header = scheme + t.Value
	t.Value = t.Header[len(scheme):]
	return t
}

// Own is the access token that the set is about, without the others.
func (t *TokenSet) Own() AccessToken {
	return AccessToken{Value: t.Access, Scope: t.Scope, Obtained: t.Obtained, Expires: t.Expires, Generation: t.Generation}
}

// For returns the set's access token for a target, if it has one.
func (t *TokenSet) For(target Target) (AccessToken, bool) {
	if target == (Target{}) {
		return t.Own(), true
	}
	for i := range t.Further {
		if t.Further[i].Target == target {
			return t.Further[i], true
		}
	}
	return AccessToken{}, false
}

// tokenFor is the access token that a target was asked for with. A scope that is left out is the one that was asked for
// (RFC 6749 section 5.1).
func tokenFor(target Target, fresh TokenSet) AccessToken {
	got := fresh.Own()
	got.Target = target
	if got.Scope == "" {
		got.Scope = target.Scope
	}
	return got
}

// Aside is the set that a refresh for a target leads to: refresh token and ID token are new, the set's own access token
// stays, and the one that came stands among the others. Those that are over go.
func Aside(old, next TokenSet, got AccessToken) TokenSet {
	further := slices.DeleteFunc(slices.Clone(old.Further), func(a AccessToken) bool {
		return a.Target == got.Target || !a.Expires.IsZero() && a.Expires.Before(got.Obtained)
	})
	got.Generation = next.Generation
	next.Access, next.TokenType, next.Scope, next.Obtained, next.Expires = old.Access, old.TokenType, old.Scope, old.Obtained, old.Expires
	next.Further = append(further, got)
	return next
}

// resources reports whether the provider is asked for several APIs as RFC 8707 has it: all of them at the login, one of
// them at each token request. Others have one audience at the login, and say by their own settings what may follow.
func (p *Provider) resources() bool {
	return len(p.Audiences) > 0 && p.profile.audience == "" && p.profile.audienceScope == ""
}

// asked are the audiences that a login asks for.
func (p *Provider) asked() (list []string) {
	if p.Audience != "" {
		list = append(list, p.Audience)
	}
	if p.resources() {
		list = append(list, p.Audiences...)
	}
	return list
}

// askOwn says that the session's own audience is meant, where the login asked for several.
func (p *Provider) askOwn(form url.Values) {
	if p.resources() && p.Audience != "" {
		form.Set("resource", p.Audience)
	}
}

// Acts of the grants that ask for one access token.
const (
	actClient   = "client_credentials"
	actExchange = "token_exchange"
)

// jwtBearer is Entra's on-behalf-of grant, which it has instead of RFC 8693.
const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// askFor puts a target into a form. Where a provider knows APIs by their scopes alone, an audience is asked for as the
// scope of all that it has.
func (p *Provider) askFor(form url.Values, target Target, parameter string) {
	scope := target.Scope
	switch {
	case target.Audience == "":
	case p.profile.audienceScope == "":
		form.Set(parameter, target.Audience)
	case scope == "":
		scope = target.Audience + p.profile.audienceScope
	}
	if scope != "" {
		form.Set("scope", scope)
	}
}

// ClientToken is an access token of our client itself, for no person (RFC 6749 section 4.4). Nothing is spent by asking.
func (p *Provider) ClientToken(ctx context.Context, target Target) (AccessToken, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	p.askFor(form, target, p.profile.audienceParameter())
	return p.mint(ctx, actClient, form, target)
}

// ExchangeToken exchanges a person's access token for one for a target (RFC 8693; at Entra ID on-behalf-of). Nothing is
// spent by asking.
func (p *Provider) ExchangeToken(ctx context.Context, subject string, target Target) (AccessToken, error) {
	form := url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {subject},
		"subject_token_type":   {"urn:ietf:params:oauth:token-type:access_token"},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
	}
	if p.profile.onBehalfOf {
		form = url.Values{"grant_type": {jwtBearer}, "assertion": {subject}, "requested_token_use": {"on_behalf_of"}}
	}
	p.askFor(form, target, "audience")
	return p.mint(ctx, actExchange, form, target)
}

// mint asks the token endpoint for one access token. Whatever else the answer holds is let go.
func (p *Provider) mint(ctx context.Context, act string, form url.Values, target Target) (AccessToken, error) {
	x, err := p.tokenRequest(ctx, posting{act: act, form: form}, func(*Exchange) error { return nil })
	if err != nil {
		return AccessToken{}, err
	}
	return tokenFor(target, x.Tokens), nil
}

// Exceeds reports whether a token's scope has one that is not among those allowed (both apart by spaces).
func Exceeds(scope, allowed string) bool {
	list := strings.Fields(allowed)
	return slices.ContainsFunc(strings.Fields(scope), func(s string) bool { return !slices.Contains(list, s) })
}
