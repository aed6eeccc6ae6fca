package cloakroom

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/account"
	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/limit"
	"github.com/cloakroom/cloakroom/internal/login"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/page"
	"github.com/cloakroom/cloakroom/internal/proxy"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/upstream"
	"github.com/cloakroom/cloakroom/internal/web"
	"github.com/cloakroom/cloakroom/store"
)

// shared is what all frontends use together.
type shared struct {
	store      store.Store
	ring       *seal.Ring
	events     event.Sink
	cache      *session.Cache
	feed       *session.Feed
	limits     login.Limits
	human      *login.Human
	perAddress *limit.GCRA // of notices from providers
	upstreams  *upstream.Set
}

// frontend is one configured app: the rooms of its requests, wired.
type frontend struct {
	url       string
	secure    bool
	gate      *gate.Gate
	sessions  *session.Manager
	providers map[string]*oidc.Provider
	pages     *page.Pages
	table     map[string]map[string]http.HandlerFunc // path under /auth/ -> method -> handler
	below     map[string]map[string]http.HandlerFunc // the same for what begins with this
	login     *login.Handler
	account   *account.Handler
	proxy     *proxy.Proxy
}

func newFrontend(cfg config.Frontend, s shared) (*frontend, error) {
	f := &frontend{url: cfg.URL, secure: strings.HasPrefix(cfg.URL, "https:"), providers: map[string]*oidc.Provider{}}
	cookies, err := web.NewCookies(cfg.URL, cfg.Session)
	if err != nil {
		return nil, err
	}
	theme, err := themeOf(cfg.Page)
	if err != nil {
		return nil, err
	}
	f.pages = page.New(theme)
	policies := map[string]session.ProviderPolicy{}
	var ordered []login.Provider
	for _, p := range cfg.Providers {
		client := oidc.New(oidc.Config{
			Name: p.Name, Issuer: p.Issuer, ClientID: p.ClientID, ClientSecret: p.ClientSecret, ClientAuth: p.ClientAuth,
			Profile: p.Profile, Scopes: p.Scopes, Audience: p.Audience, Realm: p.Realm, Events: s.events,
			Audiences: audiencesOf(cfg.Routes, p.Audience),
		})
		reuse, err := session.ParseReuse(p.RefreshReuse)
		if err != nil {
			return nil, fmt.Errorf("provider %s: %w", p.Name, err)
		}
		f.providers[p.Name] = client
		policies[p.Name] = session.ProviderPolicy{Provider: client, Reuse: reuse, Rate: p.RefreshRate, ClientID: p.ClientID}
		ordered = append(ordered, login.Provider{Config: p, Client: client})
	}
	f.sessions, err = session.NewManager(session.Options{
		Frontend: cfg.URL, Store: s.store, Ring: s.ring, Cache: s.cache, Feed: s.feed, Providers: policies, Events: s.events,
		Idle: cfg.Session.IdleTimeout.Std(), RememberIdle: cfg.Session.RememberIdleTimeout.Std(),
		Lifetime: cfg.Session.Lifetime.Std(), UserTokenNeeded: needsUserToken(cfg.Routes), ClientOf: cfg.Providers[0].Name,
	})
	if err != nil {
		return nil, err
	}
	f.gate = gate.New(gate.Options{
		Origin: cfg.URL, Allowed: cfg.AllowedOrigins, Cookies: cookies, Sessions: f.sessions,
		Reloader: f.pages.Reload, Page: f.page, Events: s.events,
	})
	return f, f.wire(cfg, s, cookies, ordered)
}

// themeOf reads what the pages' theme names.
func themeOf(c config.Page) (page.Theme, error) {
	t := page.Theme{Name: c.Name, Accent: c.Accent, AccentDark: c.AccentDark, Radius: c.Radius, Font: c.Font}
	for _, o := range c.Texts {
		t.Texts = append(t.Texts, page.Override{Language: o.Language, Name: o.Name, Text: o.Text})
	}
	var err error
	if c.Logo != "" {
		t.LogoType = config.LogoTypes[strings.ToLower(filepath.Ext(c.Logo))]
		if t.Logo, err = os.ReadFile(c.Logo); err != nil {
			return t, fmt.Errorf("page.logo: %w", err)
		}
	}
	if c.Style != "" {
		if t.Style, err = os.ReadFile(c.Style); err != nil {
			return t, fmt.Errorf("page.style: %w", err)
		}
	}
	return t, nil
}

// wire makes the rooms that answer.
func (f *frontend) wire(cfg config.Frontend, s shared, cookies web.Cookies, ordered []login.Provider) error {
	transactions := web.Transactions{Cookies: cookies, Ring: s.ring, Frontend: cfg.URL}
	f.login = login.New(login.Options{
		Frontend: cfg, Providers: ordered, Sessions: f.sessions, Gate: f.gate, Transactions: transactions,
		Store: s.store, Pages: f.pages, Limits: s.limits, Human: s.human, Events: s.events,
	})
	f.account = account.New(account.Options{
		Origin: cfg.URL, Providers: f.providers, Sessions: f.sessions, Gate: f.gate, Transactions: transactions,
		Store: s.store, Pages: f.pages, Tokens: tokensOf(cfg), PerAddress: s.perAddress, Events: s.events,
	})
	f.table = map[string]map[string]http.HandlerFunc{
		"/auth/login":               {"GET": f.login.Page, "POST": f.login.Submit},
		"/auth/login/step":          {"GET": f.login.StepPage, "POST": f.login.Step},
		"/auth/login/redirect":      {"GET": f.login.Redirect},
		"/auth/login/silent":        {"GET": f.login.Silent},
		"/auth/login/confirm":       {"POST": f.login.Confirm},
		"/auth/callback":            {"GET": f.callback},
		"/auth/session":             {"GET": f.account.Session},
		"/auth/session/touch":       {"POST": f.account.Touch},
		"/auth/sessions":            {"GET": f.account.List, "POST": f.account.EndByForm, "DELETE": f.account.EndOthers},
		"/auth/events":              {"GET": f.account.Stream},
		"/auth/logout":              {"GET": f.account.ConfirmLogout, "POST": f.account.Logout},
		"/auth/logout/continue":     {"GET": f.account.Continue},
		"/auth/token":               {"GET": f.account.Token},
		"/auth/backchannel-logout":  {"POST": f.account.BackChannelLogout},
		"/auth/frontchannel-logout": {"GET": f.account.FrontChannelLogout},
	}
	f.below = map[string]map[string]http.HandlerFunc{
		"/auth/callback/": {"GET": f.callback},
		"/auth/sessions/": {"DELETE": f.account.EndOne},
	}
	var err error
	f.proxy, err = proxy.New(proxy.Options{
		Routes: cfg.Routes, Gate: f.gate, Frontend: cfg.URL, Providers: origins(cfg.Providers),
		Cookies: cookies, Upstreams: s.upstreams, Events: s.events, Page: f.page,
	})
	return err
}

// origins are where the providers are.
func origins(providers []config.Provider) []string {
	var list []string
	for _, p := range providers {
		if u, err := url.Parse(p.Issuer); err == nil {
			list = append(list, u.Scheme+"://"+u.Host)
		}
	}
	return list
}

// needsUserToken reports whether a session without an access token is of no use.
func needsUserToken(routes []config.Route) bool {
	for _, r := range routes {
		if r.Token == "user" || r.Token == "exchange" {
			return true
		}
	}
	return false
}

// audiencesOf are the audiences besides the provider's own for which a session's refresh token will be presented.
func audiencesOf(routes []config.Route, own string) (list []string) {
	for _, r := range routes {
		if r.Token == "user" && r.Audience != "" && r.Audience != own && !slices.Contains(list, r.Audience) {
			list = append(list, r.Audience)
		}
	}
	return list
}

// tokensOf are the routes whose access tokens the app's scripts may have. A route without scopes of its own has those of
// the login.
func tokensOf(cfg config.Frontend) map[string]account.TokenRoute {
	list := map[string]account.TokenRoute{}
	for _, r := range cfg.Routes {
		if !r.TokenToBrowser {
			continue
		}
		scopes := r.Scopes
		if len(scopes) == 0 {
			for _, p := range cfg.Providers {
				scopes = append(scopes, p.Scopes...)
			}
		}
		list[r.Name] = account.TokenRoute{Need: gate.RequirementOf(r), Scope: strings.Join(scopes, " ")}
	}
	return list
}

// page shows a problem to a person.
func (f *frontend) page(w http.ResponseWriter, r *http.Request, p *web.Problem) {
	p.Headers(w, r)
	v := page.Problem{Status: p.Status, Code: p.Code, Title: p.Title, Detail: p.Detail, HomeURL: "/", RetryURL: p.LoginURL, RetryAfter: p.RetryAfter}
	if info := web.InfoOf(r); info != nil {
		v.RequestID = info.ID
	}
	f.pages.Problem(w, r, v)
}

func (f *frontend) close(ctx context.Context) error {
	if f.account != nil {
		f.account.Close()
	}
	if f.proxy != nil {
		f.proxy.Close()
	}
	return f.sessions.Close(ctx)
}
