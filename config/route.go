package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Route leads a path to an upstream, to files, or to what stands behind another proxy. Exactly one of `upstream`,
// `upstreams`, `files` and `forward_auth` is given.
type Route struct {
	// The path as people read it, decoded: a prefix if it ends in `/`, exact otherwise. `/auth/` is Cloakroom's own.
	//
	// Required.
	Path string `yaml:"path" rule:"required"`

	// The route's name in logs.
	//
	// Default: the path
	Name string `yaml:"name"`

	// The API or dev server behind this route. It sees a new request without our cookies. `http://HOST` and `https://HOST`
	// are what they always are, `h2c://HOST` is HTTP/2 without TLS, as gRPC servers speak it, `unix:/PATH` is HTTP/1.1 over
	// a Unix socket and `unix+h2c:/PATH` HTTP/2 over one. docs/upstreams.md says more.
	//
	// Default: none
	Upstream string `yaml:"upstream"`

	// Several addresses of one service, each written as `upstream` is, with the same path. A request goes to the less
	// busy of two by chance; an address that fails is left alone for a while.
	//
	// Default: `[]`
	Upstreams []string `yaml:"upstreams"`

	// How the upstream's addresses are connected to.
	//
	// Default: what each of its settings says
	Connection *Connection `yaml:"connection"`

	// The folder with the app's files; its root is the route's path, which ends in `/`. An address of the app's own,
	// without an asset's extension, gets `index.html`; a missing asset is 404. docs/http.md has the rules.
	//
	// Default: none
	Files string `yaml:"files"`

	// What is behind this route is served by another proxy, which asks the `verify` listener about each request
	// (docs/forward-auth.md). On the public listener the route is 404.
	//
	// Default: `false`
	ForwardAuth bool `yaml:"forward_auth"`

	// The Content-Security-Policy of the documents among the files, in place of the default: `default-src 'self';
	// img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; frame-src 'self'` and the
	// providers`; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'`. It decides what a
	// script injection can do; each source that is added may be where one sends what it finds. One without
	// `frame-ancestors` gets `frame-ancestors 'none'`.
	//
	// Default: `""`, the policy above
	ContentSecurityPolicy string `yaml:"content_security_policy"`

	// The methods that pass; others get 405, even if a later route would take them.
	//
	// Default: `[]`, all
	Methods []string `yaml:"methods"`

	// Whether a request needs a session: `required`, `optional` (the token is added if there is one) or `none`
	// (everybody passes).
	//
	// Default: `required` with an upstream or `forward_auth`, `none` with files
	Session string `yaml:"session" words:"required optional none"`

	// What the upstream gets as bearer token: `user` = the user's access token; `exchange` = what the provider gives for
	// it by token exchange (RFC 8693; at Entra ID on-behalf-of); `client` = a token of our own client at the first
	// provider (client credentials), for no user, so whoever may use the route acts with it; `none` = nothing.
	//
	// Default: `user` with a session and an upstream or `forward_auth`, `none` otherwise
	Token string `yaml:"token" words:"user none client exchange"`

	// Whom this route's token is for: `audience` at Auth0 and for `exchange`, `resource` (RFC 8707) elsewhere; at Entra
	// ID the scope `<audience>/.default`. With `user` the session's refresh token is presented for it, under the same
	// guarantee as every refresh (docs/refresh.md); the provider must allow the client that (Auth0: multi-resource
	// refresh tokens).
	//
	// Default: `""`, as the provider's
	Audience string `yaml:"audience"`

	// The scopes of this route's token. With `user` they must be among those that the login asked for, or a refresh is
	// refused (RFC 6749 section 6).
	//
	// Default: `[]`, as the provider's
	Scopes []string `yaml:"scopes"`

	// What this route asks of the login (RFC 9470).
	//
	// Default: nothing
	Require *Require `yaml:"require"`

	// People navigate here: then another site may link to it, and who is not logged in is led to the login page. A
	// GET must have no effect there. Routes with files are pages by nature.
	//
	// Default: `false`
	Pages bool `yaml:"pages"`

	// Whether the upstream sees the path without the route's prefix.
	//
	// Default: `false`
	StripPrefix bool `yaml:"strip_prefix"`

	// Whether the app's scripts may fetch this route's access token, from `/auth/token?route=` and its name, to call the
	// API themselves. Then a script injection may, too: give such a route the fewest scopes that do. A token with more
	// scopes than the route's is not handed out; a refresh token never is.
	//
	// Default: `false`
	TokenToBrowser bool `yaml:"token_to_browser"`

	// Whether the upstream may mark answers as `public` or `s-maxage`. With answers that differ by user, a shared
	// cache shows one user's data to another.
	//
	// Default: `false`
	SharedCache bool `yaml:"shared_cache"`
}

// Require is what a route asks of the login (RFC 9470).
type Require struct {
	// The authentication context class that the login must have reached, as the provider names it; several with spaces
	// between them are alternatives. A login that has not gets 401 `step_up_required`, and the login page asks the
	// provider for it.
	//
	// Default: `""`, any
	ACR string `yaml:"acr"`

	// How long ago the user may have logged in. A longer time gets 401 `step_up_required`.
	//
	// Default: `0s`, any time
	MaxAge Duration `yaml:"max_age"`
}

func (r Route) withDefaults() Route {
	r.Methods = slices.Clone(r.Methods)
	r.Scopes = slices.Clone(r.Scopes)
	r.Upstreams = slices.Clone(r.Upstreams)
	r.Connection = r.Connection.forRoute(len(r.Addresses()) > 0)
	if r.Require = clonePointer(r.Require); r.Require != nil && *r.Require == (Require{}) {
		r.Require = nil // asks nothing
	}
	orDefault(&r.Name, r.Path)
	if r.Session == "" {
		r.Session = "required"
		if r.Files != "" {
			r.Session = "none"
		}
	}
	if r.Token == "" {
		r.Token = "user"
		if r.Files != "" || r.Session == "none" {
			r.Token = "none"
		}
	}
	return r
}

// prefix reports whether the route's path stands for everything below it.
func (r Route) prefix() bool { return strings.HasSuffix(r.Path, "/") }

// shadows reports whether every request for other comes to r first. Methods do not choose a route: one that the first
// match does not list is 405.
func (r Route) shadows(other Route) bool {
	return r.Path == other.Path || r.prefix() && strings.HasPrefix(other.Path, r.Path)
}

func checkRoutes(a at, routes []Route, c Config) {
	if len(routes) == 0 {
		a.say("is empty", "name at least one path with its upstream or files")
	}
	for i, r := range routes {
		item := a.item(i)
		r.check(item, c)
		shadowed := r.Path != "" && slices.ContainsFunc(routes[:i], func(o Route) bool { return o.Path != "" && o.shadows(r) })
		switch {
		case shadowed:
			item.key("path").say("can never match: an earlier route takes it", "put this route before the wider one, or remove it (methods do not choose a route)")
		case r.Name != "" && slices.ContainsFunc(routes[:i], func(o Route) bool { return o.Name == r.Name }):
			item.key("name").say("is the name of an earlier route, too", "give this route a name of its own")
		}
	}
}

func (r Route) check(a at, c Config) {
	if f := pathFault(r.Path); f != nil {
		a.key("path").say(f.problem, f.mend)
	}
	if r.Name != r.Path && (len(r.Name) > 100 || strings.ContainsFunc(r.Name, func(c rune) bool { return !isHostRune(c) && c != '.' && c != '/' })) {
		a.key("name").say("has a character that does not belong into a name", "use letters, digits and . _ - /")
	}
	r.checkMethods(a.key("methods"))
	r.checkRequire(a.key("require"))
	if r.ContentSecurityPolicy != "" && r.Files == "" {
		a.key("content_security_policy").say("is for files, but this route has none", "leave it out: an upstream sends its own")
	}
	addresses := r.Addresses()
	switch {
	case r.ForwardAuth && (len(addresses) > 0 || r.Files != ""):
		a.key("forward_auth").say("stands beside upstream or files", "give a route only one of them")
	case r.ForwardAuth:
		r.checkForwardAuth(a, c)
	case len(addresses) == 0 && r.Files == "":
		a.say("leads nowhere", "give it an upstream, files, or forward_auth: true")
	case len(addresses) > 0 && r.Files != "":
		a.key("files").say("stands beside upstream", "give a route only one of them")
	case r.Upstream != "" && len(r.Upstreams) > 0:
		a.key("upstreams").say("stands beside upstream", "write all addresses in upstreams, or keep one in upstream")
	case len(addresses) > 0:
		r.checkUpstreams(a, c)
		r.checkToken(a)
	default:
		r.checkFiles(a)
	}
}

func (r Route) checkRequire(a at) {
	switch {
	case r.Require == nil:
	case r.Session != "required":
		a.say("asks something of a session that need not be there", "write session: required")
	case strings.ContainsFunc(r.Require.ACR, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }):
		a.key("acr").say("has a character that no class has", "write it as the provider names it")
	case r.Require.MaxAge < 0:
		a.key("max_age").say("is below zero", "write a duration like 10m")
	}
}

// pathFault finds what no canonical path has: such a route could never match, or would match too much.
func pathFault(path string) *fault {
	switch {
	case path == "":
		return &fault{"is missing", "write a path like /api/ or /"}
	case path[0] != '/':
		return &fault{"does not begin with /", "write it from the root, like /api/"}
	case strings.Contains(path, "*"):
		return &fault{"has a wildcard", "end it in / to take everything below it"}
	case strings.ContainsAny(path, `%;\?#`) || strings.ContainsFunc(path, isControl):
		return &fault{`has one of % ; \ ? # or a control character`, "write the decoded path without them"}
	case !canonical(path):
		return &fault{"has an empty, . or .. segment", "write the path that is meant"}
	case strings.HasPrefix(path, "/auth/"):
		return &fault{"is below /auth/, which is Cloakroom's own", "choose another path"}
	}
	return nil
}

func canonical(path string) bool {
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		if s == "." || s == ".." || s == "" && i < len(segments)-1 {
			return false
		}
	}
	return true
}

func (r Route) checkMethods(a at) {
	for i, m := range r.Methods {
		switch {
		case !isToken(m) || strings.ToUpper(m) != m:
			a.item(i).say("is no method", "write it in upper case, like GET")
		case m == "CONNECT" || m == "TRACE":
			a.item(i).say("is never passed on", "leave it out")
		}
	}
	if r.Files != "" && len(r.Addresses()) == 0 && len(r.Methods) > 0 {
		a.say("is for an upstream: files answer GET and HEAD", "leave it out")
	}
}

func (r Route) checkToken(a at) {
	ofUser := r.Token == "user" || r.Token == "exchange"
	targeted := r.Audience != "" || len(r.Scopes) > 0
	switch {
	case r.Session == "none" && ofUser:
		a.key("token").say("is "+r.Token+", but the route has no session to take it from", "write session: optional, or token: none")
	case r.Token == "exchange" && !targeted:
		a.key("token").say("is exchange, and nothing says for what", "name an audience or scopes")
	case r.Token == "none" && targeted:
		a.key("token").say("is none, but the route names an audience or scopes", "write token: user, exchange or client, or leave them out")
	}
	if r.TokenToBrowser && !ofUser {
		a.key("token_to_browser").say("would hand out a token that is not the user's", "write token: user or exchange, or leave it out")
	}
	if strings.ContainsFunc(r.Audience, func(c rune) bool { return c <= ' ' || c > '~' }) {
		a.key("audience").say("has a space or a character that no identifier has", "write it as the API is known to the provider")
	}
	for i, s := range r.Scopes {
		if !isScope(s) {
			a.key("scopes").item(i).say("is no scope", "write one scope per list entry, without spaces and quotes")
		}
	}
	if r.StripPrefix && !r.prefix() {
		a.key("strip_prefix").say("needs a prefix", "end the path in / or leave it out")
	}
}

func (r Route) checkFiles(a at) {
	switch {
	case r.Token != "none":
		a.key("token").say("is for an upstream, but this route has files", "leave it out")
	case r.Audience != "", len(r.Scopes) > 0, r.TokenToBrowser:
		a.say("asks for a token, but this route has files", "leave audience, scopes and token_to_browser out")
	case r.StripPrefix:
		a.key("strip_prefix").say("is for an upstream, but this route has files", "leave it out")
	case r.SharedCache:
		a.key("shared_cache").say("is for an upstream, but this route has files", "leave it out")
	case r.Connection != nil:
		a.key("connection").say("is for an upstream, but this route has files", "leave it out")
	}
	if r.Path != "" && !r.prefix() {
		a.key("path").say("is one address, but files are a folder", "end it in /")
	}
	checkPolicy(a.key("content_security_policy"), r.ContentSecurityPolicy)
	a = a.key("files")
	info, err := os.Stat(r.Files)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		a.say("does not exist", "name the folder of the built app; a relative path begins at the configuration file")
	case err != nil:
		a.say("cannot be read", "let this user read the folder")
	case !info.IsDir():
		a.say("is no folder", "name the folder that holds index.html")
	default:
		if index, err := os.Stat(filepath.Join(r.Files, "index.html")); err != nil || !index.Mode().IsRegular() {
			a.say("has no index.html", "build the app first, or name the folder that holds it")
		}
	}
}

// directive matches the names of a Content-Security-Policy's directives.
var directive = regexp.MustCompile(`(?i)^([a-z]+(-[a-z]+)*-src(-elem|-attr)?|base-uri|form-action|frame-ancestors|sandbox|report-uri|report-to|` +
	`upgrade-insecure-requests|require-trusted-types-for|trusted-types|webrtc)$`)

// checkPolicy refuses what a browser would ignore, which leaves the app without what was meant.
func checkPolicy(a at, policy string) {
	if policy == "" {
		return
	}
	if strings.ContainsFunc(policy, func(c rune) bool { return c < ' ' || c > '~' }) {
		a.say("has a line break, a control character or one beyond ASCII", "write it in one line; a host name in its ASCII form")
		return
	}
	if strings.Contains(policy, ",") {
		a.say("has a comma, which begins a second policy", "divide directives by semicolons and sources by spaces")
		return
	}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(policy, ";") {
		words := strings.Fields(part)
		if len(words) == 0 {
			continue
		}
		name := strings.ToLower(words[0])
		switch {
		case !directive.MatchString(name):
			a.say("has a directive that no browser knows", "write directives like default-src 'self', divided by semicolons")
			return
		case seen[name]:
			a.say("has one directive twice, and browsers ignore the second", "write all of its sources behind the first")
			return
		}
		seen[name] = true
	}
	if len(seen) == 0 {
		a.say("has no directive", "write one like default-src 'self', or leave it out for the default")
	}
}
