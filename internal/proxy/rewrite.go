package proxy

import (
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/web"
)

// rewrite builds the outgoing request: a new one, into which only what may pass is taken over.
func (p *Proxy) rewrite(rt *route, up *upstream, pr *httputil.ProxyRequest) {
	s := sendingOf(pr.In.Context())
	out := pr.Out
	path := s.path
	if rt.StripPrefix {
		path = path[len(rt.Path)-1:]
	}
	out.URL = &url.URL{Scheme: up.url.Scheme, Host: up.url.Host, RawQuery: s.in.URL.RawQuery, ForceQuery: s.in.URL.ForceQuery}
	setPath(out.URL, single(up.url.EscapedPath(), path))
	out.Host = up.url.Host
	out.Header = p.header(rt, s)
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
		if !p.passes(rt, name) || named != nil && named[name] {
			continue
		}
		out[name] = values
	}
	if cookies, ok := in["Cookie"]; ok {
		delete(out, "Cookie")
		if rest := p.foreignCookies(cookies); rest != "" {
			out["Cookie"] = []string{rest}
		}
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = []string{""} // net/http would put its own there
	}
	if upgrade := in.Get("Upgrade"); upgrade != "" && strings.EqualFold(upgrade, "websocket") {
		out["Connection"], out["Upgrade"] = []string{"Upgrade"}, []string{upgrade}
	}
	if hasToken(in["Te"], "trailers") {
		out["Te"] = []string{"trailers"}
	}
	p.origin(out, s)
	if rt.token() && s.pass.Token.Value != "" {
		setToken(out, s.pass)
	}
	return out
}

// setToken puts the access token in.
func setToken(h http.Header, pass gate.Pass) {
	h["Authorization"] = []string{"Bearer " + pass.Token.Value}
}

// origin says where the request came from, in our words only.
func (p *Proxy) origin(out http.Header, s *sending) {
	info := web.InfoOf(s.in)
	if info == nil {
		return
	}
	client := info.Client.String()
	out["X-Forwarded-For"] = []string{client}
	out["X-Forwarded-Proto"] = []string{p.scheme}
	out["X-Forwarded-Host"] = []string{p.host}
	node := client
	if info.Client.Is6() {
		node = `"[` + client + `]"`
	}
	out["Forwarded"] = []string{"for=" + node + ";host=\"" + p.host + "\";proto=" + p.scheme}
}

// hopByHop are the headers of one connection (RFC 9110 section 7.6.1).
var hopByHop = map[string]bool{
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Http2-Settings": true,
}

// liars are headers that tell an upstream who asks, or what for. Only we say that. They are compared with "_" read
// as "-", because many servers do.
var liars = map[string]bool{
	"forwarded": true, "x-real-ip": true, "x-original-url": true, "x-original-uri": true, "x-original-method": true,
	"x-rewrite-url": true, "x-http-method": true, "x-http-method-override": true, "x-method-override": true,
	"true-client-ip": true, "cf-connecting-ip": true, "fastly-client-ip": true, "x-client-ip": true, "x-cluster-client-ip": true,
	"client-ip": true, "remote-user": true, "x-remote-user": true, "x-user": true, "x-proxy-user": true, "x-email": true, "via": true,
}

var liarPrefixes = []string{"x-forwarded", "x-auth-", "x-user-", "x-remote-", "x-cloakroom", "remote-", "x-ssl-", "x-webauth"}

// passes reports whether a header of the client may go on.
func (p *Proxy) passes(rt *route, name string) bool {
	if hopByHop[name] {
		return false
	}
	var buf [64]byte
	if len(name) > len(buf) {
		return !strings.ContainsRune(name, '_') // no name that we look for is that long
	}
	plain := buf[:len(name)]
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c == '_' {
			c = '-'
		}
		plain[i] = c
	}
	if liars[string(plain)] {
		return false
	}
	for _, prefix := range liarPrefixes {
		if len(plain) >= len(prefix) && string(plain[:len(prefix)]) == prefix {
			return false
		}
	}
	if rt.session || rt.token() {
		return string(plain) != "authorization" && string(plain) != "dpop"
	}
	return true
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
			name, _, _ := strings.Cut(part, "=")
			if part == "" || p.Cookies.Ours(strings.TrimSpace(name)) {
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
