package config

import (
	"slices"
	"strings"
)

// Verify is the listener that other proxies ask about each request to a route with `forward_auth`
// (docs/forward-auth.md). Its answers hold access tokens.
type Verify struct {
	// The address of the forward-auth listener, `host:port` or `unix:PATH`; `""` means none. It must be reachable by
	// the proxies alone, since whoever asks it with a user's cookie gets that user's token: an address outside of
	// loopback needs a token. A socket file is made with mode 0660, so the proxy's user belongs into Cloakroom's group.
	//
	// Default: `""`; a program that embeds Cloakroom serves `Handler.Verify()` itself
	Listen string `yaml:"listen"`

	// What proxies present in the header `X-Cloakroom-Verify`, at least 16 characters. Who does not gets 403.
	//
	// Default: none, everyone who reaches the listener may ask
	Token Secret `yaml:"token"`
}

// Socket is the path of the socket file to listen on, if it is one.
func (v Verify) Socket() (path string, ok bool) { return strings.CutPrefix(v.Listen, "unix:") }

func (v Verify) check(a at, c Config) {
	if !v.Token.Empty() && len(v.Token.Reveal()) < minToken {
		a.key("token").say("is short enough to be guessed", "write at least 16 characters by chance, or leave it out")
	}
	if v.Listen == "" {
		return
	}
	a = a.key("listen")
	if !slices.ContainsFunc(c.Frontends, func(f Frontend) bool {
		return slices.ContainsFunc(f.Routes, func(r Route) bool { return r.ForwardAuth })
	}) {
		a.say("has nothing to tell: no route has forward_auth", "write forward_auth: true at the routes that your proxy serves, or leave it out")
	}
	if path, ok := v.Socket(); ok {
		if path == "" || strings.ContainsFunc(path, isControl) || len(path) > maxSocket {
			a.say("names no socket file", "write unix: and a path of at most 90 characters, like unix:/run/cloakroom/verify.sock")
		}
		return
	}
	host, port, ok := splitListen(v.Listen)
	if !ok {
		a.say("is no address to listen on, and no socket file", "write host:port or unix:PATH")
		return
	}
	for _, other := range []struct{ name, address string }{{"public", c.Listen}, {"admin", c.Admin.Listen}} {
		if otherHost, otherPort, ok := splitListen(other.address); ok && port != 0 && port == otherPort && overlaps(host, otherHost) {
			a.say("is the "+other.name+" listener's address, too", "give it a port of its own")
		}
	}
	if !loopbackHost(host) && v.Token.Empty() {
		a.say("hands out tokens and can be reached from outside without one", "listen on 127.0.0.1 or unix:PATH, or set verify.token")
	}
}

// maxSocket is how long a socket's path may be: the system has room for 107 bytes (unix(7)), and it is made under a
// longer name first.
const maxSocket = 90

// checkForwardAuth refuses what only a proxy of ours could do.
func (r Route) checkForwardAuth(a at, c Config) {
	r.checkToken(a)
	switch {
	case r.StripPrefix:
		a.key("strip_prefix").say("is for an upstream, but your own proxy serves this route", "leave it out, and strip the prefix there")
	case r.Connection != nil:
		a.key("connection").say("is for an upstream, but your own proxy serves this route", "leave it out")
	case r.SharedCache:
		a.key("shared_cache").say("is for an upstream, but your own proxy serves this route", "leave it out")
	case c.Listen != "" && c.Verify.Listen == "":
		a.key("forward_auth").say("is asked about at the verify listener, but there is none", "write verify: {listen: 127.0.0.1:9081}")
	}
}
