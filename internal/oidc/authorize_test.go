package oidc

import (
	"crypto/sha256"
	"maps"
	"net/url"
	"strings"
	"testing"
)

func TestAuthorizeURL(t *testing.T) {
	f := newFake(t)
	ask := AuthRequest{RedirectURI: "https://app.example/auth/callback", State: "st&te", Nonce: "n-1", Verifier: verifier}
	sum := sha256.Sum256([]byte(verifier))
	always := url.Values{
		"tenant": {"7"}, "response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {ask.RedirectURI},
		"scope": {"openid offline_access"}, "state": {ask.State}, "nonce": {"n-1"}, "code_challenge": {b64(sum[:])}, "code_challenge_method": {"S256"},
	}
	full := ask
	full.Prompt, full.LoginHint, full.ACRValues, full.MaxAge, full.UILocales, full.IDTokenHint = "login", "a b", "gold silver", "0", "de en", "id-1"
	for name, c := range map[string]struct {
		profile, audience string
		ask               AuthRequest
		more              url.Values
	}{
		"plain":             {"generic", "", ask, nil},
		"all":               {"generic", "", full, url.Values{"prompt": {"login"}, "login_hint": {"a b"}, "acr_values": {"gold silver"}, "max_age": {"0"}, "ui_locales": {"de en"}, "id_token_hint": {"id-1"}}},
		"audience at Auth0": {"auth0", "https://api.example", ask, url.Values{"audience": {"https://api.example"}}},
		"resource":          {"okta", "https://api.example", ask, url.Values{"resource": {"https://api.example"}}},
	} {
		p := f.provider(func(o *Config) { o.Profile, o.Audience = c.profile, c.audience })
		got, err := p.AuthorizeURL(t.Context(), c.ask)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(got)
		if err != nil || u.Scheme+"://"+u.Host+u.Path != issuer+"/authorize" || strings.Contains(got, verifier) {
			t.Errorf("%s: %s %v", name, got, err)
		}
		want := url.Values{}
		for _, from := range []url.Values{always, c.more} {
			maps.Copy(want, from)
		}
		if u.Query().Encode() != want.Encode() {
			t.Errorf("%s:\n got %v\nwant %v", name, u.Query(), want)
		}
	}
	for name, change := range map[string]func(*AuthRequest){
		"state":    func(a *AuthRequest) { a.State = "" },
		"nonce":    func(a *AuthRequest) { a.Nonce = "" },
		"verifier": func(a *AuthRequest) { a.Verifier = "" },
		"short":    func(a *AuthRequest) { a.Verifier = "short" },
		"long":     func(a *AuthRequest) { a.Verifier = strings.Repeat("x", 129) },
	} {
		bad := ask
		change(&bad)
		if got, err := f.provider(nil).AuthorizeURL(t.Context(), bad); err == nil {
			t.Errorf("without %s: %s", name, got)
		}
	}
}

func TestEndSessionURL(t *testing.T) {
	all := Logout{IDTokenHint: "id-1", LogoutHint: "s-1", PostLogoutRedirectURI: "https://app.example/", State: "x"}
	for name, c := range map[string]struct {
		profile  string
		endpoint any
		logout   Logout
		want     string
	}{
		"generic":                     {"generic", issuer + "/end?a=b", all, issuer + "/end?a=b&client_id=app&id_token_hint=id-1&post_logout_redirect_uri=https%3A%2F%2Fapp.example%2F&state=x"},
		"no hint":                     {"generic", issuer + "/end", Logout{LogoutHint: "s-1"}, issuer + "/end?client_id=app"},
		"none":                        {"generic", nil, all, ""},
		"an endpoint with our id":     {"generic", issuer + "/end?client_id=evil", Logout{}, issuer + "/end?client_id=app"},
		"Auth0":                       {"auth0", issuer + "/oidc/logout", all, issuer + "/oidc/logout?client_id=app&logout_hint=s-1&post_logout_redirect_uri=https%3A%2F%2Fapp.example%2F&state=x"},
		"Auth0 without sid":           {"auth0", issuer + "/oidc/logout", Logout{IDTokenHint: "id-1"}, issuer + "/oidc/logout?client_id=app&id_token_hint=id-1"},
		"Auth0 without end_session":   {"auth0", nil, all, issuer + "/v2/logout?client_id=app&returnTo=https%3A%2F%2Fapp.example%2F"},
		"Auth0 without anything":      {"auth0", nil, Logout{}, issuer + "/v2/logout?client_id=app"},
		"Cognito":                     {"cognito", nil, all, issuer + "/logout?client_id=app&logout_uri=https%3A%2F%2Fapp.example%2F"},
		"Cognito with end_session":    {"cognito", issuer + "/end", all, issuer + "/logout?client_id=app&logout_uri=https%3A%2F%2Fapp.example%2F"},
		"Keycloak needs the ID token": {"keycloak", issuer + "/end", all, issuer + "/end?client_id=app&id_token_hint=id-1&post_logout_redirect_uri=https%3A%2F%2Fapp.example%2F&state=x"},
	} {
		f := newFake(t)
		f.meta["end_session_endpoint"] = c.endpoint
		if got := f.provider(func(o *Config) { o.Profile = c.profile }).EndSessionURL(c.logout); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

// TestCheckIss: plain strings, and a missing one is refused where it was promised, also right after a start.
func TestCheckIss(t *testing.T) {
	for _, c := range []struct {
		promised any
		iss      string
		code     string
	}{
		{true, issuer, ""},
		{nil, issuer, ""},
		{nil, "", ""},
		{false, "", ""},
		{true, "", "missing_iss"},
		{true, issuer + "/", "wrong_iss"},
		{nil, "http://LOCALHOST", "wrong_iss"},
		{nil, issuer + ":80", "wrong_iss"},
		{nil, "x", "wrong_iss"},
	} {
		f := newFake(t)
		f.meta["authorization_response_iss_parameter_supported"] = c.promised
		p := f.provider(nil)
		err := p.CheckIss(c.iss)
		if c.code == "" && err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if c.code != "" {
			wantError(t, err, Rejected, c.code)
		}
		if p.IssInCallback() != (c.promised == true) || p.Issuer() != issuer {
			t.Errorf("%+v", c)
		}
	}
}
