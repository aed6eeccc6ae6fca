package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	metaLife = time.Hour
	// metaWait bounds how long those wait who have no context of their own and need metadata that never came.
	metaWait    = 3 * time.Second
	maxEndpoint = 2048
)

// metadata is what we use of OpenID Connect Discovery 1.0 and RFC 8414.
type metadata struct {
	issuer, authorization, token, jwks, revocation, endSession string

	challenge string // authorization_challenge_endpoint (OAuth 2.0 for First-Party Applications)

	algorithms   []string // id_token_signing_alg_values_supported
	clientAuth   []string // token_endpoint_auth_methods_supported
	issParameter bool     // authorization_response_iss_parameter_supported
}

// Discover makes sure that the provider's metadata is there, asking if need be.
func (p *Provider) Discover(ctx context.Context) error {
	_, err := p.discover(ctx)
	return err
}

// discover returns the metadata: fresh, or what was there before while the provider does not answer.
func (p *Provider) discover(ctx context.Context) (*metadata, error) {
	m, _, err := p.meta.get(ctx, func(_ *metadata, age time.Duration) fitness {
		if age < metaLife {
			return fit
		}
		return stale
	})
	if m != nil {
		return m, nil
	}
	return nil, err
}

// known is the metadata at hand, or nil where it never came. After a start it is asked for, so that the first login
// or logout is judged as strictly as the next.
func (p *Provider) known() *metadata {
	if m, _ := p.meta.peek(); m != nil {
		return m
	}
	ctx, cancel := context.WithTimeout(context.Background(), metaWait)
	defer cancel()
	m, err := p.discover(ctx)
	if err != nil {
		return nil
	}
	return m
}

// loadMetadata asks for the metadata. Its address is that of OpenID Connect Discovery 1.0 section 4.
func (p *Provider) loadMetadata(ctx context.Context) (*metadata, error) {
	var m *metadata
	address := strings.TrimSuffix(p.Config.Issuer, "/") + "/.well-known/openid-configuration"
	err := p.get(ctx, "discovery", address, func(body []byte) (err error) {
		if m, err = parseMetadata(body); err == nil {
			err = m.check(p.Config.Issuer)
		}
		return err
	})
	return m, err
}

func parseMetadata(body []byte) (*metadata, error) {
	o, err := parseObject(body)
	if err != nil {
		return nil, err
	}
	r := &members{object: o}
	m := &metadata{
		issuer: r.text("issuer"), authorization: r.text("authorization_endpoint"), token: r.text("token_endpoint"),
		jwks: r.text("jwks_uri"), revocation: r.text("revocation_endpoint"), endSession: r.text("end_session_endpoint"),
		challenge:    r.text("authorization_challenge_endpoint"),
		algorithms:   r.list("id_token_signing_alg_values_supported"),
		clientAuth:   r.list("token_endpoint_auth_methods_supported"),
		issParameter: r.flag("authorization_response_iss_parameter_supported"),
	}
	if r.bad != "" {
		return nil, fmt.Errorf("the metadata has a wrong type for %s", r.bad)
	}
	return m, nil
}

// check refuses metadata of another issuer (OIDC Discovery section 4.3) and endpoints that could be read on the way.
func (m *metadata) check(issuer string) error {
	wrong := func(format string, args ...any) error {
		return &Error{Kind: Misconfigured, Act: "discovery", Err: fmt.Errorf(format, args...)}
	}
	if m.issuer != issuer {
		return wrong("the metadata is of the issuer %q, not of %q: copy it exactly", printable(m.issuer), issuer)
	}
	if m.authorization == "" || m.token == "" || m.jwks == "" {
		return wrong("the metadata lacks authorization_endpoint, token_endpoint or jwks_uri")
	}
	plain := strings.HasPrefix(issuer, "http://") // on loopback: the configuration sees to it
	for _, endpoint := range []string{m.authorization, m.token, m.jwks, m.revocation, m.endSession, m.challenge} {
		if endpoint != "" && !safeEndpoint(endpoint, plain) {
			return wrong("the metadata has an endpoint that is no plain https address: %q", printable(endpoint))
		}
	}
	return nil
}

// safeEndpoint reports whether secrets may be sent to an address: https, or http on loopback where the issuer is
// there, too.
func safeEndpoint(address string, plain bool) bool {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || len(address) > maxEndpoint {
		return false
	}
	return u.Scheme == "https" || plain && u.Scheme == "http" && loopback(u.Hostname())
}

func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// authMethod is how the client authenticates: as configured, else what the provider offers; where it does not say,
// basic (RFC 8414 section 2). It is never probed: a wrong guess would count as a failed login.
func (p *Provider) authMethod(m *metadata) (string, error) {
	if p.ClientAuth != "" {
		return p.ClientAuth, nil
	}
	for _, method := range []string{clientSecretBasic, clientSecretPost} {
		if m.clientAuth == nil || slices.Contains(m.clientAuth, method) {
			return method, nil
		}
	}
	return "", &Error{
		Kind: Misconfigured, Act: "discovery", Code: "client_auth",
		Err: errors.New("the provider offers neither client_secret_basic nor client_secret_post"),
	}
}
