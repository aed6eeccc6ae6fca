package dialect

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// okta speaks Okta's direct authentication. It does not tell which factors a person has: all that it knows are
// offered, and one that turns out not to be set up is taken off the list.
type okta struct{ p *oidc.Provider }

func (d okta) begin(ctx context.Context, c Credentials) (*oidc.Exchange, *State, error) {
	x, _, err := passwordOf(ctx, d.p, c)
	if _, more := mfaToken(err); !more {
		return x, nil, err
	}
	refused, _ := errors.AsType[*oidc.Error](err)
	s, err := d.resume(ctx, refused, c)
	return nil, s, err
}

func (okta) resume(_ context.Context, refused *oidc.Error, c Credentials) (*State, error) {
	token, ok := mfaToken(refused)
	if !ok {
		return nil, refused
	}
	return &State{
		Status: Challenge, Token: token, Client: c.Client, Expires: time.Now().Add(mfaLife),
		Factors: numbered([]Factor{{Type: Push}, {Type: OTP}, {Type: SMS}, {Type: Voice}, {Type: Email}}),
	}, nil
}

func (d okta) choose(ctx context.Context, s *State, f Factor) error {
	if f.Type == OTP {
		s.choose(f, Code)
		return nil
	}
	e, err := d.p.Endpoints(ctx)
	if err != nil {
		return err
	}
	var a struct {
		OOB      string  `json:"oob_code"`
		Binding  string  `json:"binding_method"`
		Number   string  `json:"binding_code"` // binding_method transfer: to be shown to the person
		Interval float64 `json:"interval"`
		Life     float64 `json:"expires_in"`
	}
	err = d.p.Ask(ctx, oidc.Question{
		Act: "mfa_challenge", Address: strings.TrimSuffix(e.Token, "/token") + "/challenge", ClientAddress: s.Client,
		Form: url.Values{
			"mfa_token": {s.Token}, "challenge_types_supported": {grantOOB}, "channel_hint": {string(f.Type)},
		},
	}, &a)
	if refused, ok := errors.AsType[*oidc.Error](err); ok && refused.Kind == oidc.StepUp && len(s.Factors) > 1 {
		s.unselect()
		s.Factors = slices.DeleteFunc(s.Factors, func(o Factor) bool { return o.ID == f.ID })
		return &ActionError{"This is not set up for this account. Choose another one."}
	}
	if err != nil {
		return err
	}
	s.awaits(f, challenged{OOB: a.OOB, Binding: a.Binding})
	s.Display = a.Number
	if s.Input == Wait && a.Interval > 0 {
		s.Interval = time.Duration(min(a.Interval, 60) * float64(time.Second))
	}
	return nil
}

func (d okta) submit(ctx context.Context, s *State, f Factor, code string) (*oidc.Exchange, error) {
	return showFactor(ctx, d.p, s, f, code)
}

func (d okta) poll(ctx context.Context, s *State, f Factor) (*oidc.Exchange, error) {
	return showFactor(ctx, d.p, s, f, "")
}

func (okta) enroll(context.Context, *State, Factor, string) error { return cannot("mfa_associate") }

func (okta) newPassword(context.Context, *State, string) (*oidc.Exchange, error) {
	return nil, cannot("new_password")
}
