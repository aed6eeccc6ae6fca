package proxy

import (
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/cloakroom/cloakroom/internal/web"
)

// Question is what another proxy asks: may this request pass, and with which headers?
type Question struct {
	Request *http.Request // the original one, as far as it matters; without a body
	Scheme  string        // http or https, as the browser used it
	// Narrow says that the proxy takes nothing but 200, 401 and 403 (nginx auth_request).
	Narrow bool
	// Refusal says that the proxy was told no before, and wants what it shall tell the browser: never a token.
	Refusal bool
}

// manner is how one kind of proxy hands the original request on: the names of headers. "" is the request's own.
type manner struct {
	method, target, host string
	narrow, refusal      bool
}

// manners are by path, so that no header of a client chooses which headers are read.
var manners = map[string]manner{
	"/verify/nginx":         {method: "X-Original-Method", target: "X-Original-Uri", narrow: true},
	"/verify/nginx/refusal": {method: "X-Original-Method", target: "X-Original-Uri", refusal: true},
	"/verify/forwarded":     {method: "X-Forwarded-Method", target: "X-Forwarded-Uri", host: "X-Forwarded-Host"},
}

// envoy is the path that Envoy puts before the original one (path_prefix); method and host it leaves as they are.
const envoy = "/verify/envoy"

// Ask reads a proxy's question. What is missing, or said twice, is a problem that names it: nothing is guessed. The
// client's headers come along in the question's own request, except in the facts above.
func Ask(r *http.Request) (Question, *web.Problem) {
	m, ok := manners[r.URL.Path]
	target := ""
	if rest, found := strings.CutPrefix(r.RequestURI, envoy); found && strings.HasPrefix(rest, "/") {
		target, ok = rest, true
	}
	if !ok {
		return Question{}, web.NewProblem(web.CodeNotFound, "Proxies ask at /verify/nginx, /verify/forwarded and below /verify/envoy/.")
	}
	facts := reading{r: r}
	q := Question{Scheme: facts.scheme(), Narrow: m.narrow, Refusal: m.refusal}
	method, host := facts.named(m.method, r.Method), facts.named(m.host, r.Host)
	if target == "" {
		target = facts.named(m.target, "")
	}
	if facts.problem != nil {
		return q, facts.problem
	}
	u, err := url.ParseRequestURI(target)
	if err != nil || target[0] != '/' {
		return q, invalid("it cannot be taken apart").Because(err)
	}
	original := *r
	original.Method, original.Host, original.URL, original.RequestURI = method, host, u, target
	original.Body, original.ContentLength, original.TransferEncoding, original.TLS = http.NoBody, 0, nil, nil
	original.RemoteAddr, original.Header = peerOf(r)
	q.Request = &original
	return q, nil
}

// reading reads facts and keeps the first problem.
type reading struct {
	r       *http.Request
	problem *web.Problem
}

// named is the fact of a header; without a name it is the request's own.
func (f *reading) named(name, own string) string {
	if name == "" {
		return own
	}
	values := f.r.Header[name]
	if len(values) == 1 && values[0] != "" {
		return values[0]
	}
	what := " is missing"
	if len(values) > 1 {
		what = " came twice"
	}
	if f.problem == nil {
		f.problem = web.NewProblem(web.CodeInvalidRequest, "The proxy in front must say what was asked: the header "+name+what+".")
	}
	return ""
}

// scheme is X-Forwarded-Proto. Traefik writes ws and wss for WebSockets.
func (f *reading) scheme() string {
	switch proto := strings.ToLower(f.named("X-Forwarded-Proto", "")); proto {
	case "http", "ws":
		return "http"
	case "https", "wss":
		return "https"
	case "":
	default:
		if f.problem == nil {
			f.problem = web.NewProblem(web.CodeInvalidRequest, "The header X-Forwarded-Proto must be http or https.")
		}
	}
	return ""
}

// peerOf is whom the proxy got the request from, the last address of X-Forwarded-For, and the header without it: so
// that the rest is judged by trusted_proxies, as if that peer had come to us.
func peerOf(r *http.Request) (string, http.Header) {
	lines := r.Header["X-Forwarded-For"]
	if len(lines) == 0 {
		return r.RemoteAddr, r.Header
	}
	hops := strings.Split(strings.Join(lines, ","), ",")
	last := strings.Trim(strings.TrimSpace(hops[len(hops)-1]), "[]")
	if strings.Contains(last, ":") {
		last = "[" + last + "]"
	}
	header := maps.Clone(r.Header)
	delete(header, "X-Forwarded-For")
	if len(hops) > 1 {
		header["X-Forwarded-For"] = []string{strings.Join(hops[:len(hops)-1], ",")}
	}
	return last + ":0", header
}
