// Package oidc is our client to OpenID providers: discovery, keys, grants, revocation, ID tokens. It is written for
// one purpose: a confidential client on a server that must never lose or leak a token. Everything that a provider
// sends is bounded, checked and classified; nothing is ever posted twice.
package oidc

import (
	"net/http"

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
	Audiences    []string // further ones, for which the refresh token will be presented
	Realm        string
	HTTP         *http.Client // nil = NewHTTPClient(); redirects are not followed in any case
	Events       event.Sink
}

// Provider speaks to one provider. All methods may be called by many goroutines at once.
type Provider struct {
	Config
	profile profile
	meta    document[metadata]
	keys    document[keySet]
}

// New makes a client. It asks nothing yet: a provider that is down is found when it is back.
func New(c Config) *Provider {
	if c.HTTP == nil {
		c.HTTP = NewHTTPClient()
	}
	c.HTTP = confined(c.HTTP)
	p := &Provider{Config: c, profile: profiles[c.Profile]}
	p.meta.load = p.loadMetadata
	p.keys.load, p.keys.pause = p.loadKeys, keysPause
	return p
}

// Issuer is the provider's identifying URL.
func (p *Provider) Issuer() string { return p.Config.Issuer }

// Ready reports how the last discovery went, without asking: nil = fine, or not asked yet.
func (p *Provider) Ready() error {
	_, err := p.meta.peek()
	return err
}

// HasRevocation reports whether the provider has a revocation endpoint.
func (p *Provider) HasRevocation() bool {
	m := p.known()
	return m != nil && m.revocation != ""
}

// IssInCallback reports whether the provider says that it sends iss with each callback.
func (p *Provider) IssInCallback() bool {
	m := p.known()
	return m != nil && m.issParameter
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
