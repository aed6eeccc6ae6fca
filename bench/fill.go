package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/boltstore"
	"github.com/cloakroom/cloakroom/store/memstore"
)

// quiet is a provider that nobody asks: the tokens outlive the run.
type quiet struct {
	session.Provider
	issuer string
}

func (q quiet) Issuer() string    { return q.issuer }
func (quiet) HasRevocation() bool { return false }

// filled is the product's store: in memory, or with SESSIONS in the environment a file in the folder FOLDER that holds as
// many. Their tickets are in its file "tickets".
func filled(frontend, issuer string, key config.Secret) (store.Store, error) {
	folder := os.Getenv("FOLDER")
	if folder == "" {
		return memstore.New(), nil
	}
	n, err := strconv.Atoi(os.Getenv("SESSIONS"))
	if err != nil {
		return nil, fmt.Errorf("SESSIONS: %w", err)
	}
	st, err := boltstore.Open(folder+"/sessions", boltstore.Options{})
	if err != nil {
		return nil, err
	}
	raw, err := config.Key(key)
	if err != nil {
		return nil, err
	}
	ring, err := seal.NewRing(raw)
	if err != nil {
		return nil, err
	}
	cache := session.NewCache(1 << 20)
	m, err := session.NewManager(session.Options{
		Frontend: frontend, Store: st, Ring: ring, Cache: cache, Feed: session.NewFeed(st, cache, 0, nil),
		Providers: map[string]session.ProviderPolicy{"main": {Provider: quiet{issuer: issuer}, ClientID: "app"}},
		Idle:      24 * time.Hour, RememberIdle: 24 * time.Hour, Lifetime: 7 * 24 * time.Hour,
	})
	if err != nil {
		return nil, err
	}
	tickets, err := make64(n, func(i int) (string, error) {
		t, _, err := m.Create(context.Background(), oneLogin(issuer, i))
		return t.Reveal(), err
	})
	if err := errors.Join(err, m.Close(context.Background())); err != nil {
		return nil, err
	}
	return st, os.WriteFile(folder+"/tickets", []byte(strings.Join(tickets, "\n")), 0o600) //nolint:gosec // what our parent named
}

// make64 makes n texts, 64 at a time.
func make64(n int, one func(i int) (string, error)) ([]string, error) {
	list := make([]string, n)
	errs := make([]error, 64)
	var next atomic.Int64
	var work sync.WaitGroup
	for w := range errs {
		work.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				list[i], errs[w] = one(i)
			}
		})
	}
	work.Wait()
	return list, errors.Join(errs...)
}

// oneLogin is a login with about 3 kB of tokens and claims.
func oneLogin(issuer string, i int) session.Login {
	now := time.Now()
	subject := strconv.Itoa(i)
	name, _ := json.Marshal("Alice Example " + subject)
	return session.Login{
		Provider: "main", Method: "redirect", Device: "Firefox on Linux", Address: "127.0.0.1",
		Exchange: oidc.Exchange{
			Tokens: oidc.TokenSet{
				Access: strings.Repeat("a", 1200), TokenType: "Bearer", Refresh: strings.Repeat("r", 200), ID: strings.Repeat("i", 1000),
				Scope: "openid profile email offline_access", Obtained: now, Expires: now.Add(24 * time.Hour),
			},
			Claims: oidc.Claims{Issuer: issuer, Subject: subject, AuthTime: now, IssuedAt: now, User: map[string]json.RawMessage{"name": name}},
		},
	}
}
