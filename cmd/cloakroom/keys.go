package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/spf13/cobra"
)

func keysCommand() *cobra.Command {
	keys := &cobra.Command{
		Use: "keys", Short: "Make and rotate the keys of the key ring (docs/keys.md)", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("which one? `cloakroom keys new`, `list`, `rotate`, `rotate --promote`, `rewrap` or `retire`")}
		},
	}
	keys.AddCommand(&cobra.Command{
		Use: "new", Short: "Print a new key: 32 random bytes as base64", Args: noArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintln(cmd.OutOrStdout(), config.NewKey().Reveal())
		},
	}, keysListCommand(), keysRotateCommand(), keysRewrapCommand(), keysRetireCommand())
	return keys
}

// keyUses is what the admin listener says of keys.
type keyUses struct {
	Keys []struct {
		Name             string
		Known, Seals     bool
		Records, Sealers int
	}
	Replicas []struct {
		ID     string
		Keys   []string
		SeenAt time.Time `json:"seen_at"`
		State  string
	}
}

// use is how many records name a key, and how many replicas seal with it or did until lately.
func (u keyUses) use(name string) (records, sealers int) {
	for _, k := range u.Keys {
		if k.Name == name {
			return k.Records, k.Sealers
		}
	}
	return 0, 0
}

func (o *operator) keys(ctx context.Context) (keyUses, error) {
	var u keyUses
	return u, o.ask(ctx, "GET", "/api/keys", nil, &u)
}

// keyFileFlags say which file holds the ring.
type keyFileFlags struct {
	operatorFlags
	file string
}

func (k *keyFileFlags) add(cmd *cobra.Command) {
	k.operatorFlags.add(cmd)
	cmd.Flags().StringVar(&k.file, "file", "", "the key file; default: the one beside the database of a file: store")
}

// open reads the key file. It never makes one.
func (k *keyFileFlags) openFile() (path string, keys []config.Secret, err error) {
	if path = k.file; path == "" {
		cfg, err := config.Load(k.config)
		if err != nil {
			return "", nil, err
		}
		db, ok := strings.CutPrefix(cfg.Store, "file:")
		if !ok || len(cfg.Keys) > 0 {
			return "", nil, usageError{errors.New("the configuration has its keys from elsewhere: name the file with --file")}
		}
		path = db + ".key"
	}
	if _, err := os.Stat(path); err != nil {
		return "", nil, fmt.Errorf("key file: %w", err)
	}
	keys, err = config.KeyFile(path)
	return path, keys, err
}

// namesOf are the names of keys, as /api/keys has them.
func namesOf(keys []config.Secret) ([]string, error) {
	raw := make([][]byte, len(keys))
	for i, k := range keys {
		b, err := config.Key(k)
		if err != nil {
			return nil, err
		}
		raw[i] = b
	}
	ring, err := seal.NewRing(raw...)
	if err != nil {
		return nil, err
	}
	return ring.Names(), nil
}

func keysListCommand() *cobra.Command {
	var at operatorFlags
	cmd := &cobra.Command{
		Use: "list", Short: "List the keys in use by their names, and the replicas", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			op, err := at.open()
			if err != nil {
				return err
			}
			u, err := op.keys(cmd.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "KEY\tSEALS\tRECORDS THAT NAME IT\tREPLICAS THAT SEAL WITH IT")
			for _, k := range u.Keys {
				seals := "no"
				if k.Seals {
					seals = "yes"
				} else if !k.Known {
					seals = "unknown here"
				}
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", plain(k.Name), seals, k.Records, k.Sealers)
			}
			fmt.Fprintln(w, "\nREPLICA\tSTATE\tKEYS\tLAST SEEN")
			for _, r := range u.Replicas {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", plain(r.ID), plain(r.State), plain(strings.Join(r.Keys, " ")), minute(r.SeenAt))
			}
			return w.Flush()
		},
	}
	at.add(cmd)
	return cmd
}

func keysRotateCommand() *cobra.Command {
	var at keyFileFlags
	var promote bool
	cmd := &cobra.Command{
		Use: "rotate", Short: "Add a new key to the key file; with --promote, let it seal", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, keys, err := at.openFile()
			if err != nil {
				return err
			}
			change := appendKey
			if promote {
				change = func(keys []config.Secret) ([]config.Secret, string, error) {
					return at.promoteKey(cmd.Context(), path, keys)
				}
			}
			keys, what, err := change(keys)
			if err != nil {
				return err
			}
			if err := config.WriteKeyFile(path, keys); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.ReplaceAll(what, "FILE", path))
			return err
		},
	}
	at.add(cmd)
	cmd.Flags().BoolVar(&promote, "promote", false, "the second phase: put the new key first, once every replica has it")
	return cmd
}

// appendKey is the first phase: the new key opens, and does not seal yet.
func appendKey(keys []config.Secret) ([]config.Secret, string, error) {
	if len(keys) != 1 {
		return nil, "", fmt.Errorf("the file has %d keys: a rotation is under way; go on with --promote, or end it with `cloakroom keys retire`", len(keys))
	}
	keys = append(keys, config.NewKey())
	names, err := namesOf(keys)
	if err != nil {
		return nil, "", err
	}
	return keys, "added the key " + names[1] + " to FILE; it opens, and does not seal yet.\n" +
		"Restart every replica with this file, one after the other, then run `cloakroom keys rotate --promote`.", nil
}

// promoteKey is the second phase: the new key seals, the older ones open still.
func (k *keyFileFlags) promoteKey(ctx context.Context, path string, keys []config.Secret) ([]config.Secret, string, error) {
	if len(keys) < 2 {
		return nil, "", errors.New("the file has one key only; `cloakroom keys rotate` adds another")
	}
	names, err := namesOf(keys)
	if err != nil {
		return nil, "", err
	}
	op, err := k.operatorFlags.open()
	if err != nil {
		return nil, "", err
	}
	use, err := op.keys(ctx)
	if err != nil {
		return nil, "", err
	}
	last := len(keys) - 1
	if records, sealers := use.use(names[last]); records > 0 || sealers > 0 {
		return nil, "", fmt.Errorf("the last key, %s, seals or has sealed already: it is an older one, and there is none to promote", names[last])
	}
	live := 0
	for _, r := range use.Replicas {
		if r.State != "live" {
			continue
		}
		if live++; !slices.Contains(r.Keys, names[last]) {
			return nil, "", fmt.Errorf("the replica %s, seen at %s, does not have the key %s yet: restart it with %s first (one that is gone is forgotten after three minutes)",
				r.ID, r.SeenAt.UTC().Format(time.TimeOnly), names[last], path)
		}
	}
	if live == 0 {
		return nil, "", errors.New("no replica has announced itself in the store; try again in a minute")
	}
	promoted := append([]config.Secret{keys[last]}, keys[:last]...)
	return promoted, "the key " + names[last] + " is the first in FILE: it seals from each replica's next start on.\n" +
		"Restart every replica with this file, one after the other. Sessions are put under it in the background;\n" +
		"when nothing names the old key any more, after a quarter of an hour or so, run `cloakroom keys retire`.", nil
}

func keysRewrapCommand() *cobra.Command {
	var at operatorFlags
	cmd := &cobra.Command{
		Use: "rewrap", Short: "Put every session under the key that seals now, without waiting for the background", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			op, err := at.open()
			if err != nil {
				return err
			}
			var answer struct{ Rewrapped int }
			if err := op.ask(cmd.Context(), "POST", "/api/keys/rewrap", nil, &answer); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "rewrapped %d sessions\n", answer.Rewrapped)
			return err
		},
	}
	at.add(cmd)
	return cmd
}

func keysRetireCommand() *cobra.Command {
	var at keyFileFlags
	cmd := &cobra.Command{
		Use: "retire", Short: "Take the older keys out of the key file, if nothing names them any more", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, keys, err := at.openFile()
			if err != nil {
				return err
			}
			names, err := namesOf(keys)
			if err != nil {
				return err
			}
			if len(keys) < 2 {
				return errors.New("the file has one key only: there is none to retire")
			}
			op, err := at.operatorFlags.open()
			if err != nil {
				return err
			}
			use, err := op.keys(cmd.Context())
			if err != nil {
				return err
			}
			if err := retirable(use, names); err != nil {
				return err
			}
			if err := config.WriteKeyFile(path, keys[:1]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "took the key %s out of %s; restart every replica with this file, one after the other.\n", strings.Join(names[1:], ", "), path)
			return err
		},
	}
	at.add(cmd)
	return cmd
}

// retirable says why the keys after the first cannot be retired.
func retirable(use keyUses, names []string) error {
	live := false
	for _, r := range use.Replicas {
		if r.State != "live" {
			continue
		}
		live = true
		if len(r.Keys) == 0 || r.Keys[0] != names[0] {
			return fmt.Errorf("the replica %s does not seal with %s, the first key of the file: restart it with this file", r.ID, names[0])
		}
	}
	if !live {
		return errors.New("no replica has announced itself in the store; try again in a minute")
	}
	for _, name := range names[1:] {
		switch records, sealers := use.use(name); {
		case records > 0:
			return fmt.Errorf("%d records name the key %s; they are rewrapped in the background, or at once by `cloakroom keys rewrap`", records, name)
		case sealers > 0:
			return fmt.Errorf("replicas sealed with the key %s until a short while ago, and logins in progress may need it: try again in a quarter of an hour", name)
		}
	}
	return nil
}
