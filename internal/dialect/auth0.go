package dialect

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// auth0 speaks Auth0's MFA API (authenticate using the resource owner password flow with MFA).
type auth0 struct{ p *oidc.Provider }

// mfaLife is how long an mfa_token lives, by Auth0's documentation.
const mfaLife = 10 * time.Minute

// authenticator is an entry of GET /mfa/authenticators.
type authenticator struct {
	ID      string `json:"id"`
	Type    string `json:"authenticator_type"`
	Channel string `json:"oob_channel"`
	Name    string `json:"name"`
	Active  *bool  `json:"active"`
}

// requirements is mfa_requirements of a refusal: what the person may show, and set up.
type requirements struct {
	Challenge, Enroll []struct {
		Type string `json:"type"`
	}
}

func (d auth0) begin(ctx context.Context, c Credentials) (*oidc.Exchange, *State, error) {
	x, _, err := passwordOf(ctx, d.p, c)
	if _, more := mfaToken(err); !more {
		return x, nil, err
	}
	refused, _ := errors.AsType[*oidc.Error](err)
	s, err := d.resume(ctx, refused, c)
	return nil, s, err
}

func (d auth0) resume(ctx context.Context, refused *oidc.Error, c Credentials) (*State, error) {
	token, ok := mfaToken(refused)
	if !ok {
		return nil, refused
	}
	s := &State{Status: Challenge, Token: token, Client: c.Client, Expires: time.Now().Add(mfaLife)}
	var list []authenticator
	err := d.p.Ask(ctx, oidc.Question{Act: "mfa_authenticators", Address: d.address("/mfa/authenticators"), Header: bearer(token), Secrets: []string{token}}, &list)
	if err != nil {
		return nil, err
	}
	var wanted requirements
	refused.Read("mfa_requirements", &wanted)
	for _, a := range list {
		if t, ok := a.kind(); ok && (a.Active == nil || *a.Active) && wanted.allows(a) {
			s.Factors = append(s.Factors, Factor{Type: t, Name: a.Name, Ref: a.ID})
		}
	}
	if len(s.Factors) == 0 {
		s.Status = Enroll
		s.Factors = wanted.enrollable()
	}
	s.Factors = numbered(s.Factors)
	return s, nil
}

func (a authenticator) kind() (Type, bool) {
	switch a.Type {
	case "otp":
		return OTP, true
	case "recovery-code":
		return RecoveryCode, true
	case "oob":
		return channel(a.Channel)
	}
	return "", false
}

// channel is the type of a channel name at Auth0, where push goes by the name of its app's maker.
func channel(name string) (Type, bool) {
	switch name {
	case "sms":
		return SMS, true
	case "voice":
		return Voice, true
	case "email":
		return Email, true
	case "auth0", "push":
		return Push, true
	}
	return "", false
}

// allows reports whether a factor may be used; where the provider does not say, all may.
func (r requirements) allows(a authenticator) bool {
	for _, c := range r.Challenge {
		if c.Type == a.Type || c.Type == a.Channel || c.Type == "push-notification" && a.Channel == "auth0" || c.Type == "phone" && (a.Channel == "sms" || a.Channel == "voice") {
			return true
		}
	}
	return len(r.Challenge) == 0
}

// enrollable are the factors that can be set up; where the provider does not say, those that it documents.
func (r requirements) enrollable() (list []Factor) {
	for _, e := range r.Enroll {
		switch e.Type {
		case "otp":
			list = append(list, Factor{Type: OTP})
		case "phone":
			list = append(list, Factor{Type: SMS}, Factor{Type: Voice})
		case "push-notification":
			list = append(list, Factor{Type: Push})
		default:
			if t, ok := channel(e.Type); ok {
				list = append(list, Factor{Type: t})
			}
		}
	}
	if len(list) == 0 {
		list = []Factor{{Type: OTP}, {Type: SMS}, {Type: Voice}, {Type: Push}, {Type: Email}}
	}
	return list
}

// challenged is the answer of /mfa/challenge and /mfa/associate.
type challenged struct {
	OOB           string   `json:"oob_code"`
	Binding       string   `json:"binding_method"`
	Secret        string   `json:"secret"`
	URI           string   `json:"barcode_uri"`
	RecoveryCodes []string `json:"recovery_codes"`
}

func (d auth0) choose(ctx context.Context, s *State, f Factor) error {
	if f.Type == OTP || f.Type == RecoveryCode { // there is nothing to send
		s.choose(f, Code)
		return nil
	}
	var a challenged
	err := d.p.Ask(ctx, oidc.Question{
		Act: "mfa_challenge", Address: d.address("/mfa/challenge"), Secrets: []string{s.Token}, ClientAddress: s.Client,
		JSON: map[string]string{
			"mfa_token": s.Token, "client_id": d.p.ClientID, "client_secret": d.p.ClientSecret.Reveal(),
			"challenge_type": "oob", "authenticator_id": f.Ref,
		},
	}, &a)
	if err != nil {
		return err
	}
	s.awaits(f, a)
	return nil
}

// awaits notes what was sent: a code to type in, or a question on the other device.
func (s *State) awaits(f Factor, a challenged) {
	input := Wait
	if a.Binding == "prompt" {
		input = Code
	}
	s.choose(f, input)
	s.OOB, s.Resend = a.OOB, true
}

func (d auth0) submit(ctx context.Context, s *State, f Factor, code string) (*oidc.Exchange, error) {
	return showFactor(ctx, d.p, s, f, code)
}

func (d auth0) poll(ctx context.Context, s *State, f Factor) (*oidc.Exchange, error) {
	return showFactor(ctx, d.p, s, f, "")
}

func (d auth0) enroll(ctx context.Context, s *State, f Factor, target string) error {
	body := map[string]any{"authenticator_types": []string{"oob"}}
	switch f.Type {
	case OTP:
		body["authenticator_types"] = []string{"otp"}
	case Push:
		body["oob_channels"] = []string{"auth0"}
	case Email:
		body["oob_channels"], body["email"] = []string{"email"}, target
	default:
		body["oob_channels"], body["phone_number"] = []string{string(f.Type)}, target
	}
	var a challenged
	err := d.p.Ask(ctx, oidc.Question{
		Act: "mfa_associate", Address: d.address("/mfa/associate"), JSON: body, Header: bearer(s.Token),
		Secrets: []string{s.Token}, ClientAddress: s.Client,
	}, &a)
	if err != nil {
		return err
	}
	if f.Type == OTP {
		s.choose(f, Code)
	} else {
		s.awaits(f, a)
		s.Resend = false
	}
	s.Secret, s.URI = a.Secret, a.URI
	if len(a.RecoveryCodes) > 0 { // come with the first factor only
		s.RecoveryCodes = a.RecoveryCodes
	}
	return nil
}

func (auth0) newPassword(context.Context, *State, string) (*oidc.Exchange, error) {
	return nil, cannot("new_password")
}

func (d auth0) address(path string) string { return strings.TrimSuffix(d.p.Issuer(), "/") + path }

func bearer(token string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + token}
}
