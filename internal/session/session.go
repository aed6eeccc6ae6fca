package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/oidc"
)

// Why a session ended: the reason of its audit event.
const (
	ReasonLogout          = "logout"
	ReasonIdle            = "idle"
	ReasonLifetime        = "lifetime"
	ReasonProviderExpiry  = "provider_expiry" // session_expiry, or the known end of the refresh token
	ReasonTokenOver       = "token_over"      // the access token is over, and there is no refresh token
	ReasonReplaced        = "replaced"        // by a newer login in the same browser
	ReasonDeclined        = "declined"        // a login as somebody else that the person did not confirm
	ReasonRefreshRejected = "refresh_rejected"
	ReasonRefreshLost     = "refresh_lost"
	ReasonSubjectChanged  = "subject_changed"
	ReasonEndedElsewhere  = "ended_elsewhere"
	ReasonCorrupt         = "corrupt"
	ReasonEverywhere      = "logout_everywhere" // by a logout of all sessions
	ReasonUser            = "user"              // by the person, from another session
	ReasonOperator        = "operator"
	ReasonProviderLogout  = "provider_logout" // back-channel or front-channel logout
)

var (
	// ErrEnded says that there is no such session (any more): log in again.
	ErrEnded = errors.New("session: ended")
	// ErrStepUp says that the provider wants to see the person again before it gives another token.
	ErrStepUp = errors.New("session: the provider asks for the person")
	// ErrDenied says that the provider gives no token for this target. The session goes on.
	ErrDenied = errors.New("session: the provider gives no token for this")
)

// Unavailable says that it cannot be told or done now: the store or the provider does not answer. It never means
// "logged out".
type Unavailable struct {
	RetryAfter time.Duration
	Err        error
}

func (u *Unavailable) Error() string { return fmt.Sprintf("session: unavailable: %v", u.Err) }
func (u *Unavailable) Unwrap() error { return u.Err }

// Session is what a session says of itself: display and decisions, no token. It does not change.
type Session struct {
	Handle   string // public name; opens nothing
	Frontend string
	Provider string // its name in the configuration
	Issuer   string
	ClientID string
	Subject  string
	SID      string // the provider's own session
	Method   string // how it was made: password | redirect
	User     map[string]json.RawMessage
	ACR      string
	AMR      []string
	Created  time.Time
	AuthTime time.Time
	Remember bool
	Device   string    // what it was made with, as people say it: "Firefox on Linux"
	Address  string    // from where, as it was seen at the login
	Issued   time.Time // when the provider made the login's ID token, by its own clock
}

// Provider is what a session needs of the client that speaks to its provider.
type Provider interface {
	Refresh(ctx context.Context, old oidc.TokenSet, target oidc.Target, e oidc.Expect) (oidc.Exchange, error)
	ExchangeToken(ctx context.Context, subject string, target oidc.Target) (oidc.AccessToken, error)
	ClientToken(ctx context.Context, target oidc.Target) (oidc.AccessToken, error)
	Revoke(ctx context.Context, t oidc.TokenSet) error
	HasRevocation() bool
	Issuer() string
}

// ProviderPolicy is a provider with what is known of its behaviour.
type ProviderPolicy struct {
	Provider Provider
	Reuse    Reuse
	Rate     config.Rate // of token requests for refreshing, at most; the zero value = as in the configuration's default
	ClientID string
}

// ParseReuse reads the setting refresh_reuse: unknown, none, harmless, or the provider's reuse window.
func ParseReuse(s string) (Reuse, error) {
	switch s {
	case "", "unknown":
		return Reuse{}, nil
	case "none":
		return Reuse{kind: reuseNone}, nil
	case "harmless":
		return Reuse{kind: reuseHarmless}, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return Reuse{}, fmt.Errorf("refresh_reuse %q: unknown, none, harmless or a duration", s)
	}
	return Reuse{kind: reuseWindow, window: d}, nil
}
