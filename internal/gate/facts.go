// Package gate is the only way from a browser's request to a session. [FactsOf] reads what the request says about
// itself; [Gate.Decide] judges it: the guard against other sites, the ticket, the session, a fresh access token.
// The decision is a value; [Gate.Refuse] turns a no into an answer.
package gate

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/cloakroom/cloakroom/internal/web"
)

// Facts are what a request says that matters to the decision. Nothing else of the request is looked at.
type Facts struct {
	Method  string
	Site    string // Sec-Fetch-Site
	Mode    string // Sec-Fetch-Mode
	Dest    string // Sec-Fetch-Dest
	Origin  string
	Custom  bool     // the header X-Cloakroom: 1, which no other site can send without a preflight
	Upgrade bool     // a WebSocket handshake
	HTML    bool     // Accept names text/html
	Passive bool     // X-Cloakroom-Passive: 1, not the user's activity
	URL     *url.URL // where to; for return_to
	Cookies web.Carried
}

// FactsOf reads the facts of a request.
func FactsOf(r *http.Request, cookies web.Cookies) Facts {
	h := r.Header
	return Facts{
		Method:  r.Method,
		Site:    first(h, "Sec-Fetch-Site"),
		Mode:    first(h, "Sec-Fetch-Mode"),
		Dest:    first(h, "Sec-Fetch-Dest"),
		Origin:  first(h, "Origin"),
		Custom:  first(h, "X-Cloakroom") == "1",
		Upgrade: upgrades(h),
		HTML:    strings.Contains(first(h, "Accept"), "text/html"),
		Passive: first(h, "X-Cloakroom-Passive") == "1",
		URL:     r.URL,
		Cookies: cookies.Read(r),
	}
}

// first returns the header's value; a header that came twice counts as one that says nothing we know.
func first(h http.Header, name string) string {
	switch v := h[name]; len(v) {
	case 0:
		return ""
	case 1:
		return v[0]
	default:
		return "(several)"
	}
}

func upgrades(h http.Header) bool {
	for _, v := range h["Upgrade"] {
		if strings.EqualFold(strings.TrimSpace(v), "websocket") {
			return true
		}
	}
	return false
}

// Navigation reports whether a person is going to a page: a document in a tab, not a fetch, frame or download.
// A browser without Fetch metadata is judged by what it accepts.
func (f Facts) Navigation() bool {
	if f.Method != http.MethodGet && f.Method != http.MethodHead {
		return false
	}
	if f.Site == "" && f.Mode == "" && f.Dest == "" {
		return f.HTML && f.Origin == ""
	}
	return f.Mode == "navigate" && f.Dest == "document"
}

// safe reports whether the method changes nothing (RFC 9110 section 9.2.1).
func (f Facts) safe() bool { return f.Method == http.MethodGet || f.Method == http.MethodHead }
