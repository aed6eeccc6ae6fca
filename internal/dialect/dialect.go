// Package dialect is how each kind of provider does a login by form, translated into the steps of one machine: the
// person shows a password, then perhaps a second factor, sets one up, changes the password, or goes on at the
// provider's own page. What the provider hands out in between (an mfa_token, an auth_session, a code for polling)
// stays in the [State], which never leaves the server.
//
// One file each: auth0, okta, cognito, challenge (OAuth 2.0 for First-Party Applications), and password for
// providers whose form login ends with the password.
package dialect

import (
	"context"
	"fmt"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
)

// Status says what a login waits for.
type Status string

// The statuses of DESIGN.md section 10. A login that is done has no State.
const (
	Challenge      Status = "challenge"       // show a second factor
	Enroll         Status = "enroll"          // set one up
	PasswordChange Status = "password_change" // choose a new password
	Redirect       Status = "redirect"        // go on at the provider's page
)

// Type is the kind of a second factor.
type Type string

// Types of factors.
const (
	OTP          Type = "otp"
	SMS          Type = "sms"
	Voice        Type = "voice"
	Email        Type = "email"
	Push         Type = "push"
	RecoveryCode Type = "recovery_code"
)

// What the person does about a factor: types a code, or confirms on the other device.
const (
	Code = "code"
	Wait = "wait"
)

// Reasons to go on at the provider's page.
const (
	Captcha           = "captcha"
	Consent           = "consent"
	UnsupportedFactor = "unsupported_factor"
	ProviderPolicy    = "provider_policy"
)

// Factor is one that the person can show or set up.
type Factor struct {
	ID   string // ours: it says nothing of the provider's
	Type Type
	Name string // as the provider shows it, such as "XXXXXXX1234"; "" = not said
	Ref  string // the provider's
}

// State is a login that waits for the person. It holds secrets, so it prints as "[login state]".
type State struct {
	Status   Status
	Factors  []Factor
	Selected string // the chosen factor's ID, "" = none yet
	Input    string // Code or Wait, for the selected factor
	Display  string // the number to compare with the one on the other device
	Interval time.Duration
	Resend   bool // a code can be sent again

	Secret, URI   string   // of an app for one-time codes that is being set up
	RecoveryCodes []string // to be shown once
	Here          bool     // the new password can be chosen here
	Reason        string   // why the login goes on elsewhere
	Expires       time.Time

	Account string // as the person wrote it, for login_hint
	Client  string // the person's address

	Token     string // mfa_token, auth_session, Session
	OOB       string // oob_code
	Name      string // Cognito: the challenge's
	Verifier  string // First-Party Applications: of the code to come
	Nonce     string
	State     string
	RequestID string // request_uri, to go on at the provider's page
}

func (State) String() string             { return "[login state]" }
func (State) GoString() string           { return "[login state]" }
func (State) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[login state]") }

// Factor returns the selected factor.
func (s *State) Factor() (Factor, bool) { return s.factor(s.Selected) }

func (s *State) factor(id string) (Factor, bool) {
	for _, f := range s.Factors {
		if f.ID == id && id != "" {
			return f, true
		}
	}
	return Factor{}, false
}

// Credentials begin a login.
type Credentials struct {
	Username, Password string
	OTP                string // with the password in one form, where the provider wants that
	Client             string // the person's address
	RedirectURI        string // where a login that goes on at the provider's page comes back to
	State              string // the transaction's id, for the same
	AuthSession        string // from a login before (OAuth 2.0 for First-Party Applications section 5.3.1)
}

func (Credentials) String() string             { return "[credentials]" }
func (Credentials) GoString() string           { return "[credentials]" }
func (Credentials) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[credentials]") }

// Dialect speaks to one provider. An error is an *oidc.Error, whose Reason says what it means for the person, or an
// *ActionError.
type Dialect interface {
	// Begin shows the password. Exactly one of the first two results is set, unless there is an error.
	Begin(ctx context.Context, c Credentials) (*oidc.Exchange, *State, error)
	// Act takes the next step. The state may have changed after an error, too, and must be kept: some providers renew
	// their secret with every answer. Without exchange and error the login goes on from the state.
	Act(ctx context.Context, s *State, a Action) (*oidc.Exchange, error)
	// Resume begins at the second factor, with what the provider gave with a refusal to refresh.
	Resume(ctx context.Context, refused *oidc.Error, c Credentials) (*State, error)
}

// New makes the dialect of a profile. A provider that has the challenge endpoint is asked there, whatever it is, if
// challenge is true.
func New(p *oidc.Provider, challenge bool) Dialect {
	var t translator
	switch {
	case challenge:
		t = firstParty{p}
	case p.Profile == "auth0":
		t = auth0{p}
	case p.Profile == "okta":
		t = okta{p}
	case p.Profile == "cognito":
		t = cognito{p}
	default:
		t = passwordOnly{p}
	}
	return machine{t}
}

// translator is what a dialect has of its own. choose, submit, poll and enroll are only called where the state allows
// them, with a factor of the state.
type translator interface {
	begin(ctx context.Context, c Credentials) (*oidc.Exchange, *State, error)
	resume(ctx context.Context, refused *oidc.Error, c Credentials) (*State, error)
	choose(ctx context.Context, s *State, f Factor) error
	submit(ctx context.Context, s *State, f Factor, code string) (*oidc.Exchange, error)
	poll(ctx context.Context, s *State, f Factor) (*oidc.Exchange, error)
	enroll(ctx context.Context, s *State, f Factor, target string) error
	newPassword(ctx context.Context, s *State, password string) (*oidc.Exchange, error)
}
