package login

import (
	"errors"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/internal/web"
)

// providerDown is the answer when the provider cannot be asked now.
func providerDown(err error) *web.Problem {
	after := 5 * time.Second
	var e *oidc.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		after = e.RetryAfter
	}
	return web.NewProblem(web.CodeProviderUnavailable, "Try again in a moment.").After(after).Because(err)
}

// notKept is the answer when the login was fine and its session could not be made.
func notKept(err error) *web.Problem {
	if errors.Is(err, session.ErrEnded) { // the provider's logout overtook the login
		return web.NewProblem(web.CodeLoginFailed, "The login service has logged you out meanwhile. Log in again.").Because(err)
	}
	return web.NewProblem(web.CodeStoreUnavailable, "Your login was fine, but it could not be kept. Try again in a moment.").After(5 * time.Second).Because(err)
}
