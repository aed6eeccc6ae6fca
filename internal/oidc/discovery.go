package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
)

const (
	maxAnswer    = 1 << 20 // bytes of any answer of a provider
	metaLife     = time.Hour
	fetchTime    = 10 * time.Second
	firstBackoff = time.Second
	mostBackoff  = 30 * time.Second
)

// metadata is what we use of OpenID Connect Discovery 1.0 and RFC 8414.
type metadata struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	JWKS          string   `json:"jwks_uri"`
	Revocation    string   `json:"revocation_endpoint"`
	EndSession    string   `json:"end_session_endpoint"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	ClientAuth    []string `json:"token_endpoint_auth_methods_supported"`
	IssParameter  bool     `json:"authorization_response_iss_parameter_supported"`
}

// Discover makes sure that the provider's metadata is there, asking if need be.
func (p *Provider) Discover(ctx context.Context) error {
	_, err := p.discover(ctx)
	return err
}

// discover returns the metadata: what is at hand while it is young, else asked for once for all who wait. A
// provider that does not answer is asked again with backoff; old metadata serves on meanwhile.
func (p *Provider) discover(ctx context.Context) (*metadata, error) {
	for {
		p.mu.Lock()
		now := time.Now()
		switch {
		case p.meta != nil && now.Before(p.metaUntil), p.meta != nil && now.Before(p.retryAt):
			m := p.meta
			p.mu.Unlock()
			return m, nil
		case now.Before(p.retryAt):
			err := &Error{Kind: Transient, Act: "discovery", RetryAfter: p.retryAt.Sub(now), Err: p.metaErr}
			p.mu.Unlock()
			return nil, err
		}
		wait := p.fetching
		if wait == nil {
			wait = make(chan struct{})
			p.fetching = wait
			go p.refetch(wait)
		}
		stale := p.meta
		p.mu.Unlock()
		if stale != nil {
			return stale, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, &Error{Kind: Transient, Act: "discovery", Err: ctx.Err()}
		}
	}
}

// refetch asks for the metadata and keeps what comes of it.
func (p *Provider) refetch(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTime)
	defer cancel()
	var m metadata
	err := p.get(ctx, "discovery", strings.TrimSuffix(p.Config.Issuer, "/")+"/.well-known/openid-configuration", &m)
	if err == nil {
		err = p.check(&m)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetching = nil
	close(done)
	p.metaErr = err
	if err != nil {
		p.retryAt = time.Now().Add(min(firstBackoff<<min(p.failures, 6), mostBackoff))
		p.failures++
		return
	}
	p.meta, p.metaUntil, p.retryAt, p.failures = &m, time.Now().Add(metaLife), time.Time{}, 0
}

// check refuses metadata of another issuer (OIDC Discovery section 4.3) and endpoints that could be read on the way.
func (p *Provider) check(m *metadata) error {
	if m.Issuer != p.Config.Issuer {
		return fmt.Errorf("the metadata is of the issuer %q, not of %q: copy it exactly", printable(m.Issuer), p.Config.Issuer)
	}
	if m.Authorization == "" || m.Token == "" || m.JWKS == "" {
		return errors.New("the metadata lacks authorization_endpoint, token_endpoint or jwks_uri")
	}
	plain := strings.HasPrefix(p.Config.Issuer, "http://") // loopback only: the configuration sees to it
	for _, endpoint := range []string{m.Authorization, m.Token, m.JWKS, m.Revocation, m.EndSession} {
		if endpoint == "" {
			continue
		}
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && (!plain || u.Scheme != "http") {
			return fmt.Errorf("the metadata has an endpoint that is not https: %q", printable(endpoint))
		}
	}
	return nil
}

// authMethod is how the client authenticates: as configured, else what the provider offers. It is never probed: a
// wrong guess would count as a failed login.
func (p *Provider) authMethod(m *metadata) (string, error) {
	if p.ClientAuth != "" {
		return p.ClientAuth, nil
	}
	for _, method := range []string{"client_secret_basic", "client_secret_post"} {
		if len(m.ClientAuth) == 0 || slices.Contains(m.ClientAuth, method) {
			return method, nil
		}
	}
	return "", &Error{
		Kind: Misconfigured, Act: "discovery", Code: "client_auth",
		Err: fmt.Errorf("the provider offers %q; this version has client_secret_basic and client_secret_post", m.ClientAuth),
	}
}

// get fetches a JSON document.
func (p *Provider) get(ctx context.Context, act, address string, into any) (err error) {
	call := p.begin(act)
	defer func() { call.end(err) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", act, err)
	}
	req.Header.Set("Accept", "application/json")
	res, err := p.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", act, noQuery(err))
	}
	defer res.Body.Close()
	call.Status = res.StatusCode
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", act, res.StatusCode)
	}
	body, err := readAll(res.Body)
	if err != nil {
		return fmt.Errorf("%s: %w", act, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: not the JSON that was expected", act)
	}
	return nil
}

// errTooLarge says that an answer is larger than any honest one.
var errTooLarge = errors.New("the answer is too large")

// readAll reads a body to its end, bounded after decompression.
func readAll(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		return nil, errTooLarge
	}
	return body, err
}

// noQuery takes the address out of a transport error: what stands in a query is nobody's business.
func noQuery(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// call times one request to the provider for its event.
type call struct {
	*event.Call
	sink event.Sink
}

func (p *Provider) begin(act string) call {
	return call{&event.Call{Time: time.Now(), Provider: p.Name, Act: act}, p.Events}
}

func (c call) end(err error) {
	c.Duration, c.Outcome = time.Since(c.Time), "ok"
	var e *Error
	switch {
	case errors.As(err, &e):
		c.Outcome = strings.TrimSpace(e.Kind.String() + " " + e.Code)
	case err != nil:
		c.Outcome = "transient"
	case c.Status >= http.StatusBadRequest:
		c.Outcome = "refused"
	}
	c.sink.Emit(c.Call)
}

// printable cuts a provider's words to what may stand in a log.
func printable(s string) string {
	out := make([]byte, 0, 200)
	for i := 0; i < len(s) && len(out) < 200; i++ {
		if c := s[i]; c >= 0x20 && c < 0x7f {
			out = append(out, c)
		}
	}
	return string(out)
}
