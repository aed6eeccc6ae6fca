// Package idp is the demo's OpenID provider: a small, honest one, for demos and tests, with everything that
// Cloakroom has to cope with: one-time refresh tokens with revocation of the family on reuse, access tokens of
// seconds, a hosted login page, second factors, and accounts of every condition. It speaks as other providers do
// (Config.Dialect), to the letter where their wire is known, so that a client can be tested against it. It can be
// scripted: a clock to move, faults to plan, messages and requests to read. It is not for real users. It shares no
// line with the client.
package idp

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Client is a registration.
type Client struct {
	ID, Secret             string
	RedirectURIs           []string
	PostLogoutRedirectURIs []string
	BackchannelLogoutURI   string // is told when a session that the client has tokens of ends here; "" = nobody is
}

// Config makes a Provider.
type Config struct {
	Issuer          string // exactly as the client knows it; its path is as the dialect has it
	Dialect         string // "" or generic, auth0, okta, keycloak, entra, cognito, challenge
	Clients         []Client
	Users           []User        // at the start; the control API changes them
	AccessTokenLife time.Duration // default 30 s
	RefreshLife     time.Duration // default 30 days
	StateFile       string        // "" = memory only; otherwise restarts keep keys and sessions, but no change of a user
	// Rotation says what a refresh does: "rotate" = a new token, the old one is over; "keep" = a new one, the old one
	// stays good; "omit" = no new one. "" is what the dialect's provider does if nobody configures it.
	Rotation string
	// Leeway is how long a token that was rotated away still works. 0 is the dialect's, negative is none.
	Leeway time.Duration
	// PushInterval is how far apart polls for a push have to be. Default 5 s.
	PushInterval time.Duration
	// TrustForwardedFor believes auth0-forwarded-for of an authenticated client (dialect auth0).
	TrustForwardedFor bool
	// Realm is the only realm of the password-realm grant (dialect auth0). "" = any.
	Realm string
	// RateLimit is how many token requests a client has in a minute (dialect auth0). Default 1000.
	RateLimit int
	Now       func() time.Time // nil = time.Now; Advance and the control API move it on
	Log       func(Entry)      // is told what Requests holds, but for requests that ask nothing of anybody, as for keys
	Deliver   func(Message)    // is told each code that is sent
	// Witness is told every secret that is issued or sent in, for tests that search for them where none may be.
	Witness func(what, value string)
	// HTTP calls the apps' back-channel logout addresses. nil is a plain client.
	HTTP *http.Client
}

// Provider is an OpenID provider as an http.Handler.
type Provider struct {
	Config
	dialect dialect
	at      addresses
	mux     *http.ServeMux
	notices chan struct{} // back-channel logouts on the way
	offset  atomic.Int64  // of the clock
	record  record
	faults  faults
	people  people

	mu     sync.Mutex
	key    *rsa.PrivateKey
	old    []*rsa.PrivateKey // were the key before; still published
	state  state
	memory memory
	bent   map[string]any // claims that ID tokens have by order
	outbox []Message      // what Deliver is told once mu is free
}

// memory is what a restart forgets.
type memory struct {
	attempts map[string]*attempt // by hash of what the client holds
	pushed   map[string]pushed   // authorization requests by hash of their request_uri
	wrong    map[string]int      // wrong passwords by user and address
	buckets  map[string]bucket
	spent    map[string]bool // one-time codes that were used
	window   map[string]rate // token requests by client
}

func newMemory() memory {
	return memory{
		attempts: map[string]*attempt{}, pushed: map[string]pushed{}, wrong: map[string]int{}, buckets: map[string]bucket{},
		spent: map[string]bool{}, window: map[string]rate{},
	}
}

// New makes a provider, with its state of before if the file has one.
func New(c Config) (*Provider, error) {
	if c.Issuer == "" || len(c.Clients) == 0 {
		return nil, errors.New("idp: an issuer and a client are needed")
	}
	d, ok := dialects()[c.Dialect]
	if !ok {
		return nil, fmt.Errorf("idp: %q is no dialect", c.Dialect)
	}
	if c.Rotation != "" && c.Rotation != rotate && c.Rotation != keep && c.Rotation != omit {
		return nil, fmt.Errorf("idp: %q is no rotation: it is rotate, keep or omit", c.Rotation)
	}
	at, err := d.addresses(c.Issuer)
	if err != nil {
		return nil, err
	}
	p := &Provider{Config: c.withDefaults(d), dialect: d, at: at, mux: http.NewServeMux(), notices: make(chan struct{}, mostNotices), memory: newMemory()}
	p.people.set(c.Users)
	if err := p.loadState(); err != nil {
		return nil, err
	}
	p.handle("GET "+at.base+"/.well-known/openid-configuration", "discovery", p.discovery)
	p.handle("GET "+at.jwks, "keys", p.jwks)
	p.handle("GET "+at.authorize, "authorize", p.authorize)
	p.handle("POST "+at.authorize, "hosted_login", p.signIn)
	p.handle("POST "+at.token, "", p.token)
	p.handle("GET "+at.userinfo, "userinfo", p.userinfo)
	p.handle("GET "+at.logout, "logout", d.logout(p))
	p.handle("GET /style.css", "style", style)
	if at.revoke != "" {
		p.handle("POST "+at.revoke, "revoke", p.revoke)
	}
	if d.routes != nil {
		d.routes(p)
	}
	return p, nil
}

func (c Config) withDefaults(d dialect) Config {
	if c.AccessTokenLife <= 0 {
		c.AccessTokenLife = 30 * time.Second
	}
	if c.RefreshLife <= 0 {
		c.RefreshLife = 30 * 24 * time.Hour
	}
	if c.PushInterval <= 0 {
		c.PushInterval = 5 * time.Second
	}
	if c.RateLimit <= 0 {
		c.RateLimit = 1000
	}
	if c.Rotation == "" {
		c.Rotation = d.rotation
	}
	if c.Leeway == 0 {
		c.Leeway = d.leeway
	}
	if c.HTTP == nil {
		c.HTTP = noticeClient()
	}
	return c
}

// mostBody bounds what a request may carry.
const mostBody = 64 << 10

// ServeHTTP serves the provider's endpoints.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostBody))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "invalid_request", "The body is too long.")
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body)) // whole: a fault has to know what is asked
	p.mux.ServeHTTP(w, r)
}

// discovery is OpenID Connect Discovery 1.0, with what the dialect's provider says.
func (p *Provider) discovery(c *call) {
	o := p.at.origin
	doc := map[string]any{
		"issuer": p.Issuer, "authorization_endpoint": o + p.at.authorize, "token_endpoint": o + p.at.token, "jwks_uri": o + p.at.jwks,
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"grant_types_supported":                 p.dialect.grantTypes(),
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"code_challenge_methods_supported":      []string{"S256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"},
		"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
		"acr_values_supported":                  []string{acrPassword, acrFactor},
	}
	if p.at.revoke != "" {
		doc["revocation_endpoint"] = o + p.at.revoke
	}
	maps.Copy(doc, p.dialect.discovery(p))
	writeJSON(c.w, http.StatusOK, doc)
}

// client finds a registration.
func (p *Provider) client(id string) (Client, bool) {
	for _, c := range p.Clients {
		if c.ID == id {
			return c, true
		}
	}
	return Client{}, false
}

func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// now is the provider's clock.
func (p *Provider) now() time.Time {
	now := time.Now
	if p.Now != nil {
		now = p.Now
	}
	return now().Add(time.Duration(p.offset.Load()))
}

// Advance moves the provider's clock on.
func (p *Provider) Advance(d time.Duration) { p.offset.Add(int64(d)) }

func (p *Provider) witness(what, value string) {
	if p.Witness != nil && value != "" {
		p.Witness(what, value)
	}
}

// unlock frees the state and delivers what was sent meanwhile: who is told a message may ask the provider at once.
func (p *Provider) unlock() {
	messages := p.outbox
	p.outbox = nil
	p.mu.Unlock()
	for _, m := range messages {
		if p.Deliver != nil {
			p.Deliver(m)
		}
	}
}

// secret makes a random value of 32 bytes.
func secret(prefix string) string {
	var b [32]byte
	rand.Read(b[:])
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// hash is how a secret rests in the state.
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// refuse answers in the form of RFC 6749 section 5.2.
func refuse(w http.ResponseWriter, status int, code, description string) {
	writeJSON(w, status, map[string]string{"error": code, "error_description": description})
}

// origin splits an issuer.
func origin(issuer string) (site, path string, err error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", "", fmt.Errorf("idp: the issuer %q is no address", issuer)
	}
	return u.Scheme + "://" + u.Host, strings.TrimSuffix(u.Path, "/"), nil
}
