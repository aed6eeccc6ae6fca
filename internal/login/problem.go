package login

import (
	"errors"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
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
