package dialect

import (
	"context"
	"errors"
	"net/url"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// Grant types of a second factor at Auth0. Okta's direct authentication uses the same names.
const (
	grantOTP      = "http://auth0.com/oauth/grant-type/mfa-otp"
	grantOOB      = "http://auth0.com/oauth/grant-type/mfa-oob"
	grantRecovery = "http://auth0.com/oauth/grant-type/mfa-recovery-code"
)

// mfaToken is what a refusal gives to go on with, if the refusal asks for a second factor.
func mfaToken(err error) (string, bool) {
	e, ok := errors.AsType[*oidc.Error](err)
	if !ok || e.Reason != oidc.ReasonSecondFactor && e.Kind != oidc.StepUp {
		return "", false
	}
	token := e.Text("mfa_token")
	return token, token != ""
}

// showFactor turns a second factor into tokens. code is "" where the person confirms elsewhere.
func showFactor(ctx context.Context, p *oidc.Provider, s *State, f Factor, code string) (*oidc.Exchange, error) {
	form := url.Values{"mfa_token": {s.Token}}
	act := "mfa_oob"
	switch f.Type {
	case OTP:
		act = "mfa_otp"
		form.Set("grant_type", grantOTP)
		form.Set("otp", code)
	case RecoveryCode:
		act = "mfa_recovery_code"
		form.Set("grant_type", grantRecovery)
		form.Set("recovery_code", code)
	default:
		form.Set("grant_type", grantOOB)
		form.Set("oob_code", s.OOB)
		if code != "" {
			form.Set("binding_code", code)
		}
	}
	x, err := p.Grant(ctx, act, form, s.Client, oidc.Expect{})
	if err != nil {
		return nil, err
	}
	return &x, nil
}
