package proxy

import (
	"slices"
	"testing"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/gate"
)

// matcher is a proxy that knows its routes and no more.
func matcher(routes ...config.Route) *Proxy {
	p := &Proxy{}
	for _, r := range routes {
		p.routes = append(p.routes, &route{Route: r, need: gate.RequirementOf(r), session: r.Session != "none"})
	}
	p.guard()
	return p
}

func TestMatch(t *testing.T) {
	const up, other = "http://up:1", "http://other:1"
	p := matcher(
		config.Route{Path: "/a/open/", Upstream: up, Session: "none"},
		config.Route{Path: "/a/", Upstream: up},
		config.Route{Path: "/one", Upstream: up},
		config.Route{Path: "/get/", Upstream: up, Session: "none", Methods: []string{"GET"}},
		config.Route{Path: "/büro x/", Upstream: up},
		config.Route{Path: "/elsewhere/", Upstream: other},
		config.Route{Path: "/several/", Upstreams: []string{other, up + "/"}},
		config.Route{Path: "/files/", Files: "x", Session: "none"},
		config.Route{Path: "/", Upstream: up, Session: "none"},
	)
	for path, want := range map[string]string{
		"/": "/", "/x": "/", "/a/": "/a/", "/a/x": "/a/", "/a/open/x": "/a/open/", "/a/OPEN/x": "/a/", "/one": "/one", "/get/x": "/get/", "/b%C3%BCro%20x/": "/büro x/", "/b%c3%bcro%20x/y": "/büro x/",
		"/elsewhere/x": "/elsewhere/", "/ELSEWHERE/x": "/", "/elsewhere": "/", "/files/x": "/files/", "/FILES/x": "/", "/ab": "/", "/ones": "/", "/one/x": "/", "/x/a/": "/", "/a!/": "/",
		// other spellings of what is guarded
		"/a": "", "/A": "", "/A/x": "", "/a;x/y": "", "/a%3Bx/y": "", "/a./x": "", "/a%20/x": "", "/a%20%20./x": "", "/A/open/x": "", "/ONE": "", "/one/": "", "/one;x": "", "/One;/": "",
		"/Several/x": "", "/GET/x": "", "/get": "", "/B%C3%9Cro%20x/": "", "/b%C3%BCro%20x": "", "/b%C3%BCro%20x%20/y": "",
	} {
		got := ""
		if rt := p.match(path); rt != nil {
			got = rt.Path
		}
		if got != want {
			t.Errorf("%s: route %q, want %q", path, got, want)
		}
		if problem := p.unmatched(path); got == "" && problem.Status != 400 {
			t.Errorf("%s: %v", path, problem)
		}
	}
	if n := testing.AllocsPerRun(100, func() { p.match("/one"); p.match("/a/x") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestBelow(t *testing.T) {
	rt := &route{Route: config.Route{Path: "/büro/x/"}}
	for path, want := range map[string]string{"/b%C3%BCro/x/": "/", "/b%c3%bcro/x/y/%20": "/y/%20"} {
		if got := rt.below(path); !rt.takes(path) || got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// FuzzMatch: two spellings of one path have one route, or one of them has none.
func FuzzMatch(f *testing.F) {
	p := matcher(config.Route{Path: "/a/b/", Upstream: "http://up"}, config.Route{Path: "/ü", Upstream: "http://up"}, config.Route{Path: "/", Upstream: "http://up", Session: "none"})
	for _, path := range slices.Concat(ambiguous, []string{"/a/b/c", "/A/b", "/a;x/b/", "/%C3%BC", "/%c3%bc/", "/a!/b"}) {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if pathFault(path) != "" {
			return
		}
		rt := p.match(path)
		if rt == nil || rt.session {
			return
		}
		folded := fold(path)
		if fold(folded) != folded && pathFault(folded) == "" {
			t.Fatalf("%q folds to %q, and that to %q", path, folded, fold(folded))
		}
		if folded == "/a/b" || len(folded) > 4 && folded[:5] == "/a/b/" || folded == "/ü" {
			t.Fatalf("%q is %q, and open", path, folded)
		}
	})
}
