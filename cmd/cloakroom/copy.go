package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/store/memstore"
	"github.com/spf13/cobra"
)

func storeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "store", Short: "Move sessions between stores", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("which one? `cloakroom store copy FROM TO`")}
		},
	}
	cmd.AddCommand(storeCopyCommand())
	return cmd
}

func storeCopyCommand() *cobra.Command {
	var file string
	var dry bool
	cmd := &cobra.Command{
		Use: "copy FROM TO", Short: "Copy the live sessions of one store (file:PATH, redis://…, postgres://…) into another",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageError{fmt.Errorf("%s takes two stores, as the setting `store` has them", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			job := storeCopy{from: args[0], to: args[1], dry: dry, log: newLog(config.Log{Format: "text"}, cmd.ErrOrStderr())}
			if err := job.check(); err != nil {
				return err
			}
			var err error
			if job.cfg, err = config.Load(file); err != nil {
				return err
			}
			count, err := job.run(cmd.Context())
			if err == nil || count != (session.CopyCount{}) {
				say := "copied"
				if dry {
					say = "would copy"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d new, %d updated, %d there already, %d ended meanwhile, %d logout marks\n",
					say, count.New, count.Updated, count.Same, count.Ended, count.Marks)
			}
			switch {
			case err != nil && count.Newer > 0:
				return fmt.Errorf("%d sessions: %w; nothing may be copied over them", count.Newer, err)
			case err != nil:
				return err
			case count.Unreadable > 0:
				return fmt.Errorf("%d records were left behind: they belong to no frontend of the configuration, or are sealed with keys that are not in it", count.Unreadable)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "./cloakroom.yaml", "the configuration file: its frontends and keys are used, not its store")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "look and count, write nothing")
	return cmd
}

// storeCopy is one run of the command.
type storeCopy struct {
	cfg      config.Config
	from, to string
	dry      bool
	log      *slog.Logger
}

// check refuses stores that nothing can be copied between.
func (s storeCopy) check() error {
	for _, url := range []string{s.from, s.to} {
		scheme, _, _ := strings.Cut(url, ":")
		if _, known := drivers[scheme]; !known && scheme != "file" {
			return usageError{fmt.Errorf("store: %q is no store that sessions can be copied from or to", scheme)}
		}
	}
	if s.from == s.to {
		return usageError{errors.New("FROM and TO are the same store")}
	}
	return nil
}

func (s storeCopy) run(ctx context.Context) (count session.CopyCount, err error) {
	c := session.Copy{DryRun: s.dry}
	for _, f := range s.cfg.Frontends {
		c.Frontends = append(c.Frontends, f.URL)
	}
	source, err := s.source(ctx)
	if err != nil {
		return count, fmt.Errorf("FROM: %w", err)
	}
	defer func() { err = errors.Join(err, source.close()) }()
	if c.Ring, err = s.ring(); err != nil {
		return count, err
	}
	target, err := s.target(ctx)
	if err != nil {
		return count, fmt.Errorf("TO: %w", err)
	}
	defer func() { err = errors.Join(err, target.close()) }()
	c.From, c.To = source.Store, target.Store
	return c.Run(ctx)
}

// source opens FROM. A file that is not there is not made.
func (s storeCopy) source(ctx context.Context) (opened, error) {
	if path := pathOf(s.from); path != "" {
		if _, err := os.Stat(path); err != nil {
			return opened{}, err
		}
	}
	return openStore(ctx, s.from, s.log, false)
}

// target opens TO. A dry run makes no file: what is not there is empty.
func (s storeCopy) target(ctx context.Context) (opened, error) {
	if path := pathOf(s.to); path != "" && s.dry {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return opened{memstore.New(), func() error { return nil }}, nil
		}
	}
	return openStore(ctx, s.to, s.log, false)
}

// pathOf is the path of a file: store.
func pathOf(url string) string {
	path, _ := strings.CutPrefix(url, "file:")
	if path == url {
		return ""
	}
	return path
}

// ring is what the copy seals and opens with: the keys as a server on TO has them, then those beside FROM.
func (s storeCopy) ring() (*seal.Ring, error) {
	keys := config.KeyRing(s.cfg.Keys)
	for _, url := range []string{s.to, s.from} {
		more, err := s.keysBeside(url)
		if err != nil {
			return nil, err
		}
		keys = append(keys, more...)
	}
	if len(keys) == 0 {
		return nil, errors.New("keys is empty: without the keys that sealed FROM nothing can be opened")
	}
	var raw [][]byte
	seen := map[string]bool{}
	for _, k := range keys {
		if seen[k.Reveal()] {
			continue
		}
		seen[k.Reveal()] = true
		b, err := config.Key(k)
		if err != nil {
			return nil, err
		}
		raw = append(raw, b)
	}
	return seal.NewRing(raw...)
}

// keysBeside are the keys beside a file: store. Where a server on TO would make them, the copy does.
func (s storeCopy) keysBeside(url string) ([]config.Secret, error) {
	path := pathOf(url)
	if path == "" {
		return nil, nil
	}
	path += ".key"
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && (url != s.to || s.dry || len(s.cfg.Keys) > 0) {
		return nil, nil
	}
	return config.KeyFile(path)
}
