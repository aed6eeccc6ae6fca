package main

import (
	"context"
	"errors"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"strings"
	"sync"

	"github.com/cloakroom/cloakroom"
	"github.com/cloakroom/cloakroom/config"
	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the server", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			out := &lines{w: cmd.ErrOrStderr()}
			log := newLog(cfg.Log, out)
			return serve(cmd.Context(), withAdmin(cfg.WithDefaults(), file, log), log, requestLog(cfg.Log, out))
		},
	}
	cmd.Flags().StringVar(&file, "config", "./cloakroom.yaml", "the configuration file")
	return cmd
}

// withAdmin completes the admin listener's settings: a token where there is none, and the host that it listens on. A
// token that cannot be kept closes the API and no more; health and apps are served all the same.
func withAdmin(cfg config.Config, file string, log *slog.Logger) config.Config {
	if cfg.Admin.Listen == "" {
		return cfg
	}
	if host, _, err := net.SplitHostPort(cfg.Admin.Listen); err == nil && host != "" {
		cfg.Admin.Hosts = append(cfg.Admin.Hosts, host)
	}
	if !cfg.Admin.Token.Empty() {
		return cfg
	}
	path := tokenPath(cfg, file)
	token, err := config.TokenFile(path)
	if err != nil {
		log.Warn("the operator's API is closed: its token cannot be kept; set admin.token", "error", err)
		return cfg
	}
	cfg.Admin.Token = token
	log.Info("the operator's token", "file", path)
	return cfg
}

func newLog(cfg config.Log, out io.Writer) *slog.Logger {
	if cfg.Format == "text" {
		return slog.New(slog.NewTextHandler(out, nil))
	}
	return slog.New(slog.NewJSONHandler(out, nil))
}

// requestLog is where the lines of requests go: JSON has a way of its own, which is cheaper. nil = with the others.
func requestLog(cfg config.Log, out io.Writer) io.Writer {
	if cfg.Format == "text" {
		return nil
	}
	return out
}

// lines is a log that several write to, each of them whole lines.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// libraries takes what libraries tell the standard logger. What they quote is left out: net/http quotes what an upstream
// sends without being asked, and that may be anybody's data.
type libraries struct{ log *slog.Logger }

func (l libraries) Write(b []byte) (int, error) {
	text, _, _ := strings.Cut(string(b), `"`)
	l.log.Warn("a library complains", "text", strings.TrimSpace(text))
	return len(b), nil
}

// serve runs the server until ctx ends, then drains.
func serve(ctx context.Context, cfg config.Config, log *slog.Logger, requests io.Writer) error {
	stdlog.SetFlags(0)
	stdlog.SetOutput(libraries{log})
	keys, err := keysOf(cfg)
	if err != nil {
		return err
	}
	cfg.Keys = keys
	st, err := openStore(ctx, cfg.Store, log, true)
	if err != nil {
		return err
	}
	handler, err := cloakroom.New(cfg, cloakroom.Options{Store: st.Store, Log: log, RequestLog: requests})
	if err != nil {
		return errors.Join(err, st.close())
	}
	tuneCollector(ctx, log)
	err = serveAll(ctx, cfg, handler, log)
	shutdown, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return errors.Join(err, handler.Shutdown(shutdown), st.close())
}
