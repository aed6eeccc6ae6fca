package config

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// Provider is one OpenID provider and our client there. Register `https://<frontend>/auth/callback` as redirect URI
// (`/auth/callback/<name>` with several providers).
type Provider struct {
	// The provider's name in addresses and logs: lower-case letters, digits and `-`. Sessions remember it: with
	// another name they end.
	//
	// Default: `main` for a single provider; required with several
	Name string `yaml:"name"`

	// The provider's identifying URL, exactly as its discovery document writes it, a last slash included. Endpoints
	// and keys are read from `<issuer>/.well-known/openid-configuration`.
	//
	// Required.
	Issuer string `yaml:"issuer" rule:"required"`

	// Our client at the provider.
	//
	// Required.
	ClientID string `yaml:"client_id" rule:"required"`

	// The client's secret. Cloakroom is a confidential client (RFC 10017 section 6.1), so there always is one.
	//
	// Required.
	ClientSecret Secret `yaml:"client_secret" rule:"required"`

	// How the client proves itself: `client_secret_basic` or `client_secret_post`. Nothing is ever tried a second
	// way.
	//
	// Default: `""`, what the discovery document offers, `client_secret_basic` first
	ClientAuth string `yaml:"client_auth" words:"client_secret_basic client_secret_post" later:"private_key_jwt tls_client_auth"`

	// The facts about the provider's behaviour to go by: `auth0`, `keycloak`, `okta`, `entra`, `cognito` or
	// `generic`. It decides which error codes say what and how the user's address is handed on.
	//
	// Default: `generic`
	Profile string `yaml:"profile" words:"auth0 keycloak okta entra cognito generic"`

	// What is asked for at login. `openid` must be among them; without `offline_access` most providers give no
	// refresh token, and the session ends with its first access token.
	//
	// Default: `[openid, profile, email, offline_access]`
	Scopes []string `yaml:"scopes"`

	// Whom the access token is for: `audience` at Auth0, `resource` (RFC 8707) elsewhere.
	//
	// Default: `""`, the provider decides
	Audience string `yaml:"audience"`

	// The own-domain form: Cloakroom sends the user's password to the provider by the password grant, which must be
	// enabled for the client. RFC 9700 says not to use that grant: read docs/security.md first.
	//
	// Default: `false`
	PasswordLogin bool `yaml:"password_login"`

	// How the form's login is done: `challenge` = at the provider's authorization challenge endpoint (OAuth 2.0 for
	// First-Party Applications); `grant` = by the password grant, or at Cognito by its own API; `auto` = at the challenge
	// endpoint where the discovery document names one. The app's own code is the same for all.
	//
	// Default: `auto`
	PasswordMethod string `yaml:"password_method" words:"auto grant challenge"`

	// The Auth0 connection that checks the passwords of the form.
	//
	// Default: `""`, the tenant's default connection
	Realm string `yaml:"realm"`

	// The provider's hosted login page, by authorization code and PKCE.
	//
	// Default: `true`
	RedirectLogin *bool `yaml:"redirect_login"`

	// What the provider does when a refresh token is presented twice, after an answer that was lost: `none` = it
	// revokes the session; a duration up to `10m` = it tolerates that for so long; `harmless` = it does not mind;
	// `unknown` = like `none` as soon as the client was seen to rotate. Too generous a value makes the provider end
	// sessions, too strict a one makes a lost answer end them.
	//
	// Default: as the profile's provider comes: `30s` for `okta`, `harmless` for `entra`, else `unknown`
	RefreshReuse string `yaml:"refresh_reuse"`

	// How many token requests each process sends to this provider for refreshing in a time, at most; so many may also be
	// under way at once. Sessions whose token is over go first. Too many, and a provider that comes back after a
	// failure is asked for everybody's token at once; too few, and requests wait for their turn, up to 30 seconds, then
	// get 503 with `Retry-After`. 60,000 active sessions with tokens of five minutes need 200 a second.
	//
	// Default: `200/1s`
	RefreshRate Rate `yaml:"refresh_rate"`
}

// HasRedirectLogin reports whether users may log in at the provider's hosted page.
func (p Provider) HasRedirectLogin() bool { return p.RedirectLogin == nil || *p.RedirectLogin }

// reuseOf is what providers do, as they come, with a refresh token that is presented a second time. Okta's tokens are
// persistent, or rotated with 30 seconds of grace; Entra ID does not revoke the old one. Auth0, Cognito and Keycloak
// rotate or not by a setting that cannot be seen from outside.
var reuseOf = map[string]string{"okta": "30s", "entra": "harmless"}

const maxReuse = 10 * time.Minute

func (p Provider) withDefaults(single bool) Provider {
	if single {
		orDefault(&p.Name, "main")
	}
	orDefault(&p.Profile, "generic")
	orDefault(&p.PasswordMethod, "auto")
	orDefault(&p.RefreshReuse, reuseOf[p.Profile])
	orDefault(&p.RefreshReuse, "unknown")
	orDefault(&p.RefreshRate, Rate{Burst: 200, Per: time.Second})
	p.RedirectLogin = clonePointer(p.RedirectLogin)
	p.Scopes = slices.Clone(p.Scopes)
	if p.Scopes == nil {
		p.Scopes = []string{"openid", "profile", "email", "offline_access"}
	}
	return p
}

func checkProviders(a at, providers []Provider) {
	if len(providers) == 0 {
		a.say("is empty", "name at least one OpenID provider")
	}
	for i, p := range providers {
		item := a.item(i)
		p.check(item)
		if p.Name != "" && slices.ContainsFunc(providers[:i], func(o Provider) bool { return o.Name == p.Name }) {
			item.key("name").say("is the name of an earlier provider, too", "give each provider a name of its own")
		}
	}
}

func (p Provider) check(a at) {
	switch {
	case p.Name == "":
		a.key("name").say("is missing", "with several providers give each a name")
	case len(p.Name) > 64 || strings.ContainsFunc(p.Name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }):
		a.key("name").say("is not made of a-z, 0-9 and -", "choose a short plain name: it is part of an address")
	}
	p.checkIssuer(a.key("issuer"))
	p.checkClient(a)
	p.checkScopes(a.key("scopes"))
	if !printable(p.Audience) {
		a.key("audience").say("has a space or control character", "write it as the provider shows it")
	}
	if !p.PasswordLogin && !p.HasRedirectLogin() {
		a.say("lets nobody log in", "set redirect_login or password_login to true")
	}
	if p.Realm != "" && !p.PasswordLogin {
		a.key("realm").say("is for the form, which is off", "set password_login: true or leave it out")
	}
	p.checkReuse(a.key("refresh_reuse"))
}

func (p Provider) checkIssuer(a at) {
	u, err := url.Parse(p.Issuer)
	switch {
	case p.Issuer == "":
		a.say("is missing", "write the provider's URL as its discovery document has it")
	case err != nil || u.Host == "" || !validHost(u.Hostname()) || !validPort(u):
		a.say("is no URL", "write it like https://tenant.example.com/")
	case u.Scheme != "https" && (u.Scheme != "http" || !loopbackHost(u.Hostname())):
		a.say("is not https", "write https://, or http:// on localhost")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(p.Issuer, "#"):
		a.say("has a user name, query or fragment", "write it exactly as the provider's discovery document has it")
	}
}

func (p Provider) checkClient(a at) {
	switch {
	case p.ClientID == "":
		a.key("client_id").say("is missing", "write the id of the client that is registered at the provider")
	case strings.ContainsFunc(p.ClientID, isControl):
		a.key("client_id").say("has a line break or control character", "write only the id")
	}
	switch {
	case p.ClientSecret.Empty():
		a.key("client_secret").say("is missing", "register a confidential client and write ${env:NAME} or ${file:PATH}")
	case strings.ContainsFunc(p.ClientSecret.Reveal(), isControl):
		a.key("client_secret").say("has a line break or control character", "leave only the secret in its file or variable")
	}
}

func (p Provider) checkScopes(a at) {
	for i, scope := range p.Scopes {
		if !isScope(scope) {
			a.item(i).say("is no scope", "write one scope per list entry, without spaces and quotes")
		}
	}
	if !slices.Contains(p.Scopes, "openid") {
		a.say("lacks openid, so the provider would not say who logged in", "add openid")
	}
}

// isScope reports whether s is a scope-token of RFC 6749 section 3.3.
func isScope(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

func (p Provider) checkReuse(a at) {
	switch p.RefreshReuse {
	case "unknown", "none", "harmless":
		return
	}
	if d, err := ParseDuration(p.RefreshReuse); err != nil || d <= 0 || d.Std() > maxReuse {
		a.say("is neither unknown, none, harmless nor a duration up to 10m", "write what the provider documents, or unknown")
	}
}

// printable reports whether s has only characters that may stand in a parameter without being seen wrong.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || isControl(r) })
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffd }
