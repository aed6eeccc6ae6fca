// Package proxy serves a frontend's routes: it matches the canonical path, asks the gate, and forwards a new
// request to the upstream, or serves files.
package proxy

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/upstream"
	"github.com/cloakroom/cloakroom/internal/web"
)

// Gate is what the proxy needs of gate.Gate.
type Gate interface {
	Facts(r *http.Request) gate.Facts
	Decide(ctx context.Context, f gate.Facts, need gate.Requirement) (gate.Pass, *gate.Refusal)
	Renew(ctx context.Context, p gate.Pass) (gate.Pass, bool, error)
	Rejected(p gate.Pass)
	Refuse(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal)
	StepUp(f gate.Facts, s gate.StepUp) *gate.Refusal
	Wanted(f gate.Facts) *gate.Refusal
	Apply(w http.ResponseWriter, p gate.Pass)
}

// Options make a Proxy. All of them belong to one frontend.
type Options struct {
	Routes   []config.Route // completed with their defaults
	Gate     Gate
	Frontend string // its URL
	// Providers are the origins that a silent login in a frame goes to.
	Providers []string
	Cookies   web.Cookies
	Upstreams *upstream.Set // the pools that the routes share with those of other frontends; its maker closes it
	Events    event.Sink
	Page      func(http.ResponseWriter, *http.Request, *web.Problem) // shows a problem to a person
}

// Proxy serves the routes of one frontend.
type Proxy struct {
	Options
	host, scheme string

	xProto, xHost []string // X-Forwarded-Proto and -Host of every request
	forwarded     string   // what follows the client in Forwarded (RFC 7239)

	stall   time.Duration // how long a client may take nothing of an answer
	routes  []*route
	closers []func()
	open    open
}

// New makes a proxy. A route to files whose directory or index is missing is an error.
func New(o Options) (*Proxy, error) {
	u, err := url.Parse(o.Frontend)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{
		Options: o, host: u.Host, scheme: u.Scheme, stall: stallTime,
		xProto: []string{u.Scheme}, xHost: []string{u.Host}, forwarded: `;host="` + u.Host + `";proto=` + u.Scheme,
	}
	for _, r := range o.Routes {
		rt := &route{Route: r, name: r.Name, need: gate.RequirementOf(r), session: r.Session != "none"}
		if rt.name == "" {
			rt.name = r.Path
		}
		if err := p.prepare(rt); err != nil {
			p.Close()
			return nil, fmt.Errorf("route %s: %w", r.Path, err)
		}
		p.routes = append(p.routes, rt)
	}
	p.guard()
	return p, nil
}

// prepare gives the route what serves it.
func (p *Proxy) prepare(rt *route) error {
	if rt.Files != "" {
		f, err := newFiles(rt.Files, rt.ContentSecurityPolicy, p.Providers, rt.session)
		if err != nil {
			return err
		}
		f.refuse = p.refuse
		p.closers = append(p.closers, f.close)
		rt.serve = func(w http.ResponseWriter, r *http.Request, path string, _ gate.Pass) {
			out := &clientWriter{ResponseWriter: w, stall: p.stall}
			defer out.end()
			f.serve(out, r, path, len(path)-len(rt.below(path)))
			p.letGo(w, r)
		}
		return nil
	}
	if rt.ForwardAuth {
		return nil // another proxy does
	}
	addresses := rt.Addresses()
	first, err := config.ParseUpstream(addresses[0])
	if err != nil {
		return err
	}
	pool, err := p.Upstreams.Pool(addresses, rt.Connection.WithDefaults())
	if err != nil {
		return err
	}
	rt.base, rt.serve = first.Path, p.forwarder(rt, pool)
	return nil
}

// Close lets go of files.
func (p *Proxy) Close() {
	for _, c := range p.closers {
		c()
	}
}

// Serve serves one request, whose canonical path is known.
func (p *Proxy) Serve(w http.ResponseWriter, r *http.Request, path string) {
	if r.ProtoMajor == 2 && r.Header[protocol] != nil {
		if w, r = asUpgrade(w, r); r.Header[protocol] != nil {
			p.refuse(w, r, web.NewProblem(web.CodeMethodNotAllowed, "The only other protocol here is websocket."))
			return
		}
	}
	rt, pass, refusal := p.judge(r, path, false)
	if _, ok := w.(*tunnel); ok && refusal == nil && rt.Files != "" {
		refusal = &gate.Refusal{Problem: rt.refuseMethod()}
	}
	if refusal != nil {
		p.deny(w, r, refusal)
		return
	}
	p.Gate.Apply(w, pass)
	rt.serve(w, r, path, pass)
}

// judge finds the route of a request and asks the gate. elsewhere says that another proxy serves the request; each
// route answers in one of the two ways only.
func (p *Proxy) judge(r *http.Request, path string, elsewhere bool) (*route, gate.Pass, *gate.Refusal) {
	rt := p.match(path)
	if rt == nil || rt.ForwardAuth != elsewhere {
		return nil, gate.Pass{}, &gate.Refusal{Problem: p.unmatched(path)}
	}
	if info := web.InfoOf(r); info != nil {
		info.Route = rt.name
	}
	if !rt.allows(r.Method) {
		return nil, gate.Pass{}, &gate.Refusal{Problem: rt.refuseMethod()}
	}
	pass, refusal := p.Gate.Decide(r.Context(), p.Gate.Facts(r), rt.need)
	return rt, pass, refusal
}

func (p *Proxy) refuse(w http.ResponseWriter, r *http.Request, problem *web.Problem) {
	p.deny(w, r, &gate.Refusal{Problem: problem})
}

// deny answers a request to us. A proxy that asks gets no 200 for a no, so [Proxy.Verify] has an answer of its own.
func (p *Proxy) deny(w http.ResponseWriter, r *http.Request, refusal *gate.Refusal) {
	refusal.GRPC = web.IsGRPC(r)
	p.Gate.Refuse(w, r, refusal)
}
