package dialect

import (
	"context"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// passwordOnly is a provider whose form login ends with the password: Keycloak, which takes a one-time code along with
// it and tells nothing of what is missing; Entra ID, which blocks whoever has a second factor; and any other.
type passwordOnly struct{ p *oidc.Provider }

func (d passwordOnly) begin(ctx context.Context, c Credentials) (*oidc.Exchange, *State, error) {
	return passwordOf(ctx, d.p, c)
}

// passwordOf asks by the password grant.
func passwordOf(ctx context.Context, p *oidc.Provider, c Credentials) (*oidc.Exchange, *State, error) {
	x, err := p.Password(ctx, oidc.PasswordRequest{Username: c.Username, Password: c.Password, OTP: c.OTP, ClientAddress: c.Client})
	if err != nil {
		return nil, nil, err
	}
	return &x, nil, nil
}

func (passwordOnly) resume(context.Context, *oidc.Error, Credentials) (*State, error) {
	return nil, cannot("step_up")
}
func (passwordOnly) choose(context.Context, *State, Factor) error { return cannot("mfa_challenge") }
func (passwordOnly) submit(context.Context, *State, Factor, string) (*oidc.Exchange, error) {
	return nil, cannot("mfa_otp")
}

func (passwordOnly) poll(context.Context, *State, Factor) (*oidc.Exchange, error) {
	return nil, cannot("mfa_oob")
}

func (passwordOnly) enroll(context.Context, *State, Factor, string) error {
	return cannot("mfa_associate")
}

func (passwordOnly) newPassword(context.Context, *State, string) (*oidc.Exchange, error) {
	return nil, cannot("new_password")
}
