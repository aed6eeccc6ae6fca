// Package admin is the operator's listener: is the process up, can it serve, who is logged in, and which keys are in
// use. Its addresses are described in docs/admin.md.
package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
	"github.com/cloakroom/cloakroom/store"
)

// Options make a handler.
type Options struct {
	Store     store.Store
	Providers map[string]func() error  // by "frontend provider": nil = reachable when last asked
	Upstreams func() map[string]string // addresses that are left out, with the reason
	Draining  func() bool              // this process is about to end
	Feed      *session.Feed
	Keys      func() error // nil = this process has every key that a replica seals with
	Sessions  *session.Operator
	Ring      *seal.Ring
	Replicas  *session.Announcer
	Token     config.Secret // what /api/ asks for; empty = it is closed
	Hosts     []string      // names by which the listener is reached, besides addresses and localhost
	Events    event.Sink
}

// New makes the operator's handler: GET /healthz and GET /readyz for everyone, /api/ for the operator.
func New(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		web.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", o.ready)
	mux.Handle("/api/", newAPI(o))
	return mux
}

// readiness is the body of /readyz.
type readiness struct {
	Status    string            `json:"status"` // ok | degraded | unavailable | draining
	Store     string            `json:"store"`
	Feed      string            `json:"feed"` // ok | broken | none
	Keys      string            `json:"keys"`
	Providers map[string]string `json:"providers"`
	Upstreams map[string]string `json:"upstreams,omitempty"` // only those that are left out
}

// ready answers 200 while requests can be served. What taking this process out of rotation would not mend degrades,
// and stays ready: a provider that is down (live sessions go on), an upstream's address that is left out (others serve),
// a change feed that is broken (every request asks the
// store, slower and no less right), a key that another replica seals with and this one lacks (it may be the other
// one's mistake, and must not end the service of all).
func (o Options) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	answer := readiness{Status: "ok", Store: "ok", Feed: o.Feed.Standing(), Keys: "ok", Providers: map[string]string{}}
	for name, check := range o.Providers {
		answer.Providers[name] = "ok"
		if err := check(); err != nil {
			answer.Providers[name], answer.Status = err.Error(), "degraded"
		}
	}
	if o.Upstreams != nil {
		if answer.Upstreams = o.Upstreams(); len(answer.Upstreams) > 0 {
			answer.Status = "degraded"
		}
	}
	if answer.Feed == session.FeedBroken {
		answer.Status = "degraded"
	}
	if err := o.Keys(); err != nil {
		answer.Keys, answer.Status = err.Error(), "degraded"
	}
	status := http.StatusOK
	if err := o.Store.Ping(ctx); err != nil {
		answer.Store, answer.Status, status = err.Error(), "unavailable", http.StatusServiceUnavailable
	}
	if o.Draining != nil && o.Draining() {
		answer.Status, status = "draining", http.StatusServiceUnavailable
	}
	web.WriteJSON(w, status, answer)
}
