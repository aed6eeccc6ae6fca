package gate

import (
	"net/http"

	"github.com/cloakroom/cloakroom/internal/web"
)

// Refuse answers a refused request: the login for a person on the way to a page, the problem for everyone else.
func (g *Gate) Refuse(w http.ResponseWriter, r *http.Request, refusal *Refusal) {
	if refusal.Clear {
		g.Cookies.ClearTicket(w)
	}
	Vary(w)
	switch {
	case refusal.GRPC:
		refusal.Problem.WriteGRPC(w, r)
	case refusal.Reload:
		g.Reloader(w, r)
	case refusal.Login != "":
		if info := web.InfoOf(r); info != nil {
			info.Code = refusal.Problem.Code
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "same-origin")
		http.Redirect(w, r, refusal.Login, http.StatusFound)
	case g.Facts(r).Navigation():
		g.Page(w, r, refusal.Problem)
	default:
		refusal.Problem.Write(w, r)
	}
}

// Apply sets what goes with a pass.
func (g *Gate) Apply(w http.ResponseWriter, p Pass) {
	if p.Clear {
		g.Cookies.ClearTicket(w)
	}
}

// Vary says what the answer depended on, for caches that would mix up a page's and a script's answer.
func Vary(w http.ResponseWriter) {
	w.Header().Add("Vary", "Cookie, Origin, Sec-Fetch-Site, Sec-Fetch-Mode, Sec-Fetch-Dest, Accept")
}
