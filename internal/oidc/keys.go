package oidc

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// keysCooldown keeps made-up key ids from driving requests to the provider.
	keysCooldown = 30 * time.Second
	minRSABits   = 2048
	maxKeys      = 100
)

// errNoKey says that no key of the provider fits.
var errNoKey = errors.New("no key of the provider fits")

// keyStore keeps a provider's public keys. Old keys serve on when the provider does not answer.
type keyStore struct {
	provider *Provider

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time // last successful fetch
	tried   time.Time // last try
}

// candidates returns the keys that may have signed with this key id, fetching them again, seldom, if none fits.
func (s *keyStore) candidates(ctx context.Context, kid string) ([]jose.JSONWebKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.match(kid); len(found) > 0 && time.Since(s.fetched) < 24*time.Hour {
		return found, nil
	}
	if s.fetched.IsZero() && time.Since(s.tried) > time.Second || time.Since(s.tried) > keysCooldown {
		s.tried = time.Now()
		if err := s.fetch(ctx); err != nil && len(s.keys) == 0 {
			return nil, &Error{Kind: Transient, Act: "keys", Err: err}
		}
	}
	if found := s.match(kid); len(found) > 0 {
		return found, nil
	}
	return nil, errNoKey
}

func (s *keyStore) match(kid string) []jose.JSONWebKey {
	if kid == "" {
		return s.keys
	}
	var found []jose.JSONWebKey
	for _, k := range s.keys {
		if k.KeyID == kid {
			found = append(found, k)
		}
	}
	return found
}

func (s *keyStore) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
	defer cancel()
	m, err := s.provider.discover(ctx)
	if err != nil {
		return err
	}
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := s.provider.get(ctx, "keys", m.JWKS, &doc); err != nil {
		return err
	}
	s.keys, s.fetched = usable(doc.Keys), time.Now()
	return nil
}

// usable are the public signing keys that are strong enough. One key that we do not know spoils no other.
func usable(raw []json.RawMessage) []jose.JSONWebKey {
	var keys []jose.JSONWebKey
	for _, r := range raw {
		if len(keys) == maxKeys {
			break
		}
		var k jose.JSONWebKey
		if json.Unmarshal(r, &k) != nil || !k.Valid() || !k.IsPublic() || k.Use != "" && k.Use != "sig" {
			continue
		}
		if r, ok := k.Key.(*rsa.PublicKey); ok && r.N.BitLen() < minRSABits {
			continue
		}
		keys = append(keys, k)
	}
	return keys
}
