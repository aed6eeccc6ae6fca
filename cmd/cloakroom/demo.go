package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom"
	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/demo"
	"github.com/cloakroom/cloakroom/internal/idp"
	"github.com/spf13/cobra"
)

func demoCommand() *cobra.Command {
	var listen, dir string
	cmd := &cobra.Command{
		Use: "demo", Short: "Everything on this computer: a provider, an API, an app, and Cloakroom in front", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), listen, dir, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "the app's address; loopback only")
	cmd.Flags().StringVar(&dir, "state", filepath.Join(os.TempDir(), "cloakroom-demo"), "where the demo keeps its sessions, so that a restart logs nobody out")
	return cmd
}

// demoUsers are printed at the start; the app shows them, too.
var demoUsers = idp.DemoUsers()

// runDemo serves the demo until ctx ends. What it keeps is in one directory per address.
func runDemo(ctx context.Context, listen, dir string, out io.Writer) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return usageError{fmt.Errorf("--listen %q: write it as 127.0.0.1:8080", listen)}
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usageError{fmt.Errorf("--listen %q: the demo has known passwords and stays on loopback", listen)}
	}
	public, err := listenOn(ctx, listen)
	if err != nil {
		return fmt.Errorf("%w; choose another address with --listen", err)
	}
	if port == "0" {
		_, port, _ = net.SplitHostPort(public.Addr().String())
	}
	d := &demoServer{url: "http://" + net.JoinHostPort(host, port), dir: filepath.Join(dir, port), public: public}
	if err := d.prepare(ctx); err != nil {
		return errors.Join(err, public.Close())
	}
	d.greet(out)
	return d.serve(ctx)
}

// demoServer is the demo with its parts.
type demoServer struct {
	url, dir, appDir string
	public, behind   net.Listener
	handler          *cloakroom.Handler
	inner            http.Handler
	store            opened
	quiet            *slog.Logger
}

func (d *demoServer) prepare(ctx context.Context) error {
	d.quiet = slog.New(slog.DiscardHandler)
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("the demo's state: %w; choose another place with --state", err)
	}
	d.appDir = filepath.Join(d.dir, "app")
	if err := errors.Join(os.MkdirAll(d.appDir, 0o700), demo.WriteApp(d.appDir)); err != nil {
		return fmt.Errorf("the demo's app: %w", err)
	}
	behind, err := listenBehind(ctx, filepath.Join(d.dir, "provider.address"))
	if err != nil {
		return err
	}
	d.behind = behind
	events := &demo.Log{}
	provider, err := idp.New(idp.Config{
		Issuer: d.issuer() + "/", Dialect: "auth0", Users: demoUsers, StateFile: filepath.Join(d.dir, "provider.json"),
		Clients: []idp.Client{{
			ID: "demo", Secret: demoSecret, RedirectURIs: []string{d.url + "/auth/callback"},
			PostLogoutRedirectURIs: []string{d.url + "/"}, BackchannelLogoutURI: d.url + "/auth/backchannel-logout",
		}},
		Deliver: func(m idp.Message) {
			events.Add(demo.Line{Time: m.Time, Who: "phone", What: m.Channel + " to " + m.To, Result: m.Code, Note: m.User})
		},
		Log: func(e idp.Entry) {
			events.Add(demo.Line{Time: e.Time, Who: "provider", What: e.Act, Result: e.Outcome, Note: e.User})
		},
	})
	if err != nil {
		return err
	}
	d.inner = d.route(provider, demo.NewAPI(provider.CheckAccessToken), events)
	return d.open(ctx, events)
}

// demoSecret is known to everyone: the demo's provider is on this computer, for this client, and nothing else.
const demoSecret = "demo-client-secret-of-the-demo-provider"

// listenBehind listens where the provider was before: its address is the issuer, and sessions name their issuer.
func listenBehind(ctx context.Context, file string) (net.Listener, error) {
	if raw, err := os.ReadFile(file); err == nil {
		if ln, err := listenOn(ctx, strings.TrimSpace(string(raw))); err == nil {
			return ln, nil
		}
	}
	ln, err := listenOn(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, []byte(ln.Addr().String()), 0o600); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// issuer names the provider by localhost where the app is 127.0.0.1, so that they are two sites, as in real life.
func (d *demoServer) issuer() string {
	_, port, _ := net.SplitHostPort(d.behind.Addr().String())
	if strings.Contains(d.url, "localhost") {
		return "http://127.0.0.1:" + port
	}
	return "http://localhost:" + port
}

// route is everything behind Cloakroom on one listener, told apart by host: the provider by its own name, the API
// and the log by address.
func (d *demoServer) route(provider *idp.Provider, api, events http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/api/", api)
	mux.Handle("/demo/log", events)
	mux.Handle("/demo/codes", demo.NewPhone(appUsers(), provider.OTP))
	mux.Handle("/", provider)
	return mux
}

// appUsers are the users who have an authenticator app.
func appUsers() (names []string) {
	for _, u := range demoUsers {
		if slices.ContainsFunc(u.Factors, func(f idp.Factor) bool { return f.Type == "otp" }) {
			names = append(names, u.Username)
		}
	}
	return names
}

func (d *demoServer) open(ctx context.Context, events *demo.Log) error {
	behind := "http://" + d.behind.Addr().String()
	cfg := config.Config{
		Store: "file:" + filepath.Join(d.dir, "sessions.db"),
		Frontends: []config.Frontend{{
			URL: d.url,
			Providers: []config.Provider{{
				Issuer: d.issuer() + "/", ClientID: "demo", ClientSecret: config.NewSecret(demoSecret), Profile: "auth0",
				PasswordLogin: true, RefreshReuse: "none",
			}},
			Routes: []config.Route{
				{Path: "/api/", Upstream: behind},
				{Path: "/demo/", Upstream: behind, Session: "none"},
				{Path: "/", Files: d.appDir},
			},
		}},
	}
	keys, err := keysOf(cfg)
	if err != nil {
		return err
	}
	st, err := openStore(ctx, cfg.Store, d.quiet, false)
	if err != nil {
		return err
	}
	cfg.Keys = keys
	d.store = st
	d.handler, err = cloakroom.New(cfg, cloakroom.Options{Store: st.Store, OnEvent: func(e cloakroom.Event) { events.Sink(e) }})
	if err != nil {
		return errors.Join(err, st.close())
	}
	return nil
}

func (d *demoServer) greet(out io.Writer) {
	fmt.Fprintf(out, "\n  Cloakroom demo: %s\n\n  users:\n", d.url)
	for _, u := range demoUsers {
		fmt.Fprintf(out, "    %-10s %-12s %s\n", u.Username, u.Password, conditions(u))
	}
	fmt.Fprintf(out, `
  try:
    - log in with the app's own form, and look for a token in the page: there is none
    - watch the access token being replaced every 30 seconds
    - log in from a second browser, end one session from the other, and see its page notice at once
    - log out, and come back through the provider's own page
    - log out there, at %s/v2/logout: your session here is over, too
    - log in as otp, sms or push, with a second factor; the codes are at %s/demo/codes and in the page's log
    - stop this with Ctrl-C, start it again, reload: you are still logged in

  state: %s

`, d.issuer(), d.url, d.dir)
}

func (d *demoServer) serve(ctx context.Context) error {
	inner, outer := newServer(d.inner, d.quiet), newServer(d.handler, d.quiet)
	failed := make(chan error, 2)
	go func() { failed <- inner.Serve(d.behind) }()
	go func() { failed <- outer.Serve(d.public) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	d.handler.Drain()
	if outer.Shutdown(stop) != nil {
		_ = outer.Close()
	}
	err = errors.Join(err, d.handler.Shutdown(stop), d.store.close())
	return errors.Join(err, inner.Close())
}
