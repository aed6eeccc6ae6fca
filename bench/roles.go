package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cloakroom/cloakroom"
	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/idp"
	"github.com/cloakroom/cloakroom/internal/lean"
)

// serveRole is one of the processes: it prints its address and serves until it is killed.
func serveRole(role string) error {
	if role == "hold" {
		return holdRole()
	}
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var h http.Handler
	switch role {
	case "upstream":
		h = upstream()
	case "bare":
		h, err = bare(os.Getenv("UPSTREAM"))
	case "cloakroom":
		h, err = product("http://"+ln.Addr().String(), os.Getenv("UPSTREAM"))
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	go tidy()
	if file := os.Getenv("PROFILE"); file != "" {
		go profile(file + "." + role + "-" + transport())
	}
	return (&http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}).Serve(ln)
}

// tidy gives free memory back on SIGUSR1, so that what is resident is what is used.
func tidy() {
	ask := make(chan os.Signal, 1)
	signal.Notify(ask, syscall.SIGUSR1)
	for range ask {
		debug.FreeOSMemory()
	}
}

// profile writes a CPU profile of ten seconds, and then what was allocated meanwhile.
func profile(file string) {
	out, err := os.Create(file) //nolint:gosec // what the caller of this command named
	if err == nil {
		err = pprof.StartCPUProfile(out)
	}
	time.Sleep(10 * time.Second)
	pprof.StopCPUProfile()
	allocs, err2 := os.Create(file + ".allocs") //nolint:gosec // as above
	if err = errors.Join(err, err2, out.Close()); err == nil {
		err = errors.Join(pprof.Lookup("allocs").WriteTo(allocs, 0), allocs.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// upstream answers 1 KB of JSON to whoever has a bearer token; below /api/bytes/ as many bytes as the path says, below
// /api/upload how many came, and at /api/ws with a WebSocket on which nothing is said.
func upstream() http.Handler {
	body := []byte(`{"hello":"` + strings.Repeat("x", 1000) + `"}`)
	block := make([]byte, 256<<10)
	mux := http.NewServeMux()
	mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})
	mux.HandleFunc("/api/bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		for n > 0 && err == nil {
			var m int
			m, err = w.Write(block[:min(n, int64(len(block)))])
			n -= int64(m)
		}
	})
	mux.HandleFunc("/api/upload", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, n)
	})
	mux.HandleFunc("/api/ws", func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Get("Authorization")) < 40 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// transport is which one the process is to send by.
func transport() string { return cmp.Or(os.Getenv("TRANSPORT"), "auto") }

// bare is the limit: httputil.ReverseProxy with the same transport settings and buffers as Cloakroom's, Go's own transport
// unless the lean one is asked for.
func bare(address string) (http.Handler, error) {
	u, err := url.Parse("http://" + address)
	if err != nil {
		return nil, err
	}
	pool := &buffers{sync.Pool{New: func() any { return make([]byte, 32<<10) }}}
	var send http.RoundTripper = &http.Transport{
		MaxIdleConnsPerHost: 512, DisableCompression: true, WriteBufferSize: 8 << 10, ReadBufferSize: 8 << 10,
	}
	if transport() == "lean" {
		dial := func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", address) }
		send = lean.New(lean.Options{Dial: dial, MaxIdle: 512})
	}
	return &httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(u); r.SetXForwarded() },
		Transport:  send,
		BufferPool: pool,
	}, nil
}

type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte  { return b.pool.Get().([]byte) }
func (b *buffers) Put(x []byte) { b.pool.Put(x) } //nolint:staticcheck // a bench's pool

// product is Cloakroom whole, with the demo provider in the same process for the logins.
func product(self, address string) (http.Handler, error) {
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p, err := idp.New(idp.Config{
		Issuer: "http://" + ln.Addr().String(), AccessTokenLife: time.Hour, Users: []idp.User{{Username: "ann", Password: "pw"}},
		Clients: []idp.Client{{ID: "app", Secret: "s", RedirectURIs: []string{self + "/auth/callback"}}},
	})
	if err != nil {
		return nil, err
	}
	go func() { _ = (&http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}).Serve(ln) }()
	// The log is written in earnest, and kept nowhere.
	out, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	key := config.NewKey()
	st, err := filled(self, "http://"+ln.Addr().String(), key)
	if err != nil {
		return nil, err
	}
	return cloakroom.New(config.Config{
		Keys:   []config.Secret{key},
		Limits: config.Limits{PerAccount: config.Rate{Burst: 100000, Per: time.Second}, PerAddress: config.Rate{Burst: 100000, Per: time.Second}},
		Frontends: []config.Frontend{{
			URL:       self,
			Providers: []config.Provider{{Issuer: "http://" + ln.Addr().String(), ClientID: "app", ClientSecret: config.NewSecret("s"), PasswordLogin: true}},
			Routes:    []config.Route{{Path: "/api/", Upstream: "http://" + address, Connection: &config.Connection{Transport: transport()}}},
		}},
	}, cloakroom.Options{Store: st, Log: slog.New(slog.NewJSONHandler(out, nil)), RequestLog: out})
}
