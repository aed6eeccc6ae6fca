package gate

import "net/http"

// CORS lets the allowed same-site origins call with the ticket. It sets the headers of an actual request, and
// answers a preflight, in which case it returns true. An origin that is not listed gets no header at all, so a
// preflight of it goes on and ends as any other request without a session.
func (g *Gate) CORS(w http.ResponseWriter, r *http.Request) (answered bool) {
	origin := first(r.Header, "Origin")
	if !g.allowed[origin] {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		h.Set("Access-Control-Expose-Headers", "Retry-After")
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
	if asked := first(r.Header, "Access-Control-Request-Headers"); asked != "" && len(asked) < 1024 {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
