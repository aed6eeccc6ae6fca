package login

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/web"
)

// bounded counts an attempt and says no where a limit is reached. The attempt is counted before the provider is asked
// and given back after a success, so that parallel guesses cannot slip past.
func (h *Handler) bounded(r *http.Request, p Provider, account, address string) *web.Problem {
	wait, hit := h.limited(account, address)
	if hit == "" {
		return nil
	}
	h.audit(r, event.Audit{Kind: event.LimitHit, Provider: p.Config.Name, Reason: hit})
	return web.NewProblem(web.CodeTooManyAttempts, "Wait a while before you try again.").After(wait)
}

// limited takes from each budget. hit names the limit that was reached.
func (h *Handler) limited(account, address string) (wait time.Duration, hit string) {
	if ok, wait := h.PerAddress.Take(address); !ok {
		return wait, "per_address"
	}
	if ok, wait := h.PerAccount.Take(account); !ok {
		return wait, "per_account"
	}
	return 0, ""
}

func client(r *http.Request) netip.Addr {
	if info := web.InfoOf(r); info != nil {
		return info.Client
	}
	return netip.Addr{}
}
