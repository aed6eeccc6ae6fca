package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// api is everything under /api/. Each request passes three checks before it is looked at: the Host, against names that
// strangers point at this listener; the guard, against pages of other sites; the token.
type api struct {
	Options
	token [sha256.Size]byte // of the token: compared by hash, so that not even its length shows
	table map[string]map[string]answerer
	busy  chan struct{} // holds one: what reads the whole store runs once at a time
}

// answerer answers a request that passed. It returns the problem instead of writing it.
type answerer func(w http.ResponseWriter, r *http.Request) *web.Problem

func newAPI(o Options) *api {
	a := &api{Options: o, token: sha256.Sum256([]byte(o.Token.Reveal())), busy: make(chan struct{}, 1)}
	a.table = map[string]map[string]answerer{
		"/api/sessions":    {"GET": a.list, "DELETE": a.endMany},
		"/api/sessions/":   {"GET": a.show, "DELETE": a.endOne},
		"/api/keys":        {"GET": a.keys},
		"/api/keys/rewrap": {"POST": a.rewrap},
	}
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = web.WithInfo(r, web.NewInfo(r, nil))
	problem := a.admit(w, r)
	if problem == nil {
		problem = a.answer(w, r)
	}
	if problem != nil {
		problem.Write(w, r)
	}
}

// admit decides whether the request is the operator's.
func (a *api) admit(w http.ResponseWriter, r *http.Request) *web.Problem {
	switch {
	case !a.known(r.Host):
		return web.NewProblem(web.CodeWrongHost, "Reach this listener by its address or as localhost, or name the host in admin.hosts.")
	case !guard(r):
		a.refused(r, "a page of another site")
		return web.NewProblem(web.CodeCrossOrigin, "A page of another site sent this.")
	case a.Token.Empty():
		return web.NewProblem(web.CodeAPIClosed, "No token is configured. Set admin.token; `cloakroom serve` makes one itself.")
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given := sha256.Sum256([]byte(token))
	if strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(given[:], a.token[:]) == 1 {
		return nil
	}
	challenge := `Bearer realm="cloakroom"` // RFC 6750 section 3
	if r.Header.Get("Authorization") != "" {
		challenge += `, error="invalid_token"`
		a.refused(r, "a wrong token")
	}
	w.Header().Set("WWW-Authenticate", challenge)
	return web.NewProblem(web.CodeTokenRequired, "Send the operator's token: `Authorization: Bearer …`.")
}

func (a *api) refused(r *http.Request, why string) {
	info := web.InfoOf(r)
	a.Events.Emit(&event.Audit{Time: time.Now(), Kind: event.AdminRefused, RequestID: info.ID, Client: info.Client.String(), Reason: why})
}

// known reports whether a Host is one that only the operator's own clients use. A page can make its own name lead here
// (DNS rebinding), but not an address or localhost.
func (a *api) known(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if _, err := netip.ParseAddr(name); err == nil || name == "localhost" {
		return true
	}
	return slices.ContainsFunc(a.Hosts, func(h string) bool { return strings.EqualFold(h, name) })
}

// guard keeps out what a page of another site makes a browser send. Programs send neither of the two headers.
func guard(r *http.Request) bool {
	switch site := r.Header.Values("Sec-Fetch-Site"); {
	case len(site) > 0:
		return len(site) == 1 && (site[0] == "same-origin" || site[0] == "none" && r.Method == http.MethodGet)
	case len(r.Header.Values("Origin")) > 0:
		origin := r.Header.Get("Origin")
		return origin == "http://"+r.Host || origin == "https://"+r.Host
	}
	return true
}

// answer finds who answers.
func (a *api) answer(w http.ResponseWriter, r *http.Request) *web.Problem {
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, "/api/sessions/"); ok && rest != "" && !strings.Contains(rest, "/") {
		path = "/api/sessions/"
	} else if ok {
		path = ""
	}
	methods := a.table[path]
	if methods == nil {
		return web.NewProblem(web.CodeNotFound, "docs/admin.md lists the addresses.")
	}
	if serve := methods[r.Method]; serve != nil {
		return serve(w, r)
	}
	var allowed []string
	for m := range methods {
		allowed = append(allowed, m)
	}
	slices.Sort(allowed)
	problem := web.NewProblem(web.CodeMethodNotAllowed, "This address takes "+strings.Join(allowed, ", ")+".")
	problem.Allow = strings.Join(allowed, ", ")
	return problem
}

// problemOf is what the operator is told of an error.
func problemOf(err error) *web.Problem {
	var u *session.Unavailable
	switch {
	case errors.Is(err, session.ErrEnded):
		return web.NewProblem(web.CodeNotFound, "There is no session with this id.")
	case errors.Is(err, session.ErrFilter), errors.Is(err, session.ErrCursor):
		return web.NewProblem(web.CodeInvalidRequest, strings.TrimPrefix(err.Error(), "session: ")+".")
	case errors.As(err, &u):
		return web.NewProblem(web.CodeStoreUnavailable, u.Error()).Because(err).After(max(u.RetryAfter, time.Second))
	}
	return web.NewProblem(web.CodeInternal, "").Because(err)
}
