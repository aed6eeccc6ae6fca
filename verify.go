package cloakroom

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/proxy"
	"github.com/cloakroom/cloakroom/internal/web"
)

// Verify is the handler that other proxies ask about each request to a route with forward_auth (nginx auth_request,
// Traefik, Caddy, HAProxy, Envoy): docs/forward-auth.md. Its answers hold access tokens: serve it on a listener that
// nobody but those proxies can reach, never below the public one.
func (h *Handler) Verify() http.Handler { return http.HandlerFunc(h.verify) }

func (h *Handler) verify(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	rec := &recorder{ResponseWriter: w}
	q, problem := h.question(r)
	if q.Request == nil {
		q.Request = r
	}
	info := web.NewInfo(q.Request, h.trusted)
	var f *frontend
	if problem == nil {
		info.Host, info.Scheme, info.Proxied = strings.ToLower(q.Request.Host), q.Scheme, true
		f = h.find(info)
	}
	q.Request = web.WithInfo(q.Request, info)
	v := &verdict{ResponseWriter: rec, narrow: q.Narrow, info: info}
	defer func() {
		if p := recover(); p != nil {
			info.Cause = fmt.Errorf("panic: %v", p)
			if rec.status != 0 {
				panic(http.ErrAbortHandler) // an answer that is cut off is no yes
			}
			v.refuse(q.Request, web.NewProblem(web.CodeInternal, "The operator's log says more under this request_id.").Because(info.Cause))
		}
		h.report(q.Request, f, rec, time.Since(began))
	}()
	switch {
	case problem != nil:
		v.refuse(q.Request, problem)
	case f == nil:
		v.refuse(q.Request, wrongHost(q.Request))
	default:
		v.origin = f.url
		f.verify(v, q)
	}
}

// question reads what a proxy asks, if it may.
func (h *Handler) question(r *http.Request) (proxy.Question, *web.Problem) {
	if token := h.asking.Reveal(); token != "" {
		given := r.Header.Get("X-Cloakroom-Verify")
		if subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
			q, _ := proxy.Ask(r)
			return proxy.Question{Narrow: q.Narrow}, web.NewProblem(web.CodeVerifyToken, "The proxy in front must send verify.token in the header X-Cloakroom-Verify.")
		}
	}
	return proxy.Ask(r)
}

// verify judges a request to this frontend as the public listener would.
func (f *frontend) verify(v *verdict, q proxy.Question) {
	r := q.Request
	path, problem := proxy.CanonicalPath(r)
	switch {
	case f.secure && q.Scheme == "http":
		f.toHTTPS(v, r)
	case problem != nil:
		problem.Write(v, r)
	case path == "/auth" || strings.HasPrefix(path, "/auth/"):
		v.refuse(r, web.NewProblem(web.CodeNotFound, "What is below /auth/ is Cloakroom's own: the proxy in front must send it to the public listener."))
	default:
		f.proxy.Verify(v, q, path)
	}
}

// verdict is an answer to a proxy. It holds to what must be true of every such answer, whatever room writes it: only
// an answer with the token's headers is a yes, addresses are whole, because some proxies read them relative to the
// listener, and no cache keeps anything.
type verdict struct {
	http.ResponseWriter
	info   *web.Info
	origin string // the frontend's
	narrow bool   // nothing but 200, 401 and 403
	begun  bool
}

func (v *verdict) refuse(r *http.Request, p *web.Problem) { p.Write(v, r) }

func (v *verdict) WriteHeader(status int) {
	if v.begun || status < http.StatusOK {
		return
	}
	v.begun = true
	h := v.Header()
	h["Cache-Control"] = []string{"no-store"}
	if _, yes := h["X-Auth-User"]; !yes && status < http.StatusMultipleChoices {
		status = http.StatusUnauthorized // the page that loads itself again: 200 for a browser, but no yes
		if v.info.Code == "" {
			v.info.Code = web.CodeSessionRequired
		}
	}
	if status >= http.StatusMultipleChoices {
		for _, name := range proxy.Identity {
			delete(h, name)
		}
	}
	if location := h.Get("Location"); strings.HasPrefix(location, "/") {
		h.Set("Location", v.origin+location)
	}
	if v.info.Code != "" {
		h["X-Cloakroom-Code"] = []string{v.info.Code}
	}
	if v.narrow {
		status = v.narrowed(status)
	}
	v.ResponseWriter.WriteHeader(status)
}

// narrowed is a status that nginx passes on. Any other would be 500 there.
func (v *verdict) narrowed(status int) int {
	h := v.Header()
	if location := h.Get("Location"); location != "" {
		h.Del("Location")
		h.Set("X-Cloakroom-Location", location)
		return http.StatusUnauthorized
	}
	switch status {
	case http.StatusOK, http.StatusUnauthorized:
		return status
	}
	return http.StatusForbidden
}

func (v *verdict) Write(b []byte) (int, error) {
	if !v.begun {
		v.WriteHeader(http.StatusOK)
	}
	return v.ResponseWriter.Write(b)
}
