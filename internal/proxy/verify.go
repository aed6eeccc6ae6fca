package proxy

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// Verify judges a request to a forward_auth route with the code that judges all others, and answers the proxy that
// serves it: with the headers to set, or with what the browser shall get.
func (p *Proxy) Verify(w http.ResponseWriter, q Question, path string) {
	r := q.Request
	rt, pass, refusal := p.judge(r, path, true)
	switch {
	case refusal != nil:
		p.Gate.Refuse(w, r, refusal)
	case q.Refusal:
		p.Gate.Refuse(w, r, &gate.Refusal{Problem: web.NewProblem(web.CodeSessionReplaced, "It passes now: a login came between. Try again.")})
	default:
		p.Gate.Apply(w, pass)
		p.identify(w.Header(), rt, r, pass)
		w.WriteHeader(http.StatusOK)
	}
}

// Identity are the headers of a yes. Only there are they: another answer goes to the browser.
var Identity = []string{"Authorization", "Cookie", "X-Auth-User", "X-Auth-Provider", "X-Auth-Email", "X-Auth-Session"}

// identify sets what the upstream shall see. Every header is there, empty if there is nothing to say: a proxy that
// copies it overwrites what a client sent.
func (p *Proxy) identify(h http.Header, rt *route, r *http.Request, pass gate.Pass) {
	for _, name := range Identity {
		h[name] = []string{""}
	}
	h["Cookie"] = []string{p.foreignCookies(r.Header["Cookie"])}
	if rt.token() && pass.Token.Value != "" {
		setToken(h, pass)
	}
	if pass.Live == nil {
		return
	}
	s := pass.Live.Session()
	h["X-Auth-User"] = []string{visible(s.Subject)}
	h["X-Auth-Provider"] = []string{visible(s.Provider)}
	h["X-Auth-Email"] = []string{visible(verifiedEmail(s))}
	h["X-Auth-Session"] = []string{visible(s.Handle)}
}

// verifiedEmail is the user's address if the provider says that it is theirs. Any other may be somebody else's.
func verifiedEmail(s *session.Session) string {
	var email string
	var verified bool
	if json.Unmarshal(s.User["email_verified"], &verified) != nil || !verified || json.Unmarshal(s.User["email"], &email) != nil {
		return ""
	}
	return email
}

// visible escapes what does not pass every proxy and upstream as it is: all but visible ASCII, and "%" and ",".
// Two different values stay different.
func visible(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || c == '%' || c == ',' {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
