package login

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/limit"
	"github.com/cloakroom/cloakroom/internal/web"
)

// Limits are the counters of logins by form, shared by all frontends and, where the store can, by all processes.
//
// A browser that has logged in to an account before has a budget of its own for that account, and half of the
// provider's is kept for such browsers: so strangers, however many, lock nobody out.
type Limits struct {
	PerAddress *limit.Counter
	PerAccount *limit.Counter // of strangers
	PerDevice  *limit.Counter // of a known browser at its account
	PerHuman   *limit.Counter // of strangers who passed the challenge
	Strangers  *limit.Counter // at one provider
	Known      *limit.Counter // at one provider
}

// attemptOf is who tries what, as the limits see it.
type attemptOf struct {
	Provider, Account, Address string
	Device                     string // the id of a browser that is known at this account, "" = a stranger
	Human                      bool   // the challenge was passed
}

// spent is what an attempt took, to be given back when the login is done.
type spent struct {
	counter *limit.Counter
	key     string
}

// take counts an attempt. hit names the limit that was reached; then nothing is spent.
func (l Limits) take(ctx context.Context, a attemptOf) (paid []spent, wait time.Duration, hit string) {
	for _, step := range l.budgets(a) {
		ok, wait := step.counter.Take(ctx, step.key)
		if !ok {
			l.give(ctx, paid)
			return nil, wait, step.name
		}
		paid = append(paid, step.spent)
	}
	return paid, 0, ""
}

type budget struct {
	spent
	name string
}

// budgets are those that an attempt draws on. A person who passed the challenge is not held for what others did from the
// same address or at the same account.
func (l Limits) budgets(a attemptOf) []budget {
	switch {
	case a.Device != "":
		return []budget{
			{spent{l.PerDevice, a.Device + " " + a.Account}, "per_device"}, {spent{l.Known, a.Provider}, "per_provider"},
		}
	case a.Human:
		return []budget{
			{spent{l.PerHuman, a.Account}, "per_account"}, {spent{l.Strangers, a.Provider}, "per_provider"},
		}
	}
	return []budget{
		{spent{l.PerAddress, a.Address}, "per_address"},
		{spent{l.PerAccount, a.Account}, "per_account"},
		{spent{l.Strangers, a.Provider}, "per_provider"},
	}
}

// give takes back what attempts that turned out to be the owner's have spent. The provider's budget stays spent: it was
// asked.
func (l Limits) give(ctx context.Context, paid []spent) {
	for _, s := range paid {
		if s.counter != l.Strangers && s.counter != l.Known {
			s.counter.Give(ctx, s.key)
		}
	}
}

// refund gives back what an attempt of this kind takes, after its login is done.
func (l Limits) refund(ctx context.Context, a attemptOf) {
	var paid []spent
	for _, b := range l.budgets(a) {
		paid = append(paid, b.spent)
	}
	l.give(ctx, paid)
}

// bounded counts an attempt and says no where a limit is reached. The attempt is counted before the provider is asked
// and given back after a success, so that parallel guesses cannot slip past. solved is the answer to a challenge, "" for
// none: it is looked at only where it could help, so that nobody makes us ask its service for nothing.
func (h *Handler) bounded(r *http.Request, a *attemptOf, solved string) *web.Problem {
	_, wait, hit := h.Limits.take(r.Context(), *a)
	if hit == "" {
		return nil
	}
	helps := h.Human != nil && a.Device == "" && hit != "per_provider"
	if helps && h.Human.passed(r.Context(), solved, client(r).String()) {
		a.Human = true
		if _, wait, hit = h.Limits.take(r.Context(), *a); hit == "" {
			return nil
		}
	}
	h.audit(r, event.Audit{Kind: event.LimitHit, Provider: a.Provider, Reason: hit})
	if helps && !a.Human {
		return web.NewProblem(web.CodeChallengeRequired, "Solve the challenge and send its answer as \"challenge\".").After(wait)
	}
	return web.NewProblem(web.CodeTooManyAttempts, "Wait a while before you try again.").After(wait)
}

func client(r *http.Request) netip.Addr {
	if info := web.InfoOf(r); info != nil {
		return info.Client
	}
	return netip.Addr{}
}
