package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/upstream"
	"github.com/cloakroom/cloakroom/store/boltstore"
	"github.com/spf13/cobra"
)

func checkCommand() *cobra.Command {
	var file string
	var online bool
	cmd := &cobra.Command{
		Use: "check", Short: "Validate a configuration; every problem as file:line:column: problem, mend", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			if online {
				if err := probe(cmd.Context(), cfg.WithDefaults(), cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: fine\n", file)
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "./cloakroom.yaml", "the configuration file")
	cmd.Flags().BoolVar(&online, "online", false, "also ask the providers, the store and the upstreams")
	return cmd
}

// probe asks everything that the configuration names and prints a line for each that does not answer.
func probe(ctx context.Context, cfg config.Config, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	failed := false
	say := func(what string, err error) {
		if err != nil {
			failed = true
			fmt.Fprintf(out, "%s: %v\n", what, err)
		}
	}
	say("store "+nameOf(cfg.Store), probeStore(ctx, cfg))
	for _, f := range cfg.Frontends {
		for _, p := range f.Providers {
			client := oidc.New(oidc.Config{
				Name: p.Name, Issuer: p.Issuer, ClientID: p.ClientID, ClientSecret: p.ClientSecret,
				ClientAuth: p.ClientAuth, Profile: p.Profile, Scopes: p.Scopes,
			})
			say("provider "+p.Issuer, client.Discover(ctx))
		}
		for _, r := range f.Routes {
			for _, address := range r.Addresses() {
				say("upstream "+address, upstream.Probe(ctx, address, *r.Connection))
			}
		}
	}
	if failed {
		return errReported
	}
	return nil
}

// nameOf is a store's URL without its password.
func nameOf(storeURL string) string {
	if u, err := url.Parse(storeURL); err == nil {
		return u.Redacted()
	}
	return "(its URL cannot be read)"
}

// probeStore opens the store and closes it again. One that is locked is in use, which is fine.
func probeStore(ctx context.Context, cfg config.Config) error {
	if _, err := keysOf(cfg); err != nil {
		return err
	}
	st, err := openStore(ctx, cfg.Store, nil, false)
	if errors.Is(err, boltstore.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(st.Ping(ctx), st.close())
}
