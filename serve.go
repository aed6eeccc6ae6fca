package cloakroom

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/proxy"
	"github.com/cloakroom/cloakroom/internal/web"
)

// ServeHTTP answers everything of the configured frontends: /auth/, then their routes.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.observed(w, r, func(w http.ResponseWriter, r *http.Request, f *frontend) {
		path, problem := proxy.CanonicalPath(r)
		switch {
		case problem != nil && web.IsGRPC(r):
			problem.WriteGRPC(w, r)
		case problem != nil:
			problem.Write(w, r)
		case path == "/auth" || strings.HasPrefix(path, "/auth/"):
			f.auth(w, r, path)
		default:
			f.proxy.Serve(w, r, path)
		}
	})
}

// observed does what every request gets: its info, its frontend, the last-resort recovery, its one event.
func (h *Handler) observed(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *http.Request, *frontend)) {
	began := time.Now()
	info := web.NewInfo(r, h.trusted)
	r = web.WithInfo(r, info)
	rec := &recorder{ResponseWriter: w}
	f := h.find(info)
	defer func() {
		p := recover()
		if p != nil && p != http.ErrAbortHandler { //nolint:errorlint // a panic value is compared as it is
			info.Cause = fmt.Errorf("panic: %v", p)
			if rec.status == 0 {
				web.NewProblem(web.CodeInternal, "The operator's log says more under this request_id.").Because(info.Cause).Write(rec, r)
			}
		}
		h.report(r, f, rec, time.Since(began))
		if p != nil && (rec.status != 500 || p == http.ErrAbortHandler) { //nolint:errorlint // as above
			panic(http.ErrAbortHandler) // the answer has begun: only cutting it off tells the client
		}
	}()
	if f == nil {
		wrongHost(r).Write(rec, r)
		return
	}
	if f.secure {
		w.Header().Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
		if info.Proxied && info.Scheme == "http" {
			f.toHTTPS(rec, r)
			return
		}
	}
	if f.gate.CORS(rec, r) {
		return
	}
	serve(rec, r, f)
}

// wrongHost is the answer to a request that is for none of our frontends (RFC 9110 section 15.5.20).
func wrongHost(r *http.Request) *web.Problem {
	if strings.Contains(r.RequestURI, "://") { // absolute-form: a client that takes us for a forward proxy
		return web.NewProblem(web.CodeInvalidPath, "The request target names another host. This is no forward proxy.")
	}
	return web.NewProblem(web.CodeWrongHost, "No frontend of the configuration has this host. Its `url` must be what the browser shows.")
}

// toHTTPS sends people to https and refuses everything else: a redirected API call would have sent its secrets in
// the clear already, and would go on doing so unseen.
func (f *frontend) toHTTPS(w http.ResponseWriter, r *http.Request) {
	if _, problem := proxy.CanonicalPath(r); problem != nil {
		problem.Write(w, r) // "http:.evil.example/" as a target would become a part of the host
		return
	}
	if f.gate.Facts(r).Navigation() {
		http.Redirect(w, r, f.url+r.URL.RequestURI(), http.StatusPermanentRedirect) //nolint:gosec // to our own origin
		return
	}
	web.NewProblem(web.CodeHTTPSRequired, "Use https.").Write(w, r)
}

// auth is the table of our own addresses.
func (f *frontend) auth(w http.ResponseWriter, r *http.Request, path string) {
	web.InfoOf(r).Route = "/auth/"
	if strings.HasPrefix(path, "/auth/assets/") {
		f.pages.Asset(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "same-origin")
	methods := f.table[path]
	if i := strings.LastIndexByte(path, '/'); methods == nil && i+1 < len(path) {
		methods = f.below[path[:i+1]]
	}
	if methods == nil {
		f.gate.Refuse(w, r, notFound())
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	serve := methods[method]
	if serve == nil {
		problem := web.NewProblem(web.CodeMethodNotAllowed, "This address takes "+allow(methods)+".")
		problem.Allow = allow(methods)
		problem.Write(w, r)
		return
	}
	web.Hurry(w, r, web.BodyTime)
	serve(w, r)
}

// callback is GET /auth/callback and /auth/callback/{provider}.
func (f *frontend) callback(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/auth/callback"), "/")
	f.login.Callback(w, r, name)
}

func allow(methods map[string]http.HandlerFunc) string {
	var list []string
	for _, m := range []string{"GET", "POST", "DELETE"} {
		if methods[m] != nil {
			list = append(list, m)
		}
	}
	return strings.Join(list, ", ")
}

// report emits the request's one event.
func (h *Handler) report(r *http.Request, f *frontend, rec *recorder, took time.Duration) {
	if h.events == nil {
		return
	}
	info := web.InfoOf(r)
	e := &event.Request{
		Time: time.Now(), ID: info.ID, Method: r.Method, Path: r.URL.Path, Route: info.Route, Status: rec.status,
		Code: info.Code, Duration: took, Bytes: rec.bytes, Session: info.Session, Client: info.ClientText(),
	}
	if f != nil {
		e.Frontend = f.url
	}
	if info.Cause != nil && !errors.Is(info.Cause, http.ErrAbortHandler) {
		e.Cause = info.Cause.Error()
	}
	h.events.Emit(e)
}

// recorder sees what was answered. Unwrap keeps flushing and hijacking (WebSockets) working.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}
