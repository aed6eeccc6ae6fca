package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// AuthRequest is what varies between authorization requests. Verifier is a PKCE verifier of 43 to 128 characters;
// State and Nonce are as hard to guess.
type AuthRequest struct {
	RedirectURI, State, Nonce, Verifier                          string
	Prompt, LoginHint, ACRValues, MaxAge, UILocales, IDTokenHint string
}

// AuthorizeURL is where the browser goes to log in: authorization code with PKCE S256, state and nonce, always
// (RFC 9700 section 2.1.1). The endpoint's own query stays.
//
// Scopes go as they are configured. Where they have offline_access, OpenID Connect Core section 11 wants
// prompt=consent too; most providers do not need it and would ask the person at every login, so it is never added.
func (p *Provider) AuthorizeURL(ctx context.Context, a AuthRequest) (string, error) {
	if a.State == "" || a.Nonce == "" || len(a.Verifier) < 43 || len(a.Verifier) > 128 {
		return "", errors.New("an authorization request needs state, nonce and a verifier of 43 to 128 characters")
	}
	m, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	pairs := []string{
		"response_type", "code", "client_id", p.ClientID, "redirect_uri", a.RedirectURI, "scope", strings.Join(p.Scopes, " "),
		"state", a.State, "nonce", a.Nonce, "code_challenge", challenge(a.Verifier), "code_challenge_method", "S256",
		"prompt", a.Prompt, "login_hint", a.LoginHint, "acr_values", a.ACRValues, "max_age", a.MaxAge,
		"ui_locales", a.UILocales, "id_token_hint", a.IDTokenHint,
	}
	for _, audience := range p.asked() {
		pairs = append(pairs, p.profile.audienceParameter(), audience)
	}
	return withQuery(m.authorization, pairs...), nil
}

// PushedURL is where the browser goes on with a login that the provider already knows, by request_uri (RFC 9126 section
// 4). What we go by, the state, goes along for providers that do not keep it.
func (p *Provider) PushedURL(ctx context.Context, requestURI, state string) (string, error) {
	m, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	return withQuery(m.authorization, "client_id", p.ClientID, "request_uri", requestURI, "state", state), nil
}

// challenge is the S256 code challenge of a verifier (RFC 7636 section 4.2).
func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Logout is what varies between logouts at the provider.
type Logout struct{ IDTokenHint, LogoutHint, PostLogoutRedirectURI, State string }

// EndSessionURL is where the browser goes to end its session at the provider (OIDC RP-Initiated Logout 1.0), or ""
// where none is known. The hint is logout_hint where the profile knows that it suffices, so that no token passes the
// browser, else the ID token.
func (p *Provider) EndSessionURL(l Logout) string {
	m := p.known()
	switch {
	case m == nil:
		return ""
	case p.profile.logoutPath != "" && (m.endSession == "" || p.profile.logoutAlways):
		u, err := url.Parse(m.authorization)
		if err != nil {
			return ""
		}
		own := url.URL{Scheme: u.Scheme, Host: u.Host, Path: p.profile.logoutPath}
		return withQuery(own.String(), "client_id", p.ClientID, p.profile.logoutReturn, l.PostLogoutRedirectURI)
	case m.endSession == "":
		return ""
	}
	hint, value := "id_token_hint", l.IDTokenHint
	if p.profile.logoutHint && l.LogoutHint != "" {
		hint, value = "logout_hint", l.LogoutHint
	}
	return withQuery(m.endSession, "client_id", p.ClientID, hint, value,
		"post_logout_redirect_uri", l.PostLogoutRedirectURI, "state", l.State)
}

// withQuery adds pairs of name and value to an address; empty values are left out, and a name may come again. The address is an endpoint of the
// metadata, which was checked when it came.
func withQuery(address string, pairs ...string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	q, ours := u.Query(), url.Values{}
	for pair := range slices.Chunk(pairs, 2) {
		if name, value := pair[0], pair[len(pair)-1]; value != "" {
			ours.Add(name, value)
		}
	}
	maps.Copy(q, ours)
	u.RawQuery = q.Encode()
	return u.String()
}
