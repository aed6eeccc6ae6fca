package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/boltstore"
	"github.com/cloakroom/cloakroom/store/memstore"
)

// opened is a store and how to close it.
type opened struct {
	store.Store
	close func() error
}

// openStore opens the store that the URL names, and the keys that go with it: a file: store makes its own key if
// the configuration has none, beside the database and never in it; a memory: store needs none that lasts.
func openStore(cfg config.Config, log *slog.Logger) (opened, []config.Secret, error) {
	switch scheme, path, _ := strings.Cut(cfg.Store, ":"); scheme {
	case "memory":
		keys := cfg.Keys
		if len(keys) == 0 {
			keys = []config.Secret{config.NewKey()}
		}
		return opened{memstore.New(), func() error { return nil }}, keys, nil
	case "file":
		keys := cfg.Keys
		if len(keys) == 0 {
			key, err := config.KeyFile(path + ".key")
			if err != nil {
				return opened{}, nil, err
			}
			keys = []config.Secret{key}
		}
		st, err := boltstore.Open(path, boltstore.Options{Log: log})
		if err != nil {
			return opened{}, nil, err
		}
		return opened{st, st.Close}, keys, nil
	}
	return opened{}, nil, fmt.Errorf("store %q: this version has memory: and file:PATH", cfg.Store)
}
