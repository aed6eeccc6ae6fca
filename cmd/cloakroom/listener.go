package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloakroom/cloakroom"
	"github.com/cloakroom/cloakroom/config"
	_ "github.com/cloakroom/cloakroom/internal/xconnect" // WebSockets over HTTP/2
)

// drainTime is how long running requests may take after SIGTERM before they are cut.
const drainTime = 20 * time.Second

// listener is one address and what answers there.
type listener struct {
	name    string
	address string
	tls     *config.TLS
	handler http.Handler
	last    bool // it serves until the others have drained
}

func serveAll(ctx context.Context, cfg config.Config, handler *cloakroom.Handler, log *slog.Logger) error {
	listeners := []listener{{name: "public", address: cfg.Listen, tls: cfg.TLS, handler: handler}}
	if cfg.Admin.Listen != "" {
		listeners = append(listeners, listener{name: "admin", address: cfg.Admin.Listen, handler: handler.Admin(), last: true})
	}
	if cfg.Verify.Listen != "" {
		listeners = append(listeners, listener{name: "verify", address: cfg.Verify.Listen, handler: handler.Verify()})
	}
	return listen(ctx, listeners, handler.Drain, log)
}

// listen serves all listeners until ctx ends or one fails, then lets running requests finish. drain ends what would not
// finish, and says how many that were.
func listen(ctx context.Context, listeners []listener, drain func() int, log *slog.Logger) error {
	failed := make(chan error, len(listeners))
	var servers []*running
	for _, l := range listeners {
		ln, err := listenOn(ctx, l.address)
		if err != nil {
			stopAll(servers, log)
			return fmt.Errorf("%s listener: %w", l.name, err)
		}
		s := newRunning(l, log)
		servers = append(servers, s)
		log.Info("listening", "listener", l.name, "address", ln.Addr().String(), "tls", l.tls != nil)
		go func() {
			if l.tls != nil {
				failed <- s.ServeTLS(ln, l.tls.CertFile, l.tls.KeyFile)
				return
			}
			failed <- s.Serve(ln)
		}()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	log.Info("draining", "streams_cut", drain())
	stopAll(servers, log)
	return err
}

// listenOn listens on a TCP address, or on the socket file of unix:PATH.
func listenOn(ctx context.Context, address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenSocket(ctx, path)
	}
	return (&net.ListenConfig{}).Listen(ctx, "tcp", address)
}

// running is a listener that serves.
type running struct {
	*http.Server
	listener
	requests atomic.Int64
}

func newRunning(l listener, log *slog.Logger) *running {
	s := &running{listener: l}
	s.Server = newServer(s, log)
	return s
}

// ServeHTTP counts the requests that are under way.
func (s *running) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	defer s.requests.Add(-1)
	s.handler.ServeHTTP(w, r)
}

// newServer bounds what a client may send and how slowly. There is no write time-out: streams may be long.
func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		Protocols:         protocols(),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 1000,
			// An upload moves what its own window holds per round trip. Those that an API does not take fill the connection's,
			// which is the largest that net/http promises: 7 of them leave room for the other requests.
			MaxReceiveBufferPerConnection: 4<<20 - 1,
			MaxReceiveBufferPerStream:     512 << 10,
			SendPingTimeout:               30 * time.Second, // a client that vanished is noticed though it never said so
			PingTimeout:                   15 * time.Second,
			WriteByteTimeout:              2 * time.Minute,
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// protocols are HTTP/1.1, and HTTP/2 by ALPN over TLS and with prior knowledge without it.
func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// stopAll lets running requests finish on all listeners at once. The operator's goes last, so that whoever asks it
// whether this process is ready hears that it is not.
func stopAll(servers []*running, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	for _, last := range []bool{false, true} {
		var all sync.WaitGroup
		for _, s := range servers {
			if s.last == last {
				all.Go(func() { s.stop(ctx, log) })
			}
		}
		all.Wait()
	}
}

func (s *running) stop(ctx context.Context, log *slog.Logger) {
	if err := s.Shutdown(ctx); err != nil {
		log.Warn("requests were cut", "listener", s.name, "requests", s.requests.Load(), "error", err)
		_ = s.Close()
	}
}
