package gate

import (
	"strings"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/session"
)

// kinds are the words of a route's token setting.
var kinds = map[string]session.Kind{"user": session.User, "client": session.Client, "exchange": session.Exchange}

func tokenOf(r config.Route) session.Need {
	return session.Need{Kind: kinds[r.Token], Target: oidc.Target{Audience: r.Audience, Scope: strings.Join(r.Scopes, " ")}}
}

// RequirementOf is what a route asks of a request.
func RequirementOf(r config.Route) Requirement {
	need := Requirement{Pages: r.Pages || r.Files != "", Token: tokenOf(r)}
	if r.Require != nil {
		need.StepUp = StepUp{ACRValues: r.Require.ACR, MaxAge: r.Require.MaxAge.Std()}
	}
	switch r.Session {
	case "optional":
		need.Session = Optional
	case "none":
		need.Session = None
	}
	return need
}
