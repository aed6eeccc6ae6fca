package oidc

import (
	"net/http"
	"slices"
	"strings"
)

// Reason is what a refused login by form means for the person.
type Reason string

// Reasons. They carry no word of the provider.
const (
	ReasonInvalidCredentials Reason = "invalid_credentials" // or a wrong code
	ReasonAccountBlocked     Reason = "account_blocked"
	ReasonPasswordBreached   Reason = "password_breached"
	ReasonPasswordExpired    Reason = "password_expired"
	ReasonPasswordRejected   Reason = "password_rejected" // a new one breaks the provider's rules
	ReasonAccessDenied       Reason = "access_denied"
	ReasonRateLimited        Reason = "rate_limited"
	ReasonConfig             Reason = "config_error"
	ReasonUnavailable        Reason = "unavailable"

	// The login goes on, here if the dialect knows how, else at the provider's page.
	ReasonSecondFactor Reason = "second_factor"
	ReasonCaptcha      Reason = "captcha"
	ReasonConsent      Reason = "consent"
	ReasonPolicy       Reason = "provider_policy"

	// Of a second factor.
	ReasonPending  Reason = "pending"  // nobody has answered yet
	ReasonDeclined Reason = "declined" // somebody said no on the other device
	ReasonExpired  Reason = "expired"  // the login must begin anew
)

// Meaning is what a provider's words at a refused refresh mean, for the operator.
type Meaning string

// Meanings. "" = the provider does not say.
const (
	MeaningExpired     Meaning = "expired"      // its time is over, or it was not used for too long
	MeaningRevoked     Meaning = "revoked"      // somebody took it back: the person, an operator, a changed password
	MeaningReused      Meaning = "reused"       // it had been presented before: two clients have it
	MeaningSessionOver Meaning = "session_over" // the provider's own session has ended
	MeaningBlocked     Meaning = "user_blocked"
	MeaningUnknown     Meaning = "unknown_token" // any of these, or never issued
)

// profile is what is known of a kind of provider, as data. What it does not say is as the standards say.
type profile struct {
	// audience is the parameter that selects the API: resource (RFC 8707) unless said otherwise.
	audience string
	// audienceScope says that the provider knows APIs by their scopes alone: an audience with this behind it is the scope
	// of all that the API has.
	audienceScope string
	// onBehalfOf says that tokens are exchanged by Entra's grant instead of RFC 8693.
	onBehalfOf bool
	// realmGrant is the grant type that takes a realm.
	realmGrant string
	// addressHeader tells the provider the person's address at a login by form.
	addressHeader string
	// logoutPath is a logout that is no end-session endpoint, on the host of the hosted page; logoutReturn is its
	// return parameter. logoutAlways uses it even where an end-session endpoint is advertised.
	logoutPath, logoutReturn string
	logoutAlways             bool
	// logoutHint says that logout_hint with the provider's sid ends the session without a question.
	logoutHint bool
	// authTimeMoves says that a refreshed ID token may tell of a later login of the same person.
	authTimeMoves bool
	// rules are the error answers that mean something of their own; the first that fits counts.
	rules []rule
}

// rule says what an error answer means. What is empty fits anything. Reasons that tell of an account's state stand
// only where the provider checks the password first: else strangers could ask who has an account.
type rule struct {
	act     string // the act, or how it begins
	status  int
	codes   []string
	numbers []int  // any of them in error_codes
	words   string // in the description; only where the provider says it in no better way
	kind    Kind
	reason  Reason
	meaning Meaning
}

func (r rule) fits(e *Error) bool {
	return strings.HasPrefix(e.Act, r.act) && (r.status == 0 || r.status == e.Status) &&
		(r.codes == nil || slices.Contains(r.codes, e.Code)) &&
		(r.numbers == nil || slices.ContainsFunc(e.numbers, func(n int) bool { return slices.Contains(r.numbers, n) })) &&
		strings.Contains(e.Description, r.words)
}

func (p profile) ruleFor(e *Error) (rule, bool) {
	if i := slices.IndexFunc(p.rules, func(r rule) bool { return r.fits(e) }); i >= 0 {
		return p.rules[i], true
	}
	return rule{}, false
}

func (p profile) audienceParameter() string {
	if p.audience != "" {
		return p.audience
	}
	return "resource"
}

// profiles hold the wire facts of BFF-PEERS.md sections 3.1 to 3.5.
var profiles = map[string]profile{
	"auth0": {
		audience: "audience", realmGrant: "http://auth0.com/oauth/grant-type/password-realm",
		addressHeader: "auth0-forwarded-for", logoutPath: "/v2/logout", logoutReturn: "returnTo", logoutHint: true,
		rules: slices.Concat(auth0Rules, factorRules),
	},
	"okta":     {rules: factorRules},
	"keycloak": {authTimeMoves: true, rules: keycloakRules},
	"entra":    {audienceScope: "/.default", onBehalfOf: true, rules: entraRules},
	"cognito":  {logoutPath: "/logout", logoutReturn: "logout_uri", logoutAlways: true, rules: cognitoRules},
	"generic":  {},
}

var auth0Rules = []rule{
	{status: http.StatusUnauthorized, codes: []string{"access_denied"}, kind: Misconfigured, reason: ReasonConfig}, // a wrong client secret
	{act: actRefresh, codes: []string{"access_denied"}, kind: Definitive},                                          // an Action said no
	{act: actRefresh, codes: []string{"unauthorized", "blocked_user"}, words: "blocked", kind: Definitive, meaning: MeaningBlocked},
	{act: actRefresh, codes: []string{"invalid_grant"}, words: "Unknown or invalid", kind: Definitive, meaning: MeaningUnknown},
	{act: actPassword, codes: []string{"access_denied"}, kind: Definitive, reason: ReasonAccessDenied},
	{act: actPassword, codes: []string{"invalid_user_password"}, kind: Definitive, reason: ReasonInvalidCredentials},
	{act: actPassword, codes: []string{"unauthorized", "blocked_user"}, kind: Definitive, reason: ReasonAccountBlocked},
	{act: actPassword, codes: []string{"password_leaked"}, kind: Definitive, reason: ReasonPasswordBreached},
	{act: actPassword, codes: []string{"requires_verification", "requires_validation"}, kind: StepUp, reason: ReasonCaptcha},
	{act: actPassword, codes: []string{"password_expired", "password_change_required"}, kind: StepUp, reason: ReasonPasswordExpired},
	{codes: []string{"too_many_attempts", "too_many_logins", "too_many_requests"}, kind: Transient, reason: ReasonRateLimited},
}

// factorRules are of the grants of a second factor at Auth0, which Okta shares. A refused push is told in two ways.
var factorRules = []rule{
	{act: "mfa_", codes: []string{"authorization_pending", "slow_down"}, kind: Transient, reason: ReasonPending},
	{act: "mfa_", codes: []string{"expired_token"}, kind: Definitive, reason: ReasonExpired},
	{act: "mfa_", codes: []string{"invalid_grant"}, words: "mfa_token", kind: Definitive, reason: ReasonExpired},
	{act: "mfa_", codes: []string{"invalid_grant"}, words: "ejected", kind: Definitive, reason: ReasonDeclined},
	{act: "mfa_", codes: []string{"access_denied"}, kind: Definitive, reason: ReasonDeclined},
	{act: "mfa_", codes: []string{"unsupported_challenge_type", "association_required"}, kind: StepUp, reason: ReasonPolicy},
}

// The password was right, and Keycloak's page asks for what is missing. A disabled account is said before the
// password is looked at, so it stays "wrong".
var keycloakRules = []rule{
	{act: actPassword, codes: []string{"invalid_grant"}, words: "not fully set up", kind: StepUp, reason: ReasonPolicy},
	{act: actPassword, codes: []string{"invalid_client"}, words: "consent", kind: StepUp, reason: ReasonConsent},
	{act: actRefresh, codes: []string{"invalid_grant"}, words: "reuse exceeded", kind: Definitive, meaning: MeaningReused},
	{act: actRefresh, codes: []string{"invalid_grant"}, words: "Stale token", kind: Definitive, meaning: MeaningReused},
	{act: actRefresh, codes: []string{"invalid_grant"}, words: "Session not active", kind: Definitive, meaning: MeaningSessionOver},
	{act: actRefresh, codes: []string{"invalid_grant"}, words: "have required client", kind: Definitive, meaning: MeaningSessionOver},
	{act: actRefresh, codes: []string{"invalid_grant"}, words: "Token is not active", kind: Definitive, meaning: MeaningExpired},
	{act: actRefresh, codes: []string{"invalid_grant"}, words: "User disabled", kind: Definitive, meaning: MeaningBlocked},
}

// Locked (50053), disabled (50057) and unknown (50034) are said before the password is looked at, so they stay "wrong".
var entraRules = []rule{
	{act: actPassword, numbers: []int{50055, 50142}, kind: StepUp, reason: ReasonPasswordExpired}, // expired; found in a leak
	{numbers: []int{50072, 50074, 50076, 50078, 50079}, kind: StepUp, reason: ReasonSecondFactor},
	{numbers: []int{50158, 53000, 53001, 53003}, kind: StepUp, reason: ReasonPolicy}, // conditional access
	{numbers: []int{65001}, kind: StepUp, reason: ReasonConsent},
	{act: actRefresh, numbers: []int{70008, 700082}, kind: Definitive, meaning: MeaningExpired},
	{act: actRefresh, numbers: []int{50173}, kind: Definitive, meaning: MeaningRevoked},
	{act: actRefresh, numbers: []int{50057}, kind: Definitive, meaning: MeaningBlocked},
}

// Cognito's own API says what happened by the type of an exception. That an account is locked or disabled may be said
// before the password is looked at, so it stays "wrong".
var cognitoRules = []rule{
	{act: "cognito_challenge", codes: []string{"CodeMismatchException", "EnableSoftwareTokenMFAException"}, kind: Definitive, reason: ReasonInvalidCredentials},
	{act: "cognito_challenge", codes: []string{"ExpiredCodeException", "NotAuthorizedException"}, kind: Definitive, reason: ReasonExpired},
	{act: "cognito", codes: []string{"InvalidPasswordException", "PasswordHistoryPolicyViolationException"}, kind: Definitive, reason: ReasonPasswordRejected},
	{act: "cognito", codes: []string{"NotAuthorizedException", "UserNotFoundException"}, kind: Definitive, reason: ReasonInvalidCredentials},
	{act: "cognito", codes: []string{"PasswordResetRequiredException"}, kind: StepUp, reason: ReasonPasswordExpired},
	{act: "cognito", codes: []string{"UserNotConfirmedException"}, kind: StepUp, reason: ReasonPolicy},
	{act: "cognito", codes: []string{"UserLambdaValidationException", "ForbiddenException"}, kind: Definitive, reason: ReasonAccessDenied},
	{act: "cognito", codes: []string{"TooManyRequestsException", "TooManyFailedAttemptsException", "LimitExceededException"}, kind: Transient, reason: ReasonRateLimited},
	{act: "cognito", codes: []string{"InternalErrorException"}, kind: Transient, reason: ReasonUnavailable},
}

// reasonOf says what an error means for a person who logs in by form, where no rule of the profile did.
func reasonOf(e *Error) Reason {
	switch {
	case e.Reason != "":
		return e.Reason
	case e.Status == http.StatusTooManyRequests, e.Code == "slow_down":
		return ReasonRateLimited
	case e.Code == "access_denied" && e.Status != http.StatusUnauthorized:
		return ReasonAccessDenied
	}
	if _, known := kinds[e.Code]; !known && e.Code != "" && e.Code != "access_denied" && e.Act == actPassword && e.Kind == Misconfigured {
		return ReasonPolicy // a no in words of the provider's own: its page can say them
	}
	switch e.Kind {
	case Misconfigured, Rejected:
		return ReasonConfig
	case StepUp:
		switch e.Code {
		case "mfa_required", "insufficient_authorization":
			return ReasonSecondFactor
		case "consent_required":
			return ReasonConsent
		}
		return ReasonPolicy
	case Definitive:
		return ReasonInvalidCredentials
	}
	return ReasonUnavailable
}
