// Package idp is the demo's OpenID provider: a small, honest one, for demos and tests, with everything that
// Cloakroom has to cope with: one-time refresh tokens with revocation of the family on reuse, access tokens of
// seconds, a hosted login page, a locked account. It is not for real users. It shares no line with the client.
package idp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
)

// User is somebody who can log in.
type User struct {
	Username, Password, Name, Email string
	Locked                          bool // the right password is answered with "user is blocked"
}

// Client is a registration.
type Client struct {
	ID, Secret             string
	RedirectURIs           []string
	PostLogoutRedirectURIs []string
	BackchannelLogoutURI   string // is told when a session that the client has tokens of ends here; "" = nobody is
}

// Entry is one line of the provider's log. It holds no secret.
type Entry struct {
	Time    time.Time `json:"time"`
	Act     string    `json:"act"` // such as refresh_token
	Outcome string    `json:"outcome"`
	User    string    `json:"user,omitempty"`
}

// Config makes a Provider.
type Config struct {
	Issuer          string // its origin, without a slash at the end
	Clients         []Client
	Users           []User
	AccessTokenLife time.Duration // default 30 s
	RefreshLife     time.Duration // default 30 days
	StateFile       string        // "" = memory only; otherwise restarts keep keys and sessions
	Log             func(Entry)
	// Witness is told every secret that is issued or sent in, for tests that search for them where none may be.
	Witness func(what, value string)
	// HTTP calls the apps' back-channel logout addresses. nil is a plain client.
	HTTP *http.Client
}

// Provider is an OpenID provider as an http.Handler.
type Provider struct {
	Config
	mux     *http.ServeMux
	notices chan struct{} // back-channel logouts on the way

	mu    sync.Mutex
	key   *rsa.PrivateKey
	state state
}

// New makes a provider, with its state of before if the file has one.
func New(c Config) (*Provider, error) {
	if c.Issuer == "" || len(c.Clients) == 0 {
		return nil, errors.New("idp: an issuer and a client are needed")
	}
	if c.AccessTokenLife <= 0 {
		c.AccessTokenLife = 30 * time.Second
	}
	if c.RefreshLife <= 0 {
		c.RefreshLife = 30 * 24 * time.Hour
	}
	if c.HTTP == nil {
		c.HTTP = noticeClient()
	}
	p := &Provider{Config: c, mux: http.NewServeMux(), notices: make(chan struct{}, mostNotices)}
	if err := p.loadState(); err != nil {
		return nil, err
	}
	p.mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	p.mux.HandleFunc("GET /jwks", p.jwks)
	p.mux.HandleFunc("GET /authorize", p.authorize)
	p.mux.HandleFunc("POST /authorize", p.signIn)
	p.mux.HandleFunc("POST /token", p.token)
	p.mux.HandleFunc("POST /revoke", p.revoke)
	p.mux.HandleFunc("GET /logout", p.logout)
	p.mux.HandleFunc("GET /style.css", style)
	return p, nil
}

// ServeHTTP serves the provider's endpoints.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	p.mux.ServeHTTP(w, r)
}

func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer": p.Issuer, "authorization_endpoint": p.Issuer + "/authorize", "token_endpoint": p.Issuer + "/token",
		"jwks_uri": p.Issuer + "/jwks", "revocation_endpoint": p.Issuer + "/revoke", "end_session_endpoint": p.Issuer + "/logout",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token", "password"},
		"id_token_signing_alg_values_supported":          []string{"RS256"},
		"code_challenge_methods_supported":               []string{"S256"},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_basic", "client_secret_post"},
		"scopes_supported":                               []string{"openid", "profile", "email", "offline_access"},
		"prompt_values_supported":                        []string{"none", "login"},
		"authorization_response_iss_parameter_supported": true,
		"backchannel_logout_supported":                   true,
		"backchannel_logout_session_supported":           true,
	})
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

// user checks a password. Unknown users take as long as wrong passwords.
func (p *Provider) user(name, password string) (u User, ok bool) {
	u = User{Password: "\x00 nobody's password"}
	found := false
	for _, have := range p.Users {
		if strings.EqualFold(have.Username, strings.TrimSpace(name)) {
			u, found = have, true
		}
	}
	return u, same(u.Password, password) && found
}

func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// find returns a user by subject.
func (p *Provider) find(subject string) (User, bool) {
	for _, u := range p.Users {
		if u.subject() == subject {
			return u, true
		}
	}
	return User{}, false
}

// subject is the user's stable identifier, which is not the user name.
func (u User) subject() string {
	sum := sha256.Sum256([]byte("subject " + strings.ToLower(u.Username)))
	return "user-" + base64.RawURLEncoding.EncodeToString(sum[:9])
}

func (p *Provider) witness(what, value string) {
	if p.Witness != nil && value != "" {
		p.Witness(what, value)
	}
}

func (p *Provider) log(act, outcome, user string) {
	if p.Log != nil {
		p.Log(Entry{Time: time.Now(), Act: act, Outcome: outcome, User: user})
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
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// refuse answers in the form of RFC 6749 section 5.2.
func refuse(w http.ResponseWriter, status int, code, description string) {
	writeJSON(w, status, map[string]string{"error": code, "error_description": description})
}
