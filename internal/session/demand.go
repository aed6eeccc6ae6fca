package session

import (
	"context"
	"errors"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// demand is a refusal to refresh before the person has shown something more (mfa_required and the like). The refusal
// holds what goes on from it, such as an mfa_token, and stays in this process: another one asks by itself.
type demand struct {
	refusal *oidc.Error
	at      time.Time
}

// demandLife is how long a refusal is good to go on from. Auth0's mfa_token lives ten minutes, of which the person
// needs some.
const demandLife = 4 * time.Minute

func (l *Live) demanded(refusal *oidc.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.demand = demand{refusal, time.Now()}
}

// Demand is what the provider wants to see before it gives this session another token: its refusal to refresh, or nil
// if it refreshes. The provider is asked if need be.
func (m *Manager) Demand(ctx context.Context, l *Live) (*oidc.Error, error) {
	if refusal := l.demandNow(); refusal != nil {
		return refusal, nil
	}
	_, err := m.freshen(ctx, l, true)
	if refusal := l.demandNow(); refusal != nil {
		return refusal, nil
	}
	if errors.Is(err, ErrStepUp) { // found out before, and not asked again now
		return nil, &Unavailable{RetryAfter: time.Second, Err: err}
	}
	return nil, err
}

func (l *Live) demandNow() *oidc.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.demand.at) < demandLife {
		return l.demand.refusal
	}
	return nil
}
