package cloakroom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/admin"
	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/limit"
	"github.com/cloakroom/cloakroom/internal/login"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/upstream"
	"github.com/cloakroom/cloakroom/internal/web"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/memstore"
)

// Event is something Cloakroom says about itself: a *RequestEvent, an *AuditEvent or a *CallEvent.
type Event = event.Event

// The kinds of Event. None of them ever holds a secret.
type (
	RequestEvent = event.Request
	AuditEvent   = event.Audit
	CallEvent    = event.Call
)

// Options are what a configuration file cannot say.
type Options struct {
	// Store keeps the sessions. nil keeps them in this process's memory, for which the configuration must say
	// `memory:` (or nothing). The caller closes its own store after Shutdown.
	Store store.Store
	// Log gets one line per request, security act and call to a provider. nil logs nothing.
	Log *slog.Logger
	// RequestLog gets the lines of requests in the place of Log: the same members as JSON, many lines in one write. It
	// costs a fifth. nil writes them to Log.
	RequestLog io.Writer
	// OnEvent gets every event, too. It must return quickly and may be called by many goroutines at once.
	OnEvent func(Event)
}

// Handler is Cloakroom as an http.Handler.
type Handler struct {
	frontends map[string]*frontend // by host, as a browser sends it
	trusted   []netip.Prefix
	store     store.Store
	events    event.Sink
	log       *event.Logger
	feed      *session.Feed
	upstreams *upstream.Set
	keeper    *keeper
	operator  config.Admin
	asking    config.Secret // what proxies present at Verify
	draining  atomic.Bool
	background
}

// background is what runs beside the requests.
type background struct {
	stop context.CancelFunc
	wait sync.WaitGroup
}

// New makes a Handler from a configuration, which is completed with its defaults and checked whole. It asks no
// provider: one that is down is found when it is back.
func New(cfg config.Config, o Options) (*Handler, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	st, err := storeOf(cfg, o)
	if err != nil {
		return nil, err
	}
	ring, err := ringOf(cfg, o)
	if err != nil {
		return nil, err
	}
	h := &Handler{frontends: map[string]*frontend{}, trusted: cfg.TrustedProxies, store: st, operator: cfg.Admin, asking: cfg.Verify.Token}
	h.events = h.sink(cfg, o)
	h.upstreams = upstream.NewSet(h.events)
	cache := session.NewCache(int64(cfg.Cache))
	h.feed = session.NewFeed(st, cache, cfg.StoreGrace.Std(), h.events)
	shared := shared{
		store: st, ring: ring, events: h.events, cache: cache, feed: h.feed,
		limits: limitsOf(cfg.Limits, st), human: login.NewHuman(cfg.Challenge, h.events), perAddress: limit.New(cfg.Limits.PerAddress),
		upstreams: h.upstreams,
	}
	for _, f := range cfg.Frontends {
		made, err := newFrontend(f, shared)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("frontend %s: %w", f.URL, err), h.Shutdown(context.Background()))
		}
		h.frontends[hostOf(f.URL)] = made
	}
	h.keeper = &keeper{
		store: st, ring: ring, managers: h.managers(), announcer: session.NewAnnouncer(h.feed, ring), events: h.events,
	}
	h.begin(o.Log)
	return h, nil
}

// limitsOf makes the counters of logins. Of a provider's budget one half is for strangers and one for known browsers.
func limitsOf(l config.Limits, st store.Store) login.Limits {
	half := config.Rate{Burst: l.PerProvider.Burst / 2, Per: l.PerProvider.Per}
	return login.Limits{
		PerAddress: limit.NewCounter("address", l.PerAddress, st), PerAccount: limit.NewCounter("account", l.PerAccount, st),
		PerDevice: limit.NewCounter("device", l.PerAccount, st), PerHuman: limit.NewCounter("human", l.PerAccount, st),
		Strangers: limit.NewCounter("strangers", half, st), Known: limit.NewCounter("known", half, st),
	}
}

// begin starts what runs beside the requests.
func (h *Handler) begin(log *slog.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	for _, f := range h.frontends {
		for _, p := range f.providers {
			h.wait.Go(func() { greet(ctx, p) })
		}
	}
	h.wait.Go(func() { h.feed.Run(ctx) })
	h.wait.Go(func() { h.keeper.run(ctx) })
	if p, ok := h.store.(store.Pruner); ok {
		h.wait.Go(func() { prune(ctx, p, log) })
	}
}

// managers are the session managers of all frontends, in an order that stays.
func (h *Handler) managers() []*session.Manager {
	var list []*session.Manager
	for _, host := range slices.Sorted(maps.Keys(h.frontends)) {
		list = append(list, h.frontends[host].sessions)
	}
	return list
}

// storeOf is the store to use. Only cmd/cloakroom opens stores by their URL: this package links no driver.
func storeOf(cfg config.Config, o Options) (store.Store, error) {
	if o.Store != nil {
		return o.Store, nil
	}
	if cfg.Store != "" && cfg.Store != "memory:" {
		return nil, fmt.Errorf("the store %q must be opened by the caller: give Options.Store (see package store/boltstore)", cfg.Store)
	}
	return memstore.New(), nil
}

func ringOf(cfg config.Config, o Options) (*seal.Ring, error) {
	keys := config.KeyRing(cfg.Keys)
	if len(keys) == 0 {
		if o.Store != nil {
			if _, inMemory := o.Store.(*memstore.Store); !inMemory {
				return nil, errors.New("config: keys is empty: without the same key after a restart no stored session can be opened; use config.KeyFile or config.NewKey")
			}
		}
		keys = []config.Secret{config.NewKey()}
	}
	raw := make([][]byte, len(keys))
	for i, k := range keys {
		key, err := config.Key(k)
		if err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		raw[i] = key
	}
	return seal.NewRing(raw...)
}

func (h *Handler) sink(cfg config.Config, o Options) event.Sink {
	if o.Log == nil && o.RequestLog == nil && o.OnEvent == nil {
		return nil
	}
	var log *event.Logger
	if o.Log != nil || o.RequestLog != nil {
		log = event.NewLogger(o.Log, o.RequestLog, cfg.Log.Requests)
		h.log = log
	}
	return func(e Event) {
		if log != nil {
			log.Sink(e)
		}
		if o.OnEvent != nil {
			o.OnEvent(e)
		}
	}
}

// greet asks a provider who it is until it answers, so that the operator's /readyz knows before anybody logs in.
func greet(ctx context.Context, p *oidc.Provider) {
	for p.Discover(ctx) != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Second):
		}
	}
}

// prune removes what is over from stores that do not forget by themselves.
func prune(ctx context.Context, p store.Pruner, log *slog.Logger) {
	const batch = 1000
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for n := batch; n == batch && ctx.Err() == nil; {
			var err error
			if n, err = p.Prune(ctx, batch); err != nil && ctx.Err() == nil {
				if log != nil {
					log.Error("removing ended sessions failed", "error", err)
				}
				break
			}
		}
	}
}

// Drain begins the end: /readyz says no from now on, and what would not end by itself is ended: WebSockets, and event
// streams of APIs. It says how many those were. Call it before the http.Server's own Shutdown, which waits for all other
// requests.
func (h *Handler) Drain() int {
	h.draining.Store(true)
	n := 0
	for _, f := range h.frontends {
		n += f.proxy.Drain()
	}
	return n
}

// Shutdown stops taking part: running refreshes are saved, activity is written, background work ends. Call it
// after the http.Server's own Shutdown. The store stays open; it belongs to the caller.
func (h *Handler) Shutdown(ctx context.Context) error {
	var errs []error
	for _, f := range h.frontends {
		errs = append(errs, f.close(ctx))
	}
	h.upstreams.Close()
	if h.stop != nil {
		h.stop()
	}
	h.wait.Wait()
	if h.log != nil {
		h.log.Close()
	}
	return errors.Join(errs...)
}

// Admin is the operator's handler: /healthz and /readyz for everyone, /api/ (docs/admin.md) for whoever has the
// configuration's admin.token; without one /api/ is closed. Serve it on a listener that the public cannot reach.
func (h *Handler) Admin() http.Handler {
	o := admin.Options{
		Store: h.store, Providers: map[string]func() error{}, Feed: h.feed, Keys: h.keeper.complete,
		Sessions: &session.Operator{Store: h.store, Managers: h.keeper.managers}, Ring: h.keeper.ring,
		Replicas: h.keeper.announcer, Token: h.operator.Token, Hosts: h.operator.Hosts, Events: h.events,
		Upstreams: h.upstreams.Out, Draining: h.draining.Load,
	}
	for host, f := range h.frontends {
		for name, p := range f.providers {
			o.Providers[host+" "+name] = p.Ready
		}
	}
	return admin.New(o)
}

// hostOf is the Host header that a browser sends for an origin: lower case, no default port.
func hostOf(origin string) string {
	u, err := url.Parse(origin)
	if err != nil {
		return ""
	}
	return plainHost(strings.ToLower(u.Host), u.Scheme)
}

func plainHost(host, scheme string) string {
	if scheme == "https" {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}

// find returns the frontend that a request is for.
func (h *Handler) find(info *web.Info) *frontend {
	if f := h.frontends[info.Host]; f != nil {
		return f
	}
	return h.frontends[plainHost(info.Host, info.Scheme)]
}
