package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/idp"
	"github.com/spf13/cobra"
)

// idpOptions are the flags of `cloakroom idp`.
type idpOptions struct {
	listen, control, dialect, users string
	id, secret                      string
	redirects, afterLogout          []string
	backchannel                     string
	accessTokenLife, pushInterval   time.Duration
	rotation                        string
	leeway                          time.Duration
	trust                           bool
}

func idpCommand() *cobra.Command {
	var o idpOptions
	cmd := &cobra.Command{
		Use: "idp", Short: "The demo's provider alone, scriptable, for tests of your own", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runIDP(cmd.Context(), o, cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:9090", "the provider's address; loopback only")
	f.StringVar(&o.control, "control", "127.0.0.1:9091", "the control API's address; loopback only")
	f.StringVar(&o.dialect, "dialect", "generic", "whom it speaks like: generic, auth0, okta, keycloak, entra, cognito, challenge")
	f.StringVar(&o.id, "client-id", "demo", "the client's id")
	f.StringVar(&o.secret, "client-secret", demoSecret, "the client's secret")
	f.StringArrayVar(&o.redirects, "redirect-uri", []string{"http://127.0.0.1:8080/auth/callback"}, "where logins come back to; may be said several times")
	f.StringArrayVar(&o.afterLogout, "post-logout-redirect-uri", []string{"http://127.0.0.1:8080/"}, "where logouts come back to; may be said several times")
	f.StringVar(&o.backchannel, "backchannel-logout-uri", "", "is told when a session ends here")
	f.DurationVar(&o.accessTokenLife, "access-token-life", 30*time.Second, "how long access tokens are good")
	f.DurationVar(&o.pushInterval, "push-interval", 5*time.Second, "how far apart polls for a push have to be")
	f.StringVar(&o.rotation, "rotation", "", "what a refresh does with the old refresh token: rotate, keep, omit (default: as the dialect's provider)")
	f.DurationVar(&o.leeway, "leeway", 0, "how long a rotated refresh token still works (default: as the dialect's provider)")
	f.BoolVar(&o.trust, "trust-forwarded-for", false, "believe auth0-forwarded-for (dialect auth0)")
	f.StringVar(&o.users, "users", "", "JSON file of the users; without it the demo's")
	return cmd
}

// runIDP serves the provider and its control API until ctx ends. Both bind before anything is printed.
func runIDP(ctx context.Context, o idpOptions, out io.Writer) error {
	users, err := readUsers(o.users)
	if err != nil {
		return err
	}
	public, err := loopback(ctx, "--listen", o.listen)
	if err != nil {
		return err
	}
	control, err := loopback(ctx, "--control", o.control)
	if err != nil {
		return errors.Join(err, public.Close())
	}
	provider, err := idp.New(idp.Config{
		Issuer: issuerOf(o.dialect, siteOf(o.listen, public)), Dialect: o.dialect, Users: users, AccessTokenLife: o.accessTokenLife, PushInterval: o.pushInterval,
		Rotation: o.rotation, Leeway: o.leeway, TrustForwardedFor: o.trust,
		Clients: []idp.Client{{
			ID: o.id, Secret: o.secret, RedirectURIs: o.redirects, PostLogoutRedirectURIs: o.afterLogout, BackchannelLogoutURI: o.backchannel,
		}},
	})
	if err != nil {
		return errors.Join(usageError{err}, public.Close(), control.Close())
	}
	greetIDP(out, provider, siteOf(o.control, control))
	return serveBoth(ctx, [2]net.Listener{public, control}, [2]http.Handler{provider, provider.Control()})
}

// loopback listens where only this computer gets.
func loopback(ctx context.Context, flag, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s %q: write it as 127.0.0.1:9090", flag, address)}
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, usageError{fmt.Errorf("%s %q: the provider has known passwords and stays on loopback", flag, address)}
	}
	ln, err := listenOn(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("%w; choose another address with %s", err, flag)
	}
	return ln, nil
}

// siteOf is the listener's site by the name that was asked for: an issuer is compared letter by letter.
func siteOf(asked string, ln net.Listener) string {
	host, _, _ := net.SplitHostPort(asked)
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return "http://" + net.JoinHostPort(host, port)
}

// issuerOf is the issuer as the dialect's provider writes it.
func issuerOf(dialect, site string) string {
	return site + map[string]string{
		"auth0": "/", "okta": "/oauth2/default", "keycloak": "/realms/demo", "entra": "/tenant/v2.0", "cognito": "/pool-demo",
	}[dialect]
}

// mostUsers bounds the file of users.
const mostUsers = 1 << 20

func readUsers(file string) ([]idp.User, error) {
	if file == "" {
		return idp.DemoUsers(), nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError{fmt.Errorf("--users: %w", err)}
	}
	if len(raw) > mostUsers {
		return nil, usageError{fmt.Errorf("--users: %s is longer than a mebibyte", file)}
	}
	var users []idp.User
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&users); err != nil {
		return nil, usageError{fmt.Errorf("--users: %s is no JSON list of users: %w", file, err)}
	}
	if err := idp.CheckUsers(users); err != nil {
		return nil, usageError{fmt.Errorf("--users: %s: %w", file, err)}
	}
	return users, nil
}

func greetIDP(out io.Writer, p *idp.Provider, control string) {
	fmt.Fprintf(out, "\n  issuer:   %s\n  control:  %s\n  client:   %s / %s\n\n  users:\n", p.Issuer, control, p.Clients[0].ID, p.Clients[0].Secret)
	for _, u := range p.Users {
		fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("    %-12s %-14s %s", u.Username, u.Password, conditions(u)), " "))
	}
	fmt.Fprintf(out, "\n  try:  curl %s/requests\n\n", control)
}

// conditions are what is special about a user.
func conditions(u idp.User) string {
	var all []string
	for _, c := range []struct {
		is   bool
		what string
	}{
		{u.Locked, "blocked"},
		{u.Breached, "the password was leaked"},
		{u.Captcha, "has to show to be a person"},
		{u.Consent, "has still to agree"},
		{u.PasswordExpired, "has to choose a new password"},
		{u.Denied, "a rule says no"},
		{u.Unverified, "e-mail address not confirmed"},
		{u.MFA && len(u.Factors) == 0, "has to enrol a second factor"},
		{u.MFAAtRefresh, "may be asked for a second factor at a refresh"},
	} {
		if c.is {
			all = append(all, c.what)
		}
	}
	if u.MFA && len(u.Factors) > 0 {
		var types []string
		for _, f := range u.Factors {
			types = append(types, f.Type)
		}
		all = append(all, "second factor: "+strings.Join(types, ", "))
	}
	return strings.Join(all, "; ")
}

// serveBoth serves until ctx ends or one fails.
func serveBoth(ctx context.Context, listeners [2]net.Listener, handlers [2]http.Handler) error {
	quiet := slog.New(slog.DiscardHandler)
	failed := make(chan error, len(listeners))
	var servers []*http.Server
	for i, ln := range listeners {
		server := newServer(handlers[i], quiet)
		servers = append(servers, server)
		go func() { failed <- server.Serve(ln) }()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	for _, server := range servers {
		err = errors.Join(err, server.Close())
	}
	return err
}
