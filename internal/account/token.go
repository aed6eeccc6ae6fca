package account

import (
	"errors"
	"net/http"
	"time"

	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/web"
)

// TokenRoute is a route whose access token the app's scripts may have.
type TokenRoute struct {
	Need  gate.Requirement
	Scope string // more than this is not handed out
}

// tokenView is the answer of GET /auth/token: of RFC 6749 section 5.1 what is for a browser. There never is a refresh
// token in it.
type tokenView struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   *int64 `json:"expires_in,omitempty"` // seconds; absent = the provider does not say
}

var errTooWide = errors.New("the provider gave a token with more scopes than were asked for")

// Token serves GET /auth/token?route=NAME: token mediation (RFC 10017 section 6.2), for the routes that allow it. It
// asks of the request what the route asks.
func (h *Handler) Token(w http.ResponseWriter, r *http.Request) {
	route, ok := h.Tokens[r.URL.Query().Get("route")]
	if !ok {
		h.Gate.Refuse(w, r, &gate.Refusal{Problem: web.NewProblem(web.CodeNotFound, "No route of that name hands out its token: see token_to_browser.")})
		return
	}
	need := route.Need
	need.Action, need.Pages, need.Session = true, false, gate.Required
	pass, refusal := h.Gate.Decide(r.Context(), h.Gate.Facts(r), need)
	if refusal == nil && oidc.Exceeds(pass.Token.Scope, route.Scope) {
		refusal = &gate.Refusal{Problem: web.NewProblem(web.CodeAccessDenied, "The provider gives a token with more scopes than this route has. It is not handed out.").Because(errTooWide)}
	}
	if refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	gate.Vary(w)
	view := tokenView{AccessToken: pass.Token.Value, TokenType: "Bearer"}
	if !pass.Token.Expires.IsZero() {
		left := max(int64(pass.Token.Expires.Sub(h.Sessions.Now())/time.Second), 0)
		view.ExpiresIn = &left
	}
	web.WriteJSON(w, http.StatusOK, view)
}
