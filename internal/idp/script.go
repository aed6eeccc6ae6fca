package idp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
)

// What a test can bend besides faults: the claims of ID tokens, logout tokens that nobody asked for, everything anew.

// members reads a JSON object; numbers stay as they are written.
func members(body []byte) map[string]any {
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if d.Decode(&m) != nil {
		return nil
	}
	return m
}

// SetClaims changes every ID token from now on: a claim with a value is set, one with nil is left out. It replaces what
// was said before.
func (p *Provider) SetClaims(claims map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bent = maps.Clone(claims)
}

// bend changes an ID token's claims. p.mu is held.
func (p *Provider) bend(claims map[string]any) { overwrite(claims, p.bent) }

func overwrite(claims, with map[string]any) {
	for name, value := range with {
		if value == nil {
			delete(claims, name)
		} else {
			claims[name] = value
		}
	}
}

// SendLogoutTokens tells the apps that a user's sessions are over, whether they are or not: one token for each session
// (claim sid) that a client has tokens of. Claims are set, or left out where nil, so that tokens can be wrong on purpose.
// It returns what came of each.
func (p *Provider) SendLogoutTokens(username string, claims map[string]any) ([]string, error) {
	u, ok := p.named(username)
	if !ok {
		return nil, fmt.Errorf("there is no user %q", username)
	}
	var outcomes []string
	for _, c := range p.Clients {
		if c.BackchannelLogoutURI == "" {
			continue
		}
		for _, sid := range p.sidsOf(u, c) {
			body := p.logoutClaims(c, session{Subject: u.subject(), ID: sid}, p.now())
			if sid == "" {
				delete(body, "sid")
			}
			overwrite(body, claims)
			p.mu.Lock()
			token, err := p.sign("logout+jwt", body)
			p.mu.Unlock()
			if err != nil {
				return outcomes, err
			}
			p.witness("logout token", token)
			outcomes = append(outcomes, fmt.Sprintf("status %d", p.post(c.BackchannelLogoutURI, url.Values{"logout_token": {token}})))
		}
	}
	return outcomes, nil
}

// sidsOf are the sessions that a client has tokens of. "" stands for logins by form, which may have none.
func (p *Provider) sidsOf(u User, c Client) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, f := range p.state.Families {
		if f.Client == c.ID && f.Subject == u.subject() && !f.Dead && !slices.Contains(all, f.SID) {
			all = append(all, f.SID)
		}
	}
	slices.Sort(all)
	return all
}

// Reset makes everything as it was at the start, but for the keys.
func (p *Provider) Reset() error {
	p.people.set(p.Users)
	p.ClearFaults()
	p.offset.Store(0)
	p.record.clear(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory, p.bent, p.outbox = newMemory(), nil, nil
	key, old := p.state.Key, p.state.Old
	p.state = newState()
	p.state.Key, p.state.Old = key, old
	return p.save()
}
