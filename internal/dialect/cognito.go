package dialect

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// cognito speaks Amazon Cognito's own API: its token endpoint has no password grant.
type cognito struct{ p *oidc.Provider }

// sessionLife is how long Cognito waits for the next answer unless the app client says otherwise.
const sessionLife = 3 * time.Minute

// cognitoAnswer is what InitiateAuth and RespondToAuthChallenge say (Amazon Cognito user pools API reference).
type cognitoAnswer struct {
	Result *struct {
		AccessToken, IdToken, RefreshToken, TokenType string
		ExpiresIn                                     float64
	} `json:"AuthenticationResult"`
	ChallengeName       string
	ChallengeParameters map[string]string
	Session             string
}

// cognitoFactors are its challenges that are a second factor, and the name of the answer to each.
var cognitoFactors = map[string]struct {
	kind   Type
	answer string
}{
	"SMS_MFA":            {SMS, "SMS_MFA_CODE"},
	"SOFTWARE_TOKEN_MFA": {OTP, "SOFTWARE_TOKEN_MFA_CODE"},
	"EMAIL_OTP":          {Email, "EMAIL_OTP_CODE"},
}

func (d cognito) begin(ctx context.Context, c Credentials) (*oidc.Exchange, *State, error) {
	s := &State{Account: c.Username, Client: c.Client, State: c.Username}
	x, err := d.ask(ctx, s, operation{"cognito_auth", "InitiateAuth", map[string]any{
		"AuthFlow": "USER_PASSWORD_AUTH", "ClientId": d.p.ClientID,
		"AuthParameters": map[string]string{"USERNAME": c.Username, "PASSWORD": c.Password, "SECRET_HASH": d.hash(c.Username)},
	}, c.Password})
	if err != nil || x != nil {
		return x, nil, err
	}
	return nil, s, nil
}

// operation is one request of the API.
type operation struct {
	act, target string
	body        any
	secret      string // of the body
}

// ask sends one request of the API and reads the tokens, or the next challenge into the state.
func (d cognito) ask(ctx context.Context, s *State, o operation) (*oidc.Exchange, error) {
	var a cognitoAnswer
	err := d.call(ctx, s, o, &a)
	switch {
	case err != nil:
		return nil, err
	case a.Result != nil:
		now := time.Now()
		x, err := d.p.Accept(ctx, o.act, oidc.TokenSet{
			Access: a.Result.AccessToken, TokenType: "Bearer", Refresh: a.Result.RefreshToken, ID: a.Result.IdToken,
			Obtained: now, Expires: now.Add(time.Duration(max(0, min(a.Result.ExpiresIn, 86400))) * time.Second),
		}, oidc.Expect{})
		if err != nil {
			return nil, err
		}
		return &x, nil
	}
	return nil, d.next(s, o.act, a)
}

func (d cognito) call(ctx context.Context, s *State, c operation, into any) error {
	address, err := originOf(d.p.Issuer())
	if err != nil {
		return &oidc.Error{Kind: oidc.Misconfigured, Act: c.act, Reason: oidc.ReasonConfig, Err: err}
	}
	return d.p.Ask(ctx, oidc.Question{
		Act: c.act, Address: address + "/", JSON: c.body, ClientAddress: s.Client, Secrets: []string{c.secret, s.Token},
		Header: map[string]string{
			"X-Amz-Target": "AWSCognitoIdentityProviderService." + c.target, "Content-Type": "application/x-amz-json-1.1",
		},
	}, into)
}

// next is the state of a challenge. One that this form does not know goes on at the hosted page.
func (cognito) next(s *State, act string, a cognitoAnswer) error {
	name := s.State
	if id := a.ChallengeParameters["USER_ID_FOR_SRP"]; id != "" { // an alias is no user name in the answers
		name = id
	}
	*s = State{Account: s.Account, Client: s.Client, State: name, Token: a.Session, Name: a.ChallengeName, Expires: time.Now().Add(sessionLife), Secret: s.Secret, URI: s.URI}
	if known, ok := cognitoFactors[a.ChallengeName]; ok {
		s.Status = Challenge
		s.Factors = numbered([]Factor{{Type: known.kind, Name: a.ChallengeParameters["CODE_DELIVERY_DESTINATION"], Ref: a.ChallengeName}})
		s.choose(s.Factors[0], Code)
		return nil
	}
	switch a.ChallengeName {
	case "SELECT_MFA_TYPE":
		s.Status, s.Factors = Challenge, offered(a.ChallengeParameters["MFAS_CAN_CHOOSE"])
	case "MFA_SETUP":
		s.Status = Enroll
		for _, f := range offered(a.ChallengeParameters["MFAS_CAN_SETUP"]) {
			if f.Type == OTP { // a phone number or an address cannot be set up here without more of the API
				s.Factors = numbered([]Factor{f})
			}
		}
	case "NEW_PASSWORD_REQUIRED":
		s.Status, s.Here = PasswordChange, true
		return nil
	}
	if len(s.Factors) == 0 {
		return &oidc.Error{Kind: oidc.StepUp, Act: act, Code: "challenge", Reason: oidc.ReasonSecondFactor}
	}
	return nil
}

// offered reads a list of challenge names, which comes as a string of JSON.
func offered(raw string) (list []Factor) {
	var names []string
	if json.Unmarshal([]byte(raw), &names) != nil {
		return nil
	}
	for _, n := range names {
		if known, ok := cognitoFactors[n]; ok {
			list = append(list, Factor{Type: known.kind, Ref: n})
		}
	}
	return numbered(list)
}

// respond answers the present challenge.
func (d cognito) respond(ctx context.Context, s *State, answer, value string) (*oidc.Exchange, error) {
	return d.ask(ctx, s, operation{"cognito_challenge", "RespondToAuthChallenge", map[string]any{
		"ChallengeName": s.Name, "ClientId": d.p.ClientID, "Session": s.Token,
		"ChallengeResponses": map[string]string{"USERNAME": s.State, "SECRET_HASH": d.hash(s.State), answer: value},
	}, value})
}

func (cognito) resume(context.Context, *oidc.Error, Credentials) (*State, error) {
	return nil, cannot("step_up")
}

func (d cognito) choose(ctx context.Context, s *State, f Factor) error {
	if s.Name != "SELECT_MFA_TYPE" { // it is chosen already, and its code is on the way
		s.choose(f, Code)
		return nil
	}
	_, err := d.respond(ctx, s, "ANSWER", f.Ref)
	return err
}

func (d cognito) submit(ctx context.Context, s *State, f Factor, code string) (*oidc.Exchange, error) {
	if s.Status == Enroll {
		return d.verify(ctx, s, code)
	}
	return d.respond(ctx, s, cognitoFactors[f.Ref].answer, code)
}

func (cognito) poll(context.Context, *State, Factor) (*oidc.Exchange, error) {
	return nil, cannot("mfa_oob")
}

// enroll asks for the secret of an app for one-time codes.
func (d cognito) enroll(ctx context.Context, s *State, f Factor, _ string) error {
	var a struct{ SecretCode, Session string }
	if err := d.call(ctx, s, operation{"cognito_challenge", "AssociateSoftwareToken", map[string]string{"Session": s.Token}, ""}, &a); err != nil {
		return err
	}
	s.choose(f, Code)
	s.Token, s.Secret = a.Session, a.SecretCode
	issuer, _ := originOf(d.p.Issuer())
	_, host, _ := strings.Cut(issuer, "://")
	s.URI = "otpauth://totp/" + url.PathEscape(host+":"+s.Account) + "?" + url.Values{"secret": {a.SecretCode}, "issuer": {host}}.Encode()
	return nil
}

// verify shows the app's first code, and then that the app is set up.
func (d cognito) verify(ctx context.Context, s *State, code string) (*oidc.Exchange, error) {
	var a struct{ Status, Session string }
	err := d.call(ctx, s, operation{"cognito_challenge", "VerifySoftwareToken", map[string]string{"Session": s.Token, "UserCode": code}, code}, &a)
	if err != nil {
		return nil, err
	}
	s.Token = a.Session
	if a.Status != "SUCCESS" {
		return nil, &oidc.Error{Kind: oidc.Definitive, Act: "cognito_challenge", Code: "not_verified", Reason: oidc.ReasonInvalidCredentials}
	}
	return d.ask(ctx, s, operation{"cognito_challenge", "RespondToAuthChallenge", map[string]any{
		"ChallengeName": "MFA_SETUP", "ClientId": d.p.ClientID, "Session": s.Token,
		"ChallengeResponses": map[string]string{"USERNAME": s.State, "SECRET_HASH": d.hash(s.State)},
	}, ""})
}

func (d cognito) newPassword(ctx context.Context, s *State, password string) (*oidc.Exchange, error) {
	return d.respond(ctx, s, "NEW_PASSWORD", password)
}

// hash is SECRET_HASH: it binds a user name to our secret.
func (d cognito) hash(username string) string {
	m := hmac.New(sha256.New, []byte(d.p.ClientSecret.Reveal()))
	m.Write([]byte(username + d.p.ClientID))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

func originOf(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	return u.Scheme + "://" + u.Host, nil
}
