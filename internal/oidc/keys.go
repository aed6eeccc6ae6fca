package oidc

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// keysPause keeps made-up key ids from driving requests to the provider.
	keysPause  = 30 * time.Second
	keysLife   = time.Hour
	minRSABits = 2048
	maxRSABits = 16384
	maxKeys    = 100
)

// errNoKey says that the provider has no such key.
var errNoKey = errors.New("the provider has no such key")

// keySet is a provider's public signing keys.
type keySet []jose.JSONWebKey

// keysFor returns the keys that may have signed with this key id. One that is not known makes us ask again, but
// seldom. Three outcomes: keys; errNoKey, when the provider was asked and has none; Transient, when that cannot be
// told now.
func (p *Provider) keysFor(ctx context.Context, kid string) (keySet, error) {
	set, asked, err := p.keys.get(ctx, func(s *keySet, age time.Duration) fitness {
		if age < keysLife && len(s.match(kid)) > 0 {
			return fit
		}
		return unfit
	})
	if set != nil {
		if found := set.match(kid); len(found) > 0 {
			return found, nil // perhaps old ones, where the provider does not answer
		}
	}
	switch {
	case err == nil && asked:
		return nil, errNoKey
	case err == nil:
		err = errors.New("a key that is not known, soon after the keys were fetched")
	}
	return nil, &Error{Kind: Transient, Act: "keys", Code: "unknown_key", Err: err}
}

// match are the keys with an id, and those without one, which may be anything. A token without an id may be signed
// by any key.
func (s keySet) match(kid string) keySet {
	if kid == "" {
		return s
	}
	var found keySet
	for _, k := range s {
		if k.KeyID == kid || k.KeyID == "" {
			found = append(found, k)
		}
	}
	return found
}

func (p *Provider) loadKeys(ctx context.Context) (*keySet, error) {
	m, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	var set keySet
	err = p.get(ctx, "keys", m.jwks, func(body []byte) (err error) {
		set, err = parseKeys(body)
		return err
	})
	return &set, err
}

// parseKeys reads a JWK Set (RFC 7517 section 5): its public signing keys that are strong enough. A key that we do
// not know spoils no other.
func parseKeys(body []byte) (keySet, error) {
	o, err := parseObject(body)
	if err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if !o.has("keys") || json.Unmarshal(o["keys"], &list) != nil {
		return nil, errors.New("no list of keys")
	}
	var set keySet
	for _, raw := range list[:min(len(list), maxKeys)] {
		var k jose.JSONWebKey
		if json.Unmarshal(raw, &k) == nil && usable(k) {
			set = append(set, k)
		}
	}
	return set, nil
}

func usable(k jose.JSONWebKey) bool {
	if !k.Valid() || !k.IsPublic() || k.Use != "" && k.Use != "sig" {
		return false
	}
	r, ok := k.Key.(*rsa.PublicKey)
	return !ok || r.N.BitLen() >= minRSABits && r.N.BitLen() <= maxRSABits
}
