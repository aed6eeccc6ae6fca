package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom"
	"github.com/cloakroom/cloakroom/config"
	"github.com/spf13/cobra"
)

// drainTime is how long running requests may take after SIGTERM before they are cut.
const drainTime = 20 * time.Second

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
			tuneCollector(cmd.Context(), log)
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

// serve runs the server until ctx ends, then drains.
func serve(ctx context.Context, cfg config.Config, log *slog.Logger, requests io.Writer) error {
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
	err = serveAll(ctx, cfg, handler, log)
	shutdown, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return errors.Join(err, handler.Shutdown(shutdown), st.close())
}

// listener is one address and what answers there.
type listener struct {
	name    string
	address string
	tls     *config.TLS
	handler http.Handler
}

func serveAll(ctx context.Context, cfg config.Config, handler *cloakroom.Handler, log *slog.Logger) error {
	listeners := []listener{{"public", cfg.Listen, cfg.TLS, handler}}
	if cfg.Admin.Listen != "" {
		listeners = append(listeners, listener{"admin", cfg.Admin.Listen, nil, handler.Admin()})
	}
	if cfg.Verify.Listen != "" {
		listeners = append(listeners, listener{"verify", cfg.Verify.Listen, nil, handler.Verify()})
	}
	return listen(ctx, listeners, log)
}

// listen serves all listeners until ctx ends or one fails, then lets running requests finish.
func listen(ctx context.Context, listeners []listener, log *slog.Logger) error {
	failed := make(chan error, len(listeners))
	var servers []*http.Server
	for _, l := range listeners {
		ln, err := listenOn(ctx, l.address)
		if err != nil {
			stopAll(servers, log)
			return fmt.Errorf("%s listener: %w", l.name, err)
		}
		server := newServer(l.handler, log)
		servers = append(servers, server)
		log.Info("listening", "listener", l.name, "address", ln.Addr().String(), "tls", l.tls != nil)
		go func() {
			if l.tls != nil {
				failed <- server.ServeTLS(ln, l.tls.CertFile, l.tls.KeyFile)
				return
			}
			failed <- server.Serve(ln)
		}()
	}
	select {
	case <-ctx.Done():
		log.Info("draining")
		stopAll(servers, log)
		return nil
	case err := <-failed:
		stopAll(servers, log)
		return err
	}
}

// listenOn listens on a TCP address, or on the socket file of unix:PATH.
func listenOn(ctx context.Context, address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenSocket(ctx, path)
	}
	return (&net.ListenConfig{}).Listen(ctx, "tcp", address)
}

// newServer bounds what a client may send and how slowly. There is no write time-out: streams may be long.
func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

func stopAll(servers []*http.Server, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	for _, s := range servers {
		if err := s.Shutdown(ctx); err != nil {
			log.Warn("requests were cut", "error", err)
			_ = s.Close()
		}
	}
}
