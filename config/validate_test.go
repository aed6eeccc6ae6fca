package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// embedded is the smallest configuration of an embedder.
func embedded() Config {
	return Config{Frontends: []Frontend{{
		URL:       "https://app.example.com",
		Providers: []Provider{{Issuer: "https://op.example.com/", ClientID: "app", ClientSecret: NewSecret("hunter2")}},
		Routes:    []Route{{Path: "/", Upstream: "http://127.0.0.1:8080"}},
	}}}
}

// What only a struct can hold: in a file it is refused before.
var structCases = []struct {
	change  func(*Config)
	problem string
}{
	{func(c *Config) { c.Frontends = nil }, "frontends: frontends is empty, name at least one app with its url, providers and routes"},
	{func(c *Config) { c.Cache = -1 }, "cache: cache is below zero, write a size like 64MiB"},
	{func(c *Config) { c.TrustedProxies = []netip.Prefix{{}} }, "trusted_proxies[0]: trusted_proxies[0] is no address range, write a CIDR range like 10.0.0.0/8"},
	{func(c *Config) { c.Limits.PerAccount.Burst = 1 }, "limits.per_account: per_account lets nobody in, write a rate like 10/15m"},
	{func(c *Config) { c.Frontends[0].Session.Lifetime = -1 }, "frontends[0].session.lifetime: lifetime is not above zero, write a duration like 30d"},
	{func(c *Config) { c.Frontends[0].Session.IdleTimeout = -1 }, "frontends[0].session.idle_timeout: idle_timeout is not above zero, write a duration like 24h"},
	{func(c *Config) { c.Keys = []Secret{{}} }, "keys[0]: keys[0] is not 32 bytes in base64, make one with `cloakroom keys new`"},
	{func(c *Config) { c.StoreGrace = -1 }, "store_grace: store_grace is below zero or above an hour, write a duration like 30s; it is how late an end may be"},
	{func(c *Config) { c.Frontends[0].Routes[0].Require = &Require{MaxAge: -1} }, "frontends[0].routes[0].require.max_age: max_age is below zero, write a duration like 10m"},
	{connection(Connection{ResponseTimeout: new(Duration(-1))}), "frontends[0].routes[0].connection.response_timeout: response_timeout is below zero, write a duration like 60s, or 0s for any time"},
	{connection(Connection{ConnectTimeout: -1}), "frontends[0].routes[0].connection.connect_timeout: connect_timeout is not above zero, or above 5m, write a duration like 5s"},
	{connection(Connection{MaxIdle: -1}), "frontends[0].routes[0].connection.max_idle: max_idle is below zero, write a number like 512"},
	{connection(Connection{MaxConnections: -1}), "frontends[0].routes[0].connection.max_connections: max_connections is below zero, write a number, or 0 for any"},
	{connection(Connection{Health: &Health{}}), "frontends[0].routes[0].connection.health.path: path is missing, write the path that says whether the service is well, like /healthz"},
	{connection(Connection{Health: &Health{Path: "/", Timeout: -1}}), "frontends[0].routes[0].connection.health.timeout: timeout is not above zero, or above the interval, write a duration like 2s"},
	{func(c *Config) { c.Frontends[0].Providers[0].Issuer = "" }, "frontends[0].providers[0].issuer: issuer is missing, write the provider's URL as its discovery document has it"},
}

func connection(connection Connection) func(*Config) {
	return func(c *Config) { c.Frontends[0].Routes[0].Connection = &connection }
}

func TestValidateStruct(t *testing.T) {
	for _, test := range structCases {
		c := embedded()
		test.change(&c)
		if err := c.Validate(); err == nil || err.Error() != test.problem {
			t.Errorf("got  %v\nwant %s", err, test.problem)
		}
	}
	if err := embedded().Validate(); err != nil {
		t.Errorf("an embedder's smallest configuration: %v", err)
	}
}

// Every rule has a file that breaks it, or a case above: the first words of each problem in the source must be in
// what one of them wants.
func TestEveryRuleIsTested(t *testing.T) {
	var wanted []string
	for _, path := range glob(t, "testdata/bad/*.yaml", 150) {
		wanted = append(wanted, wantOf(t, path))
	}
	for _, c := range structCases {
		wanted = append(wanted, c.problem)
	}
	elsewhere := []string{
		"the file is bigger than 256 KiB", "YAML: the file cannot be read", "has more settings than a configuration can have", "the file has brackets that are not closed",
		"which this user may not read", "which is bigger than 64 KiB", // TestExpand, TestAliasBomb, TestLoadCannotRead, TestDeepNesting
	}
	rules := 0
	for _, literal := range problemLiterals(t) {
		rules++
		if !slices.ContainsFunc(append(wanted, elsewhere...), func(w string) bool { return strings.Contains(w, literal) || strings.Contains(literal, w) }) {
			t.Errorf("no bad file shows %q", literal)
		}
	}
	if rules < 90 {
		t.Errorf("found only %d rules", rules)
	}
}

// problemLiterals are the literals of all problems in the source: the arguments of say, place and syntax, and what
// is in a fault.
func problemLiterals(t *testing.T) []string {
	var found []string
	add := func(args ...ast.Expr) {
		for i, arg := range args {
			literal := ""
			ast.Inspect(arg, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING && literal == "" && i < len(args)-1 {
					literal, _ = strconv.Unquote(l.Value)
				}
				_, call := n.(*ast.CallExpr)
				return !call
			})
			if literal = strings.TrimSpace(literal); len(literal) > 4 {
				found = append(found, literal)
			}
		}
	}
	for _, name := range glob(t, "*.go", 10) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"say", "place", "syntax"}, s.Sel.Name) {
					add(n.Args...)
				}
			case *ast.CompositeLit:
				if id, ok := n.Type.(*ast.Ident); ok && id.Name == "fault" {
					add(n.Elts...)
				}
			}
			return true
		})
	}
	return found
}

func TestDefaults(t *testing.T) {
	c := embedded().WithDefaults()
	if c.Listen != "" || c.Admin.Listen != "" || c.Store != "" {
		t.Errorf("an embedder got a listener or a store: %q %q %q", c.Listen, c.Admin.Listen, c.Store)
	}
	f := c.Frontends[0]
	got := []any{
		int64(c.Cache), c.Limits.PerAccount.String(), c.Limits.PerAddress.String(), c.Log, f.Session, f.Providers[0].Name, f.Providers[0].Profile,
		f.Providers[0].Scopes, f.Providers[0].RefreshReuse, f.Routes[0].Session, f.Routes[0].Token, f.Routes[0].Name, f.HasLoginPage(), f.Providers[0].HasRedirectLogin(),
	}
	want := []any{
		int64(64 << 20), "10/15m", "100/15m",
		Log{"all", "json"},
		Session{Duration(24 * time.Hour), Duration(14 * 24 * time.Hour), Duration(30 * 24 * time.Hour), "", "strict"},
		"main", "generic",
		[]string{"openid", "profile", "email", "offline_access"},
		"unknown", "required", "user", "/", true, true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	c = mustParse(t, base)
	if c.Listen != ":8080" || c.Admin.Listen != "127.0.0.1:9080" || c.Store != "file:cloakroom.db" {
		t.Errorf("a file's defaults: %q %q %q", c.Listen, c.Admin.Listen, c.Store)
	}
	if c = mustParse(t, "admin: {listen: \"\"}\n"+base); c.Admin.Listen != "" {
		t.Errorf("no admin listener was wanted, but got %q", c.Admin.Listen)
	}
	c = embedded()
	c.Frontends[0].Session.Lifetime = Duration(time.Hour)
	if s := c.WithDefaults().Frontends[0].Session; s.IdleTimeout != s.Lifetime || s.RememberIdleTimeout != s.Lifetime {
		t.Errorf("default idle time-outs above the lifetime: %v", s)
	}
}

func TestRouteDefaults(t *testing.T) {
	for _, c := range []struct {
		in             Route
		session, token string
	}{
		{Route{Upstream: "u"}, "required", "user"},
		{Route{Upstream: "u", Session: "optional"}, "optional", "user"},
		{Route{Upstream: "u", Session: "none"}, "none", "none"},
		{Route{Upstream: "u", Token: "none"}, "required", "none"},
		{Route{Files: "f"}, "none", "none"},
		{Route{Files: "f", Session: "required"}, "required", "none"},
	} {
		if got := c.in.withDefaults(); got.Session != c.session || got.Token != c.token {
			t.Errorf("%+v: got %s and %s, want %s and %s", c.in, got.Session, got.Token, c.session, c.token)
		}
	}
}

// The defaults in the comments are those of the code: writing one out changes nothing.
func TestDocumentedDefaults(t *testing.T) {
	smallest := mustParse(t, base)
	tried := 0
	walkSettings(reflect.TypeFor[Config](), "", func(s setting) {
		value, ok := strings.CutPrefix(docs[s.id].value, "`")
		value, _, closed := strings.Cut(value, "`")
		if !ok || !closed || strings.HasPrefix(s.path, "tls") {
			return
		}
		tried++
		want := smallest
		steps := strings.Split(strings.ReplaceAll(s.path, "[]", ""), ".")
		last := steps[len(steps)-1]
		line := last + ": " + value
		text := base
		switch path := strings.Join(steps[:len(steps)-1], "."); path {
		case "":
			text = line + "\n" + text
		case "frontends":
			text = strings.Replace(text, "    providers", "    "+line+"\n    providers", 1)
		case "frontends.page":
			text = strings.Replace(text, "    providers", "    page: {"+line+"}\n    providers", 1)
		case "frontends.session":
			text = strings.Replace(text, "    providers", "    session: {"+line+"}\n    providers", 1)
		case "frontends.providers":
			text = strings.Replace(text, "{issuer", "{"+line+", issuer", 1)
		case "frontends.routes":
			text = strings.Replace(text, "{path", "{"+line+", path", 1)
		case "frontends.routes.connection":
			text = strings.Replace(text, "{path", "{connection: {"+line+"}, path", 1)
		case "frontends.routes.connection.health":
			text = strings.Replace(text, "{path", "{connection: {health: {path: /healthz, "+line+"}}, path", 1)
			want = mustParse(t, strings.Replace(base, "{path", "{connection: {health: {path: /healthz}}, path", 1))
		case "frontends.routes.require":
			text = strings.Replace(text, "{path", "{require: {"+line+"}, path", 1)
		default:
			text = path + ": {" + line + "}\n" + text
		}
		got, err := Parse("test.yaml", []byte(text), Lookup{})
		if err != nil {
			t.Errorf("%s: the documented default %s: %v", s.path, value, err)
			return
		}
		empty := cmp.FilterValues(func(a, b []string) bool { return len(a) == 0 && len(b) == 0 }, cmp.Ignore())
		noProxies := cmp.FilterValues(func(a, b []netip.Prefix) bool { return len(a) == 0 && len(b) == 0 }, cmp.Ignore())
		noTexts := cmp.FilterValues(func(a, b []PageText) bool { return len(a) == 0 && len(b) == 0 }, cmp.Ignore())
		truth := cmp.Transformer("truth", func(b *bool) bool { return b == nil || *b })
		if diff := cmp.Diff(want, got, sameSecrets, empty, noTexts, noProxies, truth); diff != "" {
			t.Errorf("%s: the documented default %s is not the default: %s", s.path, value, diff)
		}
	})
	if tried < 25 {
		t.Errorf("only %d defaults tried", tried)
	}
}

// WithDefaults must not write into what the caller holds, nor share it.
func TestWithDefaultsDoesNotAlias(t *testing.T) {
	full := func() Config {
		c := embedded()
		c.TLS = &TLS{"c", "k"}
		c.Keys = []Secret{NewKey()}
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		c.Admin.Hosts = []string{"admin.example.com"}
		f := &c.Frontends[0]
		f.Page.Texts = []PageText{{"de", "log_in", "Einloggen"}}
		f.AllowedOrigins, f.LoginPage = []string{"https://x.example.com"}, new(true)
		f.Providers[0].Scopes, f.Providers[0].RedirectLogin = []string{"openid"}, new(true)
		f.Routes[0].Methods, f.Routes[0].Scopes, f.Routes[0].Require = []string{"GET"}, []string{"a"}, &Require{ACR: "high"}
		f.Routes[0].Upstreams = []string{"http://127.0.0.1:8081"}
		f.Routes[0].Connection = &Connection{ResponseTimeout: new(Duration(time.Second)), Health: &Health{Path: "/"}}
		return c
	}
	before, key := full(), NewKey()
	before.Keys[0] = key
	c := full()
	c.Keys[0] = key
	d := c.WithDefaults()
	if diff := cmp.Diff(before, c, sameSecrets); diff != "" {
		t.Errorf("WithDefaults changed its receiver: %s", diff)
	}
	shared(t, "Config", reflect.ValueOf(c), reflect.ValueOf(d))
}

// shared fails for each pointer and list that two values have in common.
func shared(t *testing.T, path string, a, b reflect.Value) {
	if a.Type() == reflect.TypeFor[Secret]() || a.Type() == reflect.TypeFor[netip.Prefix]() {
		return // immutable
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Slice:
		if a.IsNil() {
			t.Errorf("%s is nil: the test does not cover it", path)
			return
		}
		if a.Pointer() == b.Pointer() {
			t.Errorf("%s is shared", path)
		}
		if a.Kind() == reflect.Pointer {
			shared(t, path, a.Elem(), b.Elem())
			return
		}
		for i := range a.Len() {
			shared(t, path+"[]", a.Index(i), b.Index(i))
		}
	case reflect.Struct:
		for i := range a.NumField() {
			shared(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	default:
	}
}

func TestRouteShadows(t *testing.T) {
	for _, c := range []struct {
		earlier, later Route
		want           bool
	}{
		{Route{Path: "/"}, Route{Path: "/api/"}, true},
		{Route{Path: "/api/"}, Route{Path: "/api/"}, true},
		{Route{Path: "/api/"}, Route{Path: "/api"}, false},
		{Route{Path: "/api"}, Route{Path: "/api/"}, false},
		{Route{Path: "/api"}, Route{Path: "/api/x"}, false},
		{Route{Path: "/api/"}, Route{Path: "/"}, false},
		{Route{Path: "/api/"}, Route{Path: "/apis/"}, false},
		{Route{Path: "/", Methods: []string{"GET"}}, Route{Path: "/a", Methods: []string{"POST"}}, true},
		{Route{Path: "/"}, Route{Path: "/a", Methods: []string{"POST"}}, true},
	} {
		if got := c.earlier.shadows(c.later); got != c.want {
			t.Errorf("%v before %v: %v", c.earlier, c.later, got)
		}
	}
}
