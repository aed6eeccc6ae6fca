package dialect

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// firstParty speaks OAuth 2.0 for First-Party Applications (draft-ietf-oauth-first-party-apps-04): the authorization
// challenge endpoint takes what the person shows, step by step, and gives a code in the end. The draft leaves to the
// provider how its steps are named. We send username, password, otp, factor and phone_number or email, and read from
// an answer that wants more the members of [demand].
type firstParty struct{ p *oidc.Provider }

const actChallenge = "authorization_challenge"

// demand is what an answer with insufficient_authorization wants.
type demand struct {
	Required string `json:"required"` // otp | factor | push | enroll | password
	OTP      bool   `json:"otp_required"`
	Selected string `json:"selected"`
	Display  string `json:"display_code"`
	Interval float64
	Factors  []struct {
		ID, Type, Name string
	} `json:"factors"`
	Secret        string   `json:"otp_secret"`
	URI           string   `json:"otp_uri"`
	RecoveryCodes []string `json:"recovery_codes"`
}

func (d firstParty) begin(ctx context.Context, c Credentials) (*oidc.Exchange, *State, error) {
	s := &State{Account: c.Username, Client: c.Client, Verifier: random(), Nonce: random(), State: c.State, Token: c.AuthSession}
	first := url.Values{"username": {c.Username}, "password": {c.Password}}
	if c.RedirectURI != "" {
		first.Set("redirect_uri", c.RedirectURI)
	}
	x, err := d.ask(ctx, s, first)
	if e, ok := errors.AsType[*oidc.Error](err); ok && e.Code == "invalid_session" && c.AuthSession != "" { // section 5.2.2.1
		s.Token = ""
		x, err = d.ask(ctx, s, first)
	}
	if err != nil || x != nil {
		return x, nil, err
	}
	return nil, s, nil
}

// ask sends one challenge request. PKCE goes along with each (section 5.2.2.1.1), so that the login can go on at the
// provider's page at any time.
func (d firstParty) ask(ctx context.Context, s *State, form url.Values) (*oidc.Exchange, error) {
	e, err := d.p.Endpoints(ctx)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(s.Verifier))
	sent := url.Values{
		"response_type": {"code"}, "client_id": {d.p.ClientID}, "scope": {strings.Join(d.p.Scopes, " ")}, "nonce": {s.Nonce},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	if s.State != "" {
		sent.Set("state", s.State)
	}
	if s.Token != "" {
		sent.Set("auth_session", s.Token)
	}
	if d.p.Audience != "" {
		sent.Set("resource", d.p.Audience)
	}
	maps.Copy(sent, form)
	var a struct {
		Code        string `json:"authorization_code"`
		AuthSession string `json:"auth_session"`
	}
	err = d.p.Ask(ctx, oidc.Question{Act: actChallenge, Address: e.Challenge, Form: sent, ClientAddress: s.Client}, &a)
	if err != nil {
		return nil, d.refused(s, err)
	}
	if a.AuthSession != "" {
		s.Token = a.AuthSession
	}
	return d.exchange(ctx, s, a.Code)
}

func (d firstParty) exchange(ctx context.Context, s *State, code string) (*oidc.Exchange, error) {
	if code == "" {
		return nil, &oidc.Error{Kind: oidc.Rejected, Act: actChallenge, Code: "authorization_code", Reason: oidc.ReasonConfig}
	}
	x, err := d.p.Grant(ctx, "authorization_code", url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {s.Verifier},
	}, s.Client, oidc.Expect{Nonce: s.Nonce})
	if err != nil {
		return nil, err
	}
	if x.Tokens.AuthSession == "" {
		x.Tokens.AuthSession = s.Token
	}
	return &x, nil
}

// refused reads what the provider wants next; nil = the state says it. Newer drafts answer 403, older ones 400 or 401.
func (firstParty) refused(s *State, err error) error {
	e, ok := errors.AsType[*oidc.Error](err)
	if !ok {
		return err
	}
	if token := e.Text("auth_session"); token != "" { // the newest counts, also with an error (section 5.3.1)
		s.Token = token
	}
	switch e.Code {
	case "insufficient_authorization":
		return wants(s, e)
	case "redirect_to_web":
		next := State{Status: Redirect, Reason: reasonIn(e), Account: s.Account, Client: s.Client}
		if uri := e.Text("request_uri"); uri != "" && len(uri) <= 1024 {
			next.RequestID, next.Verifier, next.Nonce, next.State = uri, s.Verifier, s.Nonce, s.State
			next.Expires = time.Now().Add(lifeIn(e))
		}
		*s = next
		return nil
	case "invalid_session":
		e.Kind, e.Reason = oidc.Definitive, oidc.ReasonExpired
	case "access_denied":
		if s.Input == Wait { // on the other device
			e.Kind, e.Reason = oidc.Definitive, oidc.ReasonDeclined
		}
	case "authorization_pending", "slow_down":
		e.Kind, e.Reason = oidc.Transient, oidc.ReasonPending
	}
	return e
}

// reasonIn says why the provider wants the person at its page, where it says so in a way that we know.
func reasonIn(e *oidc.Error) string {
	switch e.Text("reason") {
	case Captcha:
		return Captcha
	case Consent:
		return Consent
	case UnsupportedFactor:
		return UnsupportedFactor
	}
	return ProviderPolicy
}

func lifeIn(e *oidc.Error) time.Duration {
	var seconds float64
	if !e.Read("expires_in", &seconds) || seconds <= 0 {
		seconds = 60
	}
	return time.Duration(min(seconds, 600)) * time.Second
}

// wants is the state after insufficient_authorization.
func wants(s *State, e *oidc.Error) error {
	var w demand
	for name, into := range map[string]any{
		"required": &w.Required, "otp_required": &w.OTP, "selected": &w.Selected, "display_code": &w.Display, "interval": &w.Interval,
		"factors": &w.Factors, "otp_secret": &w.Secret, "otp_uri": &w.URI, "recovery_codes": &w.RecoveryCodes,
	} {
		e.Read(name, into)
	}
	if w.OTP && w.Required == "" {
		w.Required = "otp"
	}
	polling := w.Required == "push" && s.Input == Wait && s.Status == Challenge
	was, interval := s.Selected, s.Interval
	s.Factors = nil
	for _, f := range w.Factors {
		if t, ok := channel(f.Type); ok || f.Type == string(OTP) || f.Type == string(RecoveryCode) {
			if !ok {
				t = Type(f.Type)
			}
			s.Factors = append(s.Factors, Factor{Type: t, Name: f.Name, Ref: f.ID})
		}
	}
	if len(s.Factors) == 0 && w.Required == "otp" {
		s.Factors = []Factor{{Type: OTP, Ref: w.Selected}}
	}
	s.Factors = numbered(s.Factors)
	s.unselect()
	s.Secret, s.URI = w.Secret, w.URI
	if len(w.RecoveryCodes) > 0 {
		s.RecoveryCodes = w.RecoveryCodes
	}
	s.Status = Challenge
	if w.Required == "enroll" || w.Secret != "" || w.URI != "" || len(w.RecoveryCodes) > 0 { // the last ones: to set one up
		s.Status = Enroll
	}
	switch w.Required {
	case "enroll":
	case "otp", "factor", "push":
	default: // a step whose name means nothing to us; the provider's page knows it
		e.Reason = oidc.ReasonSecondFactor
		return e
	}
	for _, f := range s.Factors {
		if f.Ref != w.Selected || w.Required == "factor" {
			continue
		}
		s.choose(f, Code)
		if w.Required == "push" {
			s.choose(f, Wait)
			s.Display = w.Display
			if w.Interval > 0 {
				s.Interval = time.Duration(min(w.Interval, 60)) * time.Second
			}
		}
		s.Resend = f.Type != OTP && f.Type != RecoveryCode
	}
	if s.Selected == "" && len(s.Factors) == 1 && w.Required == "otp" {
		s.choose(s.Factors[0], Code)
	}
	if polling && s.Selected == was {
		s.Interval = max(s.Interval, interval)
	}
	if len(s.Factors) == 0 {
		e.Reason = oidc.ReasonSecondFactor
		return e
	}
	return nil
}

// resume goes on from a refresh that was refused with insufficient_authorization (section 6.2).
func (d firstParty) resume(ctx context.Context, refused *oidc.Error, c Credentials) (*State, error) {
	token := refused.Text("auth_session")
	if token == "" {
		return nil, refused
	}
	s := &State{Account: c.Username, Client: c.Client, Verifier: random(), Nonce: random(), State: c.State, Token: token}
	if refused.Text("required") != "" {
		return s, wants(s, refused)
	}
	_, err := d.ask(ctx, s, url.Values{})
	return s, err
}

func (d firstParty) choose(ctx context.Context, s *State, f Factor) error {
	_, err := d.ask(ctx, s, url.Values{"factor": {f.Ref}})
	return err
}

func (d firstParty) submit(ctx context.Context, s *State, f Factor, code string) (*oidc.Exchange, error) {
	return d.ask(ctx, s, url.Values{"factor": {f.Ref}, "otp": {code}})
}

func (d firstParty) poll(ctx context.Context, s *State, f Factor) (*oidc.Exchange, error) {
	return d.ask(ctx, s, url.Values{"factor": {f.Ref}})
}

func (d firstParty) enroll(ctx context.Context, s *State, f Factor, target string) error {
	form := url.Values{"factor": {f.Ref}}
	switch f.Type {
	case SMS, Voice:
		form.Set("phone_number", target)
	case Email:
		form.Set("email", target)
	}
	_, err := d.ask(ctx, s, form)
	return err
}

func (firstParty) newPassword(context.Context, *State, string) (*oidc.Exchange, error) {
	return nil, cannot("new_password")
}

// random is 32 random bytes in the characters of RFC 7636 section 4.1.
func random() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
