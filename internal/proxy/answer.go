package proxy

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/web"
)

// ours are the headers of an answer that no upstream may set: they would speak for the whole origin.
var ours = setOf(
	"Clear-Site-Data", "Secure-Session-Registration", "Secure-Session-Challenge", "Sec-Session-Registration",
	"Sec-Session-Challenge", "Strict-Transport-Security", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials",
	"Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Expose-Headers", "Access-Control-Max-Age",
	"Access-Control-Allow-Private-Network", "Public-Key-Pins", "Public-Key-Pins-Report-Only", "Expect-Ct", "Alt-Svc", "Nel", "Report-To",
	"Set-Cookie2", "Server",
)

// notInTrailers are what a trailer of an answer may not say beside that and hopByHop: it comes too late to be checked or
// to be kept in step with the header (RFC 9110 section 6.5.1).
var notInTrailers = setOf(
	"Set-Cookie", "Cache-Control", "Surrogate-Control", "Cdn-Cache-Control", "Expires", "Pragma", "Vary", "Age", "Date", "Warning",
	"Location", "Refresh", "Retry-After", "Www-Authenticate", "Content-Encoding", "Content-Length", "Content-Range",
	"Content-Type", "Content-Location", "Content-Disposition", "Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy",
	"Cross-Origin-Resource-Policy", "Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy",
)

// errStatus says that an upstream's answer is none: net/http takes any three digits for a status, and sends only some.
var errStatus = errors.New("the upstream answers with a status below 200")

// answer takes out of an upstream's answer what it may not say, and puts in what it forgot.
func (p *Proxy) answer(rt *route, res *http.Response) error {
	if res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
		return errStatus
	}
	h := res.Header
	s := sendingOf(res.Request.Context())
	if s, ok := stepUpIn(res); ok && rt.session {
		return errStepUp{s}
	}
	if s != nil {
		if t, ok := s.w.(*tunnel); ok {
			if err := t.check(res); err != nil {
				return err
			}
		}
	}
	without(h, ours)
	p.dropCookies(h, res.Request)
	if rt.session {
		private(h, rt.SharedCache)
		setIfAbsent(h, "Cross-Origin-Resource-Policy", sameOrigin)
	}
	if res.StatusCode != http.StatusSwitchingProtocols && (res.ContentLength < 0 || res.ProtoMajor != 1) {
		without(res.Trailer, ours, hopByHop, notInTrailers)
		res.Body = &trailed{res.Body, res}
	}
	p.open.endWithDrain(res)
	if s != nil && s.pass.Live != nil {
		endWithSession(res, s.pass.Live)
	}
	if s != nil && res.StatusCode != http.StatusSwitchingProtocols && (res.ContentLength < 0 || res.ContentLength > smallAnswer) {
		res.Body = newMoving(res.Body, s.w, p.stall)
	}
	setIfAbsent(h, "X-Content-Type-Options", nosniff)
	setIfAbsent(h, "Referrer-Policy", sameOrigin)
	return nil
}

// move puts an answer's headers where they are sent from.
func move(to, from http.Header) {
	for name, values := range from {
		if there := to[name]; there != nil {
			values = append(slices.Clip(there), values...)
		}
		to[name] = values
	}
}

// without takes names out of a header.
func without(h http.Header, sets ...map[string]bool) {
	for name := range h {
		for _, set := range sets {
			if set[name] {
				delete(h, name)
			}
		}
	}
}

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// Values of headers that most answers get. Nobody changes them.
var (
	nosniff    = []string{"nosniff"}
	sameOrigin = []string{"same-origin"}
	noStore    = []string{"private, no-store"}
)

// trailed is a body after which trailers may come: those obey the rules of the header. Whoever reads the end may look at
// them then, and nobody else: a body is closed by another goroutine when its session ends.
type trailed struct {
	io.ReadCloser
	res *http.Response
}

func (t *trailed) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err == io.EOF {
		without(t.res.Trailer, ours, hopByHop, notInTrailers)
	}
	return n, err
}

func setIfAbsent(h http.Header, name string, value []string) {
	if _, ok := h[name]; !ok {
		h[name] = value
	}
}

// private keeps an answer that may be of one user out of shared caches.
func private(h http.Header, shared bool) {
	given, ok := h["Cache-Control"]
	if !ok {
		h["Cache-Control"] = noStore
		return
	}
	if shared {
		return
	}
	var keep []string
	for _, line := range given {
		for part := range strings.SplitSeq(line, ",") {
			part = strings.TrimSpace(part)
			name, _, _ := strings.Cut(strings.ToLower(part), "=")
			if name == "public" || name == "s-maxage" || name == "private" || part == "" {
				continue
			}
			keep = append(keep, part)
		}
	}
	h["Cache-Control"] = []string{strings.Join(append([]string{"private"}, keep...), ", ")}
	for _, name := range []string{"Surrogate-Control", "Cdn-Cache-Control"} {
		delete(h, name)
	}
}

// dropCookies keeps an upstream from setting or clearing one of our cookies.
func (p *Proxy) dropCookies(h http.Header, r *http.Request) {
	lines, ok := h["Set-Cookie"]
	if !ok {
		return
	}
	var keep []string
	for _, line := range lines {
		name, _, _ := strings.Cut(line, "=")
		name, _, _ = strings.Cut(name, ";")
		if !p.Cookies.Ours(strings.TrimSpace(name)) {
			keep = append(keep, line)
			continue
		}
		a := &event.Audit{Time: time.Now(), Kind: event.CookieDropped, Frontend: p.Frontend, Detail: "by the upstream " + r.URL.Host}
		if info := web.InfoOf(r); info != nil {
			a.RequestID = info.ID
		}
		p.Events.Emit(a)
	}
	if keep == nil {
		delete(h, "Set-Cookie")
		return
	}
	h["Set-Cookie"] = keep
}
