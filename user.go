package cloakroom

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// ErrNoSession says that the context comes from no request that passed [Handler.Protect].
var ErrNoSession = errors.New("cloakroom: no session in this context; wrap the handler in Protect")

// User is who is logged in. Issuer and Subject together are the key to know a user by; everything else may change.
type User struct {
	Issuer   string
	Subject  string
	Provider string                     // its name in the configuration
	Session  string                     // the session's handle: fine to log, opens nothing
	Claims   map[string]json.RawMessage // display data of the ID token
	AuthTime time.Time                  // when the person logged in
	ACR      string
	AMR      []string
}

// Claim decodes one claim into v and reports whether it was there and fitted.
func (u User) Claim(name string, v any) bool {
	raw, ok := u.Claims[name]
	return ok && json.Unmarshal(raw, v) == nil
}

type grantKey struct{}

// grant is what Protect puts into a request's context.
type grant struct {
	live     *session.Live
	sessions *session.Manager
}

// Protect puts an embedder's own handler behind the gate: the guard against other sites, then a live session. A
// request without one is answered here, as on a route with `session: required`.
func (h *Handler) Protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.observed(w, r, func(w http.ResponseWriter, r *http.Request, f *frontend) {
			web.InfoOf(r).Route = "protected"
			pass, refusal := f.gate.Decide(r.Context(), f.gate.Facts(r), gate.Requirement{Session: gate.Required})
			if refusal != nil {
				f.gate.Refuse(w, r, refusal)
				return
			}
			f.gate.Apply(w, pass)
			gate.Vary(w)
			w.Header().Set("Cache-Control", "private, no-store")
			ctx := context.WithValue(r.Context(), grantKey{}, grant{pass.Live, f.sessions})
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	})
}

// UserFrom returns who is logged in, inside of a handler behind [Handler.Protect].
func UserFrom(ctx context.Context) (User, bool) {
	g, ok := ctx.Value(grantKey{}).(grant)
	if !ok {
		return User{}, false
	}
	s := g.live.Session()
	return User{
		Issuer: s.Issuer, Subject: s.Subject, Provider: s.Provider, Session: s.Handle, Claims: s.User,
		AuthTime: s.AuthTime, ACR: s.ACR, AMR: s.AMR,
	}, true
}

// AccessToken returns a live access token of the user, refreshed if need be, inside of a handler behind
// [Handler.Protect]. Ask for it each time it is needed and keep it nowhere. An error means that there is none now:
// the session is over, or the provider cannot be reached.
func AccessToken(ctx context.Context) (string, error) {
	g, ok := ctx.Value(grantKey{}).(grant)
	if !ok {
		return "", ErrNoSession
	}
	tokens, err := g.sessions.Fresh(ctx, g.live)
	if err != nil {
		return "", err
	}
	return tokens.Access, nil
}

func notFound() *gate.Refusal {
	return &gate.Refusal{Problem: web.NewProblem(web.CodeNotFound, "Cloakroom has no such address.")}
}
