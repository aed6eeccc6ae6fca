package oidc

// Reason is what a refused login by form means for the person.
type Reason string

// Reasons. They carry no word of the provider.
const (
	ReasonInvalidCredentials Reason = "invalid_credentials"
	ReasonAccountBlocked     Reason = "account_blocked"
	ReasonPasswordBreached   Reason = "password_breached"
	ReasonAccessDenied       Reason = "access_denied"
	ReasonRateLimited        Reason = "rate_limited"
	ReasonStepUp             Reason = "step_up" // the form cannot do what the provider wants; its page can
	ReasonConfig             Reason = "config_error"
	ReasonUnavailable        Reason = "unavailable"
)

// profile is what is known of a kind of provider, as data. What it does not say is as the standards say.
type profile struct {
	// audience is the parameter that selects the API: resource (RFC 8707) unless said otherwise.
	audience string
	// realmGrant is the grant type that takes a realm.
	realmGrant string
	// addressHeader tells the provider the person's address at a login by form.
	addressHeader string
	// ownLogout is the path of a logout that is no end-session endpoint, ownLogoutReturn its return parameter.
	ownLogout, ownLogoutReturn string
	// logoutHintSuffices says that logout_hint with the provider's sid ends the session without a question.
	logoutHintSuffices bool
	// password maps the error codes of a login by form that differ from the generic table. Codes that tell of an
	// account's state are here only where the provider checks the password first.
	password map[string]Reason
}

func (p profile) audienceParameter() string {
	if p.audience != "" {
		return p.audience
	}
	return "resource"
}

// generic is what error codes mean at a login by form, whoever the provider is.
var generic = map[string]Reason{
	"invalid_grant":              ReasonInvalidCredentials,
	"access_denied":              ReasonAccessDenied,
	"mfa_required":               ReasonStepUp,
	"interaction_required":       ReasonStepUp,
	"login_required":             ReasonStepUp,
	"consent_required":           ReasonStepUp,
	"insufficient_authorization": ReasonStepUp,
	"slow_down":                  ReasonRateLimited,
	"invalid_client":             ReasonConfig,
	"unauthorized_client":        ReasonConfig,
	"unsupported_grant_type":     ReasonConfig,
	"invalid_scope":              ReasonConfig,
	"invalid_request":            ReasonConfig,
	"invalid_target":             ReasonConfig,
}

// profiles hold the wire facts of BFF-PEERS.md sections 3.1 to 3.5.
var profiles = map[string]profile{
	"auth0": {
		audience: "audience", realmGrant: "http://auth0.com/oauth/grant-type/password-realm",
		addressHeader: "auth0-forwarded-for", ownLogout: "/v2/logout", ownLogoutReturn: "returnTo", logoutHintSuffices: true,
		password: map[string]Reason{
			"invalid_user_password": ReasonInvalidCredentials,
			"unauthorized":          ReasonAccountBlocked,
			"blocked_user":          ReasonAccountBlocked,
			"password_leaked":       ReasonPasswordBreached,
			"requires_verification": ReasonStepUp,
			"requires_validation":   ReasonStepUp,
			"too_many_attempts":     ReasonRateLimited,
			"too_many_logins":       ReasonRateLimited,
			"too_many_requests":     ReasonRateLimited,
		},
	},
	"okta":     {},
	"keycloak": {},
	"entra":    {password: map[string]Reason{"invalid_request": ReasonConfig}},
	"cognito":  {ownLogout: "/logout", ownLogoutReturn: "logout_uri"},
	"generic":  {},
}

// reasonOf says what an error means for a person who logs in by form.
func (p profile) reasonOf(e *Error) Reason {
	if r, ok := p.password[e.Code]; ok {
		return r
	}
	if e.Status == 429 {
		return ReasonRateLimited
	}
	if r, ok := generic[e.Code]; ok {
		return r
	}
	switch e.Kind {
	case Misconfigured:
		return ReasonConfig
	case StepUp:
		return ReasonStepUp
	case Definitive:
		return ReasonInvalidCredentials
	}
	return ReasonUnavailable
}
