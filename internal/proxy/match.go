package proxy

import (
	"net/http"
	"slices"
	"strings"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// route is one configured route, ready to serve.
type route struct {
	config.Route
	name    string
	need    gate.Requirement
	session bool // answers may be of one user
	serve   func(w http.ResponseWriter, r *http.Request, path string, pass gate.Pass)
}

// match returns the first route for this path; prefix if it ends in "/", exact otherwise.
func (p *Proxy) match(path string) *route {
	for _, rt := range p.routes {
		if rt.Path == path || strings.HasSuffix(rt.Path, "/") && strings.HasPrefix(path, rt.Path) {
			return rt
		}
	}
	return nil
}

// token reports whether the upstream gets an access token.
func (rt *route) token() bool { return rt.need.Token.Kind != session.NoToken }

// allows reports whether the method is listed; nothing listed is all. HEAD comes with GET.
func (rt *route) allows(method string) bool {
	if method == http.MethodConnect || method == http.MethodTrace {
		return false
	}
	methods := rt.Methods
	return len(methods) == 0 || slices.Contains(methods, method) || method == http.MethodHead && slices.Contains(methods, http.MethodGet)
}

func (rt *route) refuseMethod() *web.Problem {
	list := strings.Join(rt.Methods, ", ")
	if list == "" {
		list = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	}
	problem := web.NewProblem(web.CodeMethodNotAllowed, "This address takes "+list+".")
	problem.Allow = list
	return problem
}
