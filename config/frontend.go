package config

import (
	"net/url"
	"slices"
	"strings"
)

// Frontend is one app: an origin with its providers and routes.
type Frontend struct {
	// The origin that the browser sees: scheme, host, and the port if it is not the scheme's own. Only `https`,
	// except on loopback, where browsers treat `http` as safe. Cookies, redirects and the guard follow from it.
	//
	// Required.
	URL string `yaml:"url" rule:"required"`

	// Further origins of the same site whose pages may call this frontend with the ticket (CORS with credentials).
	// A script on such an origin can do whatever the app can do.
	//
	// Default: `[]`
	AllowedOrigins []string `yaml:"allowed_origins"`

	// The OpenID providers whose users may log in.
	//
	// Required.
	Providers []Provider `yaml:"providers" rule:"required"`

	// How long sessions live, and their cookie.
	Session Session `yaml:"session"`

	// The built-in page at `/auth/login`. `false` means that the app has its own: then that address leads to the
	// provider's hosted page, or nowhere if there is no redirect login.
	//
	// Default: `true`
	LoginPage *bool `yaml:"login_page"`

	// How the built-in pages look and speak.
	Page Page `yaml:"page"`

	// What is behind Cloakroom, first match first. A path that no route names is 404.
	//
	// Required.
	Routes []Route `yaml:"routes" rule:"required"`
}

// HasLoginPage reports whether /auth/login shows the built-in form.
func (f Frontend) HasLoginPage() bool { return f.LoginPage == nil || *f.LoginPage }

// Secure reports whether the browser speaks https to this frontend.
func (f Frontend) Secure() bool { return strings.HasPrefix(f.URL, "https:") }

// Host is the frontend's host, with its port if that is not the scheme's own: what a browser sends as Host.
func (f Frontend) Host() string {
	u, err := url.Parse(f.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

func (f Frontend) withDefaults() Frontend {
	f.AllowedOrigins = slices.Clone(f.AllowedOrigins)
	f.LoginPage = clonePointer(f.LoginPage)
	f.Session = f.Session.withDefaults()
	f.Page.Texts = slices.Clone(f.Page.Texts)
	f.Providers = slices.Clone(f.Providers)
	for i, p := range f.Providers {
		f.Providers[i] = p.withDefaults(len(f.Providers) == 1)
	}
	f.Routes = slices.Clone(f.Routes)
	for i, r := range f.Routes {
		f.Routes[i] = r.withDefaults()
	}
	return f
}

func checkFrontends(a at, c Config) {
	if len(c.Frontends) == 0 {
		a.say("is empty", "name at least one app with its url, providers and routes")
	}
	for i, f := range c.Frontends {
		item := a.item(i)
		f.check(item, c)
		for _, earlier := range c.Frontends[:i] {
			f.checkBeside(item, earlier)
		}
	}
}

// checkBeside finds what two frontends cannot share.
func (f Frontend) checkBeside(a at, earlier Frontend) {
	mine, fault := parseOrigin(f.URL)
	other, faultThere := parseOrigin(earlier.URL)
	if fault != nil || faultThere != nil || mine.host != other.host {
		return
	}
	switch {
	case mine.hostPort == other.hostPort:
		a.key("url").say("has the same host as an earlier frontend", "give each frontend a host or port of its own")
	// Cookies do not know ports: only the default name on plain http carries one.
	case f.Session.Cookie == earlier.Session.Cookie && (f.Session.Cookie != "" || mine.secure && other.secure):
		a.key("session").key("cookie").say("is the same as that of an earlier frontend on this host, and cookies do not know ports", "give one of them another name")
	}
}

func (f Frontend) check(a at, c Config) {
	self, fault := parseOrigin(f.URL)
	switch {
	case f.URL == "":
		a.key("url").say("is missing", "write the origin that the browser sees, like https://app.example.com")
	case fault != nil:
		a.key("url").say(fault.problem, fault.mend)
	default:
		for i, allowed := range f.AllowedOrigins {
			checkAllowed(a.key("allowed_origins").item(i), allowed, self)
		}
	}
	f.Session.check(a.key("session"), strings.HasPrefix(f.URL, "http:"))
	checkProviders(a.key("providers"), f.Providers)
	f.Page.check(a.key("page"))
	checkRoutes(a.key("routes"), f.Routes, c)
}

func checkAllowed(a at, allowed string, self origin) {
	o, fault := parseOrigin(allowed)
	switch {
	case strings.Contains(allowed, "*"):
		a.say("has a wildcard", "write each origin out")
	case fault != nil:
		a.say(fault.problem, fault.mend)
	case o == self:
		a.say("is the frontend's own url", "leave it out, it is always allowed")
	case !o.sameSite(self):
		a.say("is another site than the frontend, so browsers would not send it the ticket", "put both on one domain, and both on https")
	}
}
