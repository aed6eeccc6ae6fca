package idp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// state is what the provider remembers. Secrets are in it as hashes only, but for the signing key.
type state struct {
	Key      []byte             `json:"key"`
	Old      [][]byte           `json:"old,omitempty"` // keys of before
	Sessions map[string]session `json:"sessions"`      // by hash of the cookie
	Codes    map[string]code    `json:"codes"`         // by hash of the code
	Families map[string]*family `json:"families"`      // by family id
	Refresh  map[string]string  `json:"refresh"`       // hash of a refresh token -> family
	Access   map[string]access  `json:"access"`        // by hash of the access token
}

// session is a browser that is logged in at the hosted page.
type session struct {
	Subject string    `json:"sub"`
	ID      string    `json:"id"` // claim sid
	Since   time.Time `json:"since"`
	Ends    time.Time `json:"ends"`
	AMR     []string  `json:"amr,omitempty"`
}

// code is an authorization code that waits for its exchange.
type code struct {
	Client, RedirectURI, Challenge, Nonce, Scope, Subject, SID string
	Since, Ends                                                time.Time
	AMR                                                        []string
	Used                                                       bool
	Family                                                     string // what it was exchanged for
}

// family is all tokens that go back to one login. Reuse of a spent refresh token kills it.
type family struct {
	Client  string    `json:"client"`
	Subject string    `json:"sub"`
	SID     string    `json:"sid,omitempty"`
	Scope   string    `json:"scope"`
	Since   time.Time `json:"since"`
	Ends    time.Time `json:"ends"`
	AMR     []string  `json:"amr,omitempty"`
	Current string    `json:"current"` // hash of the refresh token that is good
	Dead    bool      `json:"dead,omitempty"`

	// With a leeway the previous token works for a while, and each use forks a new child beside the others.
	Previous string    `json:"previous,omitempty"`
	Rotated  time.Time `json:"rotated,omitzero"`
	Forks    []string  `json:"forks,omitempty"`
}

type access struct {
	Family string    `json:"family"`
	Ends   time.Time `json:"ends"`
}

func newState() state {
	return state{
		Sessions: map[string]session{}, Codes: map[string]code{}, Families: map[string]*family{},
		Refresh: map[string]string{}, Access: map[string]access{},
	}
}

// loadState reads the state file, or makes a new state.
func (p *Provider) loadState() error {
	p.state = newState()
	if p.StateFile != "" {
		raw, err := os.ReadFile(p.StateFile)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("idp: %w", err)
		default:
			if err := json.Unmarshal(raw, &p.state); err != nil {
				return fmt.Errorf("idp: %s cannot be read: %w; remove it to start anew", p.StateFile, err)
			}
		}
	}
	if len(p.state.Key) > 0 {
		return p.readKeys()
	}
	return p.newKey()
}

// save forgets what is over and writes the state, whole or not at all. p.mu is held.
func (p *Provider) save() error {
	p.sweep(p.now())
	if p.StateFile == "" {
		return nil
	}
	raw, err := json.Marshal(p.state)
	if err != nil {
		return fmt.Errorf("idp: %w", err)
	}
	next := p.StateFile + ".next"
	if err := os.WriteFile(next, raw, 0o600); err != nil {
		return fmt.Errorf("idp: %w", err)
	}
	if err := os.Rename(next, p.StateFile); err != nil {
		return fmt.Errorf("idp: %w", err)
	}
	return nil
}

func (p *Provider) sweep(now time.Time) {
	for k, s := range p.state.Sessions {
		if now.After(s.Ends) {
			delete(p.state.Sessions, k)
		}
	}
	for k, c := range p.state.Codes {
		if now.After(c.Ends) {
			delete(p.state.Codes, k)
		}
	}
	for k, a := range p.state.Access {
		if now.After(a.Ends) {
			delete(p.state.Access, k)
		}
	}
	for k, f := range p.state.Families {
		if now.After(f.Ends) {
			delete(p.state.Families, k)
		}
	}
	for k, a := range p.memory.attempts {
		if now.After(a.Gone) {
			delete(p.memory.attempts, k)
		}
	}
	for k, r := range p.memory.pushed {
		if now.After(r.Ends) {
			delete(p.memory.pushed, k)
		}
	}
	for k, id := range p.state.Refresh {
		if p.state.Families[id] == nil {
			delete(p.state.Refresh, k)
		}
	}
}

// CheckAccessToken says whose access token this is. It is the demo API's way to check one.
func (p *Provider) CheckAccessToken(token string) (subject, name string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.familyOf(token)
	if !ok {
		return "", "", false
	}
	u, ok := p.find(f.Subject)
	return f.Subject, u.Name, ok
}

// familyOf finds what an access token belongs to, if it is good. p.mu is held.
func (p *Provider) familyOf(token string) (*family, bool) {
	a, ok := p.state.Access[hash(token)]
	if !ok || p.now().After(a.Ends) {
		return nil, false
	}
	f := p.state.Families[a.Family]
	return f, f != nil && !f.Dead
}
