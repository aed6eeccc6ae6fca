package proxy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

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
	guards  []guarded
	base    string // what comes before the path at the upstream
	serve   func(w http.ResponseWriter, r *http.Request, path string, pass gate.Pass)
}

// match returns the first route for this path; prefix if it ends in "/", exact otherwise. A path that is another
// spelling of one that a stricter route guards has no route.
func (p *Proxy) match(path string) *route {
	for _, rt := range p.routes {
		if rt.takes(path) {
			if rt.disguised(path) {
				return nil
			}
			return rt
		}
	}
	return nil
}

// token reports whether the upstream gets an access token.
func (rt *route) token() bool { return rt.need.Token.Kind != session.NoToken }

// unmatched is the answer to a path without a route.
func (p *Proxy) unmatched(path string) *web.Problem {
	for _, rt := range p.routes {
		if rt.takes(path) && rt.disguised(path) {
			return invalid("some servers take it for one that asks for more")
		}
	}
	return web.NewProblem(web.CodeNotFound, "No route of this app leads there.")
}

// takes reports whether the path is the route's, whatever of it is escaped: a route's path is written decoded.
func (rt *route) takes(path string) bool {
	want := rt.Path
	for i := range len(want) {
		if path == "" {
			return false
		}
		c, n := path[0], 1
		if c == '%' {
			c, _ = escaped(path)
			n = 3
		}
		if c != want[i] {
			return false
		}
		path = path[n:]
	}
	return path == "" || strings.HasSuffix(want, "/")
}

// below is the rest of a path that the route takes, from its last slash on. Slashes are never escaped.
func (rt *route) below(path string) string {
	at := 0
	for range strings.Count(rt.Path, "/") {
		at += strings.IndexByte(path[at:], '/') + 1
	}
	return path[at-1:]
}

// guarded is a path below which a route asks for more than another that leads to the same server.
type guarded struct {
	path  string // folded
	below bool
}

// guard notes for each route what others guard on the same server. Where a server ignores case, cuts parameters off or
// adds a slash, "/ADMIN/", "/admin;x/" and "/admin" would else reach by "/" what "/admin/" guards.
func (p *Proxy) guard() {
	for _, rt := range p.routes {
		for _, other := range p.routes {
			g := guarded{fold(other.Path), strings.HasSuffix(other.Path, "/")}
			if other.stricter(rt) && sameTarget(other.Route, rt.Route) && !g.holds(fold(rt.Path)) {
				rt.guards = append(rt.guards, g)
			}
		}
	}
}

// stricter reports whether rt asks for something that other does not.
func (rt *route) stricter(other *route) bool {
	return rt.need.Session == gate.Required && other.need.Session != gate.Required ||
		rt.need.StepUp != gate.StepUp{} && rt.need.StepUp != other.need.StepUp ||
		len(rt.Methods) > 0 && (len(other.Methods) == 0 || slices.ContainsFunc(other.Methods, func(m string) bool { return !rt.allows(m) }))
}

// sameTarget reports whether two routes lead to the same server, or both to none of ours.
func sameTarget(a, b config.Route) bool {
	to, others := a.Addresses(), b.Addresses()
	if len(to) == 0 || len(others) == 0 {
		return len(to) == len(others) && a.Files == b.Files && a.ForwardAuth == b.ForwardAuth
	}
	return slices.ContainsFunc(to, func(address string) bool {
		return slices.ContainsFunc(others, func(other string) bool { return strings.TrimSuffix(address, "/") == strings.TrimSuffix(other, "/") })
	})
}

// disguised reports whether the path is another spelling of one that a stricter route guards.
func (rt *route) disguised(path string) bool {
	if len(rt.guards) == 0 || rt.Path == path {
		return false
	}
	folded := fold(path)
	return slices.ContainsFunc(rt.guards, func(g guarded) bool { return g.holds(folded) })
}

func (g guarded) holds(folded string) bool {
	rest, ok := strings.CutPrefix(folded, g.path)
	return ok && (rest == "" || g.below && rest[0] == '/')
}

// unfolded reports whether a character is one that fold may change or leave out.
func unfolded(c rune) bool {
	return c == '%' || c == ';' || c == '.' || c == ' ' || 'A' <= c && c <= 'Z' || c >= utf8.RuneSelf
}

// fold spells a canonical path as the most lenient server would read it: decoded, in lower case, its segments without
// parameters and without dots and spaces at their ends, and without a slash at its end.
func fold(path string) string {
	if !strings.ContainsFunc(path, unfolded) {
		return strings.TrimSuffix(path, "/")
	}
	var b strings.Builder
	for segment := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		name, _ := cutParameters(segment)
		if plain, err := url.PathUnescape(name); err == nil {
			name = plain
		}
		b.WriteByte('/')
		b.WriteString(strings.ToLower(strings.TrimRight(name, ". ")))
	}
	return strings.TrimSuffix(b.String(), "/")
}

// allows reports whether the method is listed; nothing listed is all. HEAD comes with GET.
func (rt *route) allows(method string) bool {
	if method == http.MethodConnect || method == http.MethodTrace || strings.ContainsFunc(method, notToken) {
		return false
	}
	methods := rt.Methods
	return len(methods) == 0 || slices.Contains(methods, method) || method == http.MethodHead && slices.Contains(methods, http.MethodGet)
}

// notToken reports whether a character cannot stand in a method (RFC 9110 section 5.6.2): net/http does not look at
// those of HTTP/2 before they would be sent on.
func notToken(c rune) bool {
	return (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
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
