// Package oidc is our client to OpenID providers: discovery, keys, grants, revocation, ID tokens. It is written for
// one purpose: a confidential client on a server that must never lose or leak a token. Everything that a provider
// sends is bounded, checked and classified; nothing is ever posted twice.
package oidc

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/event"
)

// Config is one client at one provider.
type Config struct {
	Name         string
	Issuer       string
	ClientID     string
	ClientSecret config.Secret
	ClientAuth   string // "" = by discovery | client_secret_basic | client_secret_post
	Profile      string
	Scopes       []string
	Audience     string
	Realm        string
	HTTP         *http.Client // nil = NewHTTPClient()
	Events       event.Sink
}

// Provider speaks to one provider. All methods may be called by many goroutines at once.
type Provider struct {
	Config
	profile profile

	mu        sync.Mutex
	meta      *metadata
	metaUntil time.Time // fetch again after
	metaErr   error     // why the last fetch failed
	retryAt   time.Time // no further try before
	failures  int
	fetching  chan struct{} // closed when the running fetch is over

	keys keyStore
}

// New makes a client. It asks nothing yet: a provider that is down is found when it is back.
func New(c Config) *Provider {
	if c.HTTP == nil {
		c.HTTP = NewHTTPClient()
	}
	p := &Provider{Config: c, profile: profiles[c.Profile]}
	p.keys.provider = p
	return p
}

// NewHTTPClient makes the client for conversations with providers: time-outs at every step, no redirect (one would
// send the client secret elsewhere), no retry of a request that may have arrived.
func NewHTTPClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 16
	t.TLSHandshakeTimeout = 5 * time.Second
	t.ResponseHeaderTimeout = 25 * time.Second
	t.MaxResponseHeaderBytes = 64 << 10
	return &http.Client{
		Transport: t,
		Timeout:   30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

// Issuer is the provider's identifying URL.
func (p *Provider) Issuer() string { return p.Config.Issuer }

// Ready reports how the last discovery went, without asking: nil = fine, or not asked yet and not failed.
func (p *Provider) Ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.metaErr != nil {
		return errors.New("the provider cannot be reached")
	}
	return nil
}

// HasRevocation reports whether the provider has a revocation endpoint, as far as is known.
func (p *Provider) HasRevocation() bool {
	m := p.known()
	return m != nil && m.Revocation != ""
}

// CheckIss compares the iss of a callback with the issuer, as plain strings (RFC 9207 section 2.4). One that is
// missing is refused where the provider says that it sends it.
func (p *Provider) CheckIss(iss string) error {
	switch {
	case iss == p.Config.Issuer:
		return nil
	case iss != "":
		return &Error{Kind: Rejected, Act: "callback", Code: "wrong_iss"}
	case p.IssInCallback():
		return &Error{Kind: Rejected, Act: "callback", Code: "missing_iss"}
	}
	return nil
}

// IssInCallback reports whether the provider says that it sends iss with each callback.
func (p *Provider) IssInCallback() bool {
	m := p.known()
	return m != nil && m.IssParameter
}

// known is the metadata at hand, or nil.
func (p *Provider) known() *metadata {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.meta
}

// AuthRequest is what varies between authorization requests.
type AuthRequest struct {
	RedirectURI, State, Nonce, Verifier                          string
	Prompt, LoginHint, ACRValues, MaxAge, UILocales, IDTokenHint string
}

// AuthorizeURL is where the browser goes to log in: authorization code with PKCE S256, state and nonce, always
// (RFC 9700 section 2.1.1).
func (p *Provider) AuthorizeURL(ctx context.Context, a AuthRequest) (string, error) {
	m, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(m.Authorization)
	if err != nil {
		return "", &Error{Kind: Misconfigured, Act: "discovery", Err: err}
	}
	q := u.Query()
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("response_type", "code")
	set("client_id", p.ClientID)
	set("redirect_uri", a.RedirectURI)
	set("scope", strings.Join(p.Scopes, " "))
	set("state", a.State)
	set("nonce", a.Nonce)
	set("code_challenge", challenge(a.Verifier))
	set("code_challenge_method", "S256")
	set("prompt", a.Prompt)
	set("login_hint", a.LoginHint)
	set("acr_values", a.ACRValues)
	set("max_age", a.MaxAge)
	set("ui_locales", a.UILocales)
	set("id_token_hint", a.IDTokenHint)
	set(p.profile.audienceParameter(), p.Audience)
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Logout is what varies between logouts at the provider.
type Logout struct{ IDTokenHint, LogoutHint, PostLogoutRedirectURI, State string }

// EndSessionURL is where the browser goes to end its session at the provider (OIDC RP-Initiated Logout 1.0), or ""
// where none is known.
func (p *Provider) EndSessionURL(l Logout) string {
	m := p.known()
	if m == nil {
		return ""
	}
	endpoint := m.EndSession
	q := url.Values{"client_id": {p.ClientID}}
	switch {
	case p.profile.ownLogout == "" && endpoint == "":
		return ""
	case p.profile.ownLogout != "" && endpoint == "":
		endpoint = strings.TrimSuffix(p.Config.Issuer, "/") + p.profile.ownLogout
		q.Set(p.profile.ownLogoutReturn, l.PostLogoutRedirectURI)
	default:
		if p.profile.logoutHintSuffices && l.LogoutHint != "" {
			q.Set("logout_hint", l.LogoutHint)
		} else if l.IDTokenHint != "" {
			q.Set("id_token_hint", l.IDTokenHint)
		}
		if l.PostLogoutRedirectURI != "" {
			q.Set("post_logout_redirect_uri", l.PostLogoutRedirectURI)
		}
		if l.State != "" {
			q.Set("state", l.State)
		}
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	maps.Copy(q, u.Query())
	u.RawQuery = q.Encode()
	return u.String()
}
