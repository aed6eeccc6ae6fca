package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/boltstore"
	"github.com/cloakroom/cloakroom/store/memstore"
	"github.com/cloakroom/cloakroom/store/pgstore"
	"github.com/cloakroom/cloakroom/store/redisstore"
)

// opened is a store and how to close it.
type opened struct {
	store.Store
	close func() error
}

// keysOf are the keys of the configuration. A file: store makes its own if there are none, beside the database and
// never in it; a memory: store needs none that lasts.
func keysOf(cfg config.Config) ([]config.Secret, error) {
	scheme, path, _ := strings.Cut(cfg.Store, ":")
	switch {
	case len(cfg.Keys) > 0:
		return cfg.Keys, nil
	case scheme == "file":
		return config.KeyFile(path + ".key")
	case scheme == "memory":
		return []config.Secret{config.NewKey()}, nil
	}
	return nil, fmt.Errorf("keys is empty, and other processes share the store: give all of them the same key, made with `cloakroom keys new`")
}

// openStore opens the store that the URL names. With patience, a server that does not answer yet is no error: calls
// fail until it does, and the process serves what needs no store.
func openStore(ctx context.Context, url string, log *slog.Logger, patient bool) (opened, error) {
	scheme, path, _ := strings.Cut(url, ":")
	switch scheme {
	case "memory":
		return opened{memstore.New(), func() error { return nil }}, nil
	case "file":
		st, err := boltstore.Open(path, boltstore.Options{Log: log})
		if err != nil {
			return opened{}, err
		}
		return opened{st, st.Close}, nil
	}
	open, known := drivers[scheme]
	if !known {
		return opened{}, fmt.Errorf("store: no store is known for %q", scheme)
	}
	connect := func(ctx context.Context) (server, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return open(ctx, url, log)
	}
	if patient {
		st, err := openLate(ctx, connect, log)
		if err != nil {
			return opened{}, err
		}
		return opened{st, st.Close}, nil
	}
	st, err := connect(ctx)
	if err != nil {
		return opened{}, err
	}
	return opened{st, st.Close}, nil
}

// server is what the stores of many processes have in common.
type server interface {
	store.Store
	store.Watcher
	store.Clock
	io.Closer
}

// drivers open the stores of many processes, by the scheme of their URL.
var drivers = map[string]func(context.Context, string, *slog.Logger) (server, error){
	"redis": openRedis, "rediss": openRedis, "postgres": openPostgres, "postgresql": openPostgres,
}

func openRedis(ctx context.Context, url string, log *slog.Logger) (server, error) {
	return redisstore.Open(ctx, url, redisstore.Options{Log: log})
}

func openPostgres(ctx context.Context, url string, log *slog.Logger) (server, error) {
	return pgstore.Open(ctx, url, pgstore.Options{Log: log})
}
