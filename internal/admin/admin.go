// Package admin is the operator's listener: is the process up, and can it serve?
package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/cloakroom/cloakroom/internal/web"
	"github.com/cloakroom/cloakroom/store"
)

// Options make a Handler.
type Options struct {
	Store     store.Store
	Providers map[string]func() error // by "frontend provider": nil = reachable when last asked
}

// New makes the operator's handler: GET /healthz and GET /readyz.
func New(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		web.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", o.ready)
	return mux
}

// readiness is the body of /readyz.
type readiness struct {
	Status    string            `json:"status"` // ok | degraded | unavailable
	Store     string            `json:"store"`
	Providers map[string]string `json:"providers"`
}

// ready answers 200 while requests can be served. A provider that is down degrades, and stays ready: taking this
// process out of rotation would not bring the provider back, and live sessions go on.
func (o Options) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	answer := readiness{Status: "ok", Store: "ok", Providers: map[string]string{}}
	for name, check := range o.Providers {
		answer.Providers[name] = "ok"
		if err := check(); err != nil {
			answer.Providers[name], answer.Status = err.Error(), "degraded"
		}
	}
	status := http.StatusOK
	if err := o.Store.Ping(ctx); err != nil {
		answer.Store, answer.Status, status = err.Error(), "unavailable", http.StatusServiceUnavailable
	}
	web.WriteJSON(w, status, answer)
}
