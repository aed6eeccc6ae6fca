package proxy

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/web"
)

// target is the address of the outgoing request. Scheme and host are the upstream's, which is chosen when it is sent.
func (p *Proxy) target(rt *route, s *sending) *url.URL {
	path := s.path
	if rt.StripPrefix {
		path = rt.below(path)
	}
	s.url = url.URL{RawQuery: s.in.URL.RawQuery, ForceQuery: s.in.URL.ForceQuery}
	setPath(&s.url, rt.base+path)
	return &s.url
}

// setPath sets a path whose escaped form goes out byte for byte. Without RawPath net/url would choose escapes of
// its own.
func setPath(u *url.URL, escaped string) {
	u.Path = escaped
	if plainOnly(escaped) {
		return
	}
	if plain, err := url.PathUnescape(escaped); err == nil {
		u.Path, u.RawPath = plain, escaped
	}
	if u.EscapedPath() != escaped {
		u.Opaque = escaped // characters such as "|", which browsers send and net/url would escape
	}
}

// plainOnly reports whether a path has nothing that could be escaped in two ways.
func plainOnly(path string) bool {
	for i := range len(path) {
		c := path[i]
		if c != '/' && c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// header is the outgoing header: the end-to-end headers of the incoming one without what is ours, what a client
// could lie with, and what its Connection header names; plus the token and where the request came from.
func (p *Proxy) header(rt *route, s *sending) http.Header {
	in := s.in.Header
	out := make(http.Header, len(in)+6)
	named := connectionNames(in)
	for name, values := range in {
		if !harmless[name] && !p.passes(rt, name) || named != nil && named[name] {
			continue
		}
		out[name] = values
	}
	if cookies, ok := in["Cookie"]; ok {
		delete(out, "Cookie")
		if rest := p.foreignCookies(cookies); rest != "" {
			s.set(out, "Cookie", rest)
		}
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = noAgent
	}
	if upgrade := in.Get("Upgrade"); upgrade != "" && strings.EqualFold(upgrade, "websocket") && hasToken(in["Connection"], "upgrade") {
		out["Connection"], out["Upgrade"] = []string{"Upgrade"}, []string{upgrade}
	}
	if hasToken(in["Te"], "trailers") {
		out["Te"] = []string{"trailers"}
	}
	p.origin(out, s)
	if rt.token() && s.pass.Token.Value != "" {
		s.set(out, "Authorization", bearer(s.pass))
	}
	return out
}

// harmless are headers of most requests, which passes lets go on at every route (TestHarmless): to look them up is
// cheaper. Cookies are not among them.
var harmless = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Accept-Language": true, "Cache-Control": true, "Content-Type": true, "Origin": true,
	"Pragma": true, "Referer": true, "User-Agent": true, "If-None-Match": true, "If-Modified-Since": true, "Range": true, "Dnt": true,
	"Sec-Fetch-Site": true, "Sec-Fetch-Mode": true, "Sec-Fetch-Dest": true, "Sec-Fetch-User": true, "Sec-Ch-Ua": true,
	"Sec-Ch-Ua-Mobile": true, "Sec-Ch-Ua-Platform": true, "Priority": true, "Traceparent": true, "Tracestate": true,
}

// noAgent keeps net/http from naming itself.
var noAgent = []string{""}

// set puts a value of this request's own into a header. The slices share one array, which is a part of s.
func (s *sending) set(h http.Header, name, value string) {
	if s.used == len(s.values) {
		h[name] = []string{value}
		return
	}
	s.values[s.used] = value
	h[name] = s.values[s.used : s.used+1 : s.used+1]
	s.used++
}

// setToken puts the access token in.
func setToken(h http.Header, pass gate.Pass) {
	h["Authorization"] = []string{bearer(pass)}
}

func bearer(pass gate.Pass) string {
	if pass.Token.Header != "" {
		return pass.Token.Header
	}
	return "Bearer " + pass.Token.Value
}

// origin says where the request came from, in our words only.
func (p *Proxy) origin(out http.Header, s *sending) {
	info := web.InfoOf(s.in)
	if info == nil {
		return
	}
	client := info.ClientText()
	s.set(out, "X-Forwarded-For", client)
	out["X-Forwarded-Proto"], out["X-Forwarded-Host"] = p.xProto, p.xHost
	before, after := "for=", p.forwarded
	if info.Client.Is6() {
		before, after = `for="[`, `]"`+after
	}
	s.set(out, "Forwarded", before+client+after)
}

// hopByHop are headers of one connection (RFC 9110 section 7.6.1), in an answer.
var hopByHop = setOf("Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade")

// liars are headers that tell an upstream who asks, from where, or what for. Only we say that. They are compared
// without case and with every character that is no letter and no digit read as "-": CGI and what came after it make
// one variable of them all. Those of one connection (RFC 9110 section 7.6.1) and of framing are the transport's.
var liars = map[string]bool{
	"connection": true, "proxy-connection": true, "keep-alive": true, "proxy-authenticate": true, "proxy-authorization": true, "te": true,
	"trailer": true, "transfer-encoding": true, "upgrade": true, "http2-settings": true, "content-length": true,
	"forwarded": true, "x-http-method": true, "x-http-method-override": true, "x-method-override": true, "x-rewrite-url": true,
	"x-host": true, "x-http-host-override": true, "x-url-scheme": true, "x-scheme": true, "front-end-https": true, "request-uri": true,
	"true-client-ip": true, "cf-connecting-ip": true, "cf-connecting-ipv6": true, "fastly-client-ip": true, "fly-client-ip": true,
	"x-client-ip": true, "x-cluster-client-ip": true, "client-ip": true, "x-azure-clientip": true, "x-azure-socketip": true,
	"x-appengine-user-ip": true, "x-proxyuser-ip": true,
	"x-user": true, "x-username": true, "x-userid": true, "x-userinfo": true, "x-email": true, "x-groups": true, "x-roles": true,
	"x-client-cert": true, "x-middleware-subrequest": true, "cookie2": true, "via": true,
	"proxy": true, // HTTP_PROXY to a CGI program (CVE-2016-5385)
}

// liarsX are what liars begin with after "x-", liarPrefixes what others begin with.
var (
	liarsX = []string{
		"forwarded", "original-", "real-", "auth-", "authenticated-", "user-", "remote-", "proxy-user", "cloakroom", "ssl-", "webauth",
		"amzn-oidc-", "goog-authenticated-user-", "goog-iap-", "ms-client-principal", "pomerium-", "vouch-", "consumer-", "envoy-",
	}
	liarPrefixes = []string{"remote-", "ssl-client-", "cf-access-", "tailscale-user-"}
)

// passes reports whether a header of the client may go on.
func (p *Proxy) passes(rt *route, name string) bool {
	var buf [64]byte
	plain := buf[:min(len(name), len(buf))] // no name that we look for is longer
	for i := range plain {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case (c < 'a' || c > 'z') && (c < '0' || c > '9'):
			c = '-'
		}
		plain[i] = c
	}
	if len(name) <= len(buf) && liars[string(plain)] {
		return false
	}
	if rest, ok := bytes.CutPrefix(plain, []byte("x-")); ok {
		return !beginsWithAny(rest, liarsX)
	}
	if rt.session || rt.token() {
		if s := string(plain); s == "authorization" || s == "dpop" {
			return false
		}
	}
	return !beginsWithAny(plain, liarPrefixes)
}

func beginsWithAny(name []byte, prefixes []string) bool {
	for _, prefix := range prefixes {
		if len(name) >= len(prefix) && string(name[:len(prefix)]) == prefix {
			return true
		}
	}
	return false
}

// connectionNames are the headers that the Connection header names: they are of this connection only.
func connectionNames(h http.Header) map[string]bool {
	var named map[string]bool
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
			if name == "" || name == "Close" || name == "Keep-Alive" || name == "Upgrade" {
				continue
			}
			if named == nil {
				named = map[string]bool{}
			}
			named[name] = true
		}
	}
	return named
}

func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// foreignCookies are the cookies that are not ours, byte for byte.
func (p *Proxy) foreignCookies(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		for line != "" {
			var part string
			part, line, _ = strings.Cut(line, ";")
			part = strings.TrimSpace(part)
			if part == "" || p.holdsOurs(part) {
				continue
			}
			if b.Len() > 0 {
				b.WriteString("; ")
			}
			b.WriteString(part)
		}
	}
	return b.String()
}

// holdsOurs reports whether a server could read one of our cookies in this piece of a Cookie header. Some take a comma
// for a semicolon, or a quoted name for a name.
func (p *Proxy) holdsOurs(part string) bool {
	for piece := range strings.SplitSeq(part, ",") {
		name, _, _ := strings.Cut(strings.TrimLeft(piece, "= \t\""), "=")
		if p.Cookies.Ours(strings.TrimRight(name, " \t\"")) {
			return true
		}
	}
	return false
}
