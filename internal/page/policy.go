package page

import (
	"net/url"
	"strings"
)

// policy is the Content-Security-Policy of every page. Chromium holds each redirect after a form post against
// form-action as well, so a form whose answer leads to another origin needs to name it, or to end in [Pages.Leave].
func policy(ancestors string, formOrigins []string) string {
	var b strings.Builder
	b.WriteString("default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'")
	for _, o := range formOrigins {
		if isOrigin(o) {
			b.WriteString(" " + o)
		}
	}
	b.WriteString("; base-uri 'none'; frame-ancestors " + ancestors)
	return b.String()
}

// connectSelf lets a page's script ask our own origin.
const connectSelf = "; connect-src 'self'"

// isOrigin reports whether s is an origin and nothing more: what else it held would be policy of its own.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" &&
		s == u.Scheme+"://"+u.Host && !strings.ContainsAny(s, " \t;,'\"*")
}
