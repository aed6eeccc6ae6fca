package oidc

import (
	"encoding/json"
	"fmt"
	"time"
)

// TokenSet is the tokens of one answer. Its strings are secrets: it prints as "[token set]".
type TokenSet struct {
	Access     string
	TokenType  string // as the provider wrote it; compared without case
	Refresh    string // "" = none
	ID         string // the raw ID token, for id_token_hint; "" = none
	Scope      string
	Obtained   time.Time // our clock, when the answer came
	Expires    time.Time // of the access token; zero = unknown
	RefreshEnd time.Time // known end of the refresh token; zero = unknown
	Generation uint64    // counts up by one with each token set of a session
	// Further are access tokens for other targets, which this set's refresh token has brought.
	Further []AccessToken
	// AuthSession goes on from this login at the challenge endpoint (OAuth 2.0 for First-Party Applications, draft 04,
	// section 5.3.1); "" = none.
	AuthSession string
}

func (TokenSet) String() string               { return "[token set]" }
func (TokenSet) GoString() string             { return "[token set]" }
func (t TokenSet) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[token set]") }

// MarshalText keeps encoders, and loggers that use them, from showing the fields.
func (TokenSet) MarshalText() ([]byte, error) { return []byte("[token set]"), nil }

// Claims are what a validated ID token says.
type Claims struct {
	Issuer   string
	Subject  string
	SID      string // the provider's own session, claim sid
	Audience []string
	IssuedAt time.Time
	Expires  time.Time
	AuthTime time.Time // zero = not said
	ACR      string
	AMR      []string
	Nonce    string
	// SessionExpiry is the claim session_expiry: the provider's own end of the session; zero = not said.
	SessionExpiry time.Time
	// User is the display data: every other claim of the ID token as JSON members.
	User map[string]json.RawMessage
}

// Kind is what a failed call means for the caller. The rules are DESIGN.md section 9.5 and 9.6.
type Kind int

const (
	// Transient: nothing was spent, try later (failed before the request was written; 429; an OAuth error that
	// says so). RetryAfter may say when.
	Transient Kind = iota
	// Ambiguous: the request was written and no parseable OAuth answer came. A one-time token may be spent.
	Ambiguous
	// Definitive: the provider refused the grant (invalid_grant and its equals).
	Definitive
	// StepUp: the provider wants the user back (mfa_required, interaction_required, login_required, ...).
	StepUp
	// Misconfigured: the provider refused our client or our request (invalid_client, unauthorized_client, ...).
	Misconfigured
	// Rejected: the answer came but failed validation (ID token, token_type). Nothing of it may be used.
	Rejected
)

// Error is a failed call to the provider. Error() is for the operator: it holds the provider's error code, never
// a token. Nothing of Description may reach a browser.
type Error struct {
	Kind        Kind
	Act         string  // as event.Call.Act
	Status      int     // HTTP status, 0 = none came
	Code        string  // the OAuth error code, "" = none
	Description string  // the provider's words, cut to 200 printable characters
	Reason      Reason  // at a login by form: what it means for the person
	Meaning     Meaning // at a refused refresh: what it means for the operator
	RetryAfter  time.Duration
	Err         error

	numbers []int  // error_codes, where the provider sends them
	body    object // the answer; it may hold secrets and is never printed
}

// Text is a member of the refusal that is a string, "" where there is none: what goes on from a refusal needs the
// provider's mfa_token or auth_session. It may be a secret.
func (e *Error) Text(name string) string {
	m := &members{object: e.body}
	return m.text(name)
}

// Read reads a member of the refusal into a value, and reports whether it was there and fits.
func (e *Error) Read(name string, into any) bool {
	return e.body.has(name) && json.Unmarshal(e.body[name], into) == nil
}

func (k Kind) String() string {
	return [...]string{"transient", "ambiguous", "definitive", "step_up", "misconfigured", "rejected"}[k]
}

func (e *Error) Unwrap() error { return e.Err }
