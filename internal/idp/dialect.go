package idp

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// dialect is what differs from provider to provider, as data where it can be.
type dialect struct {
	// paths makes the addresses from the issuer's path; what it leaves out is as the generic provider has it.
	paths  func(base string) addresses
	grants map[string]grant
	words  map[verdict]*oauthError // how it says what happened; what it leaves out is said as the generic provider does
	// shape makes the body of an error. nil is RFC 6749 section 5.2.
	shape func(p *Provider, e *oauthError) map[string]any
	// extras are further members of a token answer, and changes to the usual ones.
	extras func(p *Provider, g granted, answer map[string]any)
	// claims are further claims of an ID token.
	claims func(u User, f *family, claims map[string]any)
	// wayOn is what a refusal for want of a second factor holds, so that the login can go on. nil is nothing.
	wayOn func(p *Provider, a *attempt) map[string]any
	// document holds further members of the discovery document.
	document map[string]any
	// linked are members of the discovery document that are paths here.
	linked map[string]string
	// ended is the logout. nil is RP-initiated logout.
	ended  func(p *Provider, c *call)
	routes func(p *Provider)

	rotation     string
	leeway       time.Duration
	alwaysFresh  bool // a refresh token without the scope offline_access
	bruteForce   bool // wrong passwords are counted
	sids         bool // a password grant begins a session with a sid
	logoutHidden bool // the discovery document does not name the logout
	issuerBack   bool // the authorization response names the issuer (RFC 9207)
}

// What a refresh does with the token that was spent.
const (
	rotate = "rotate"
	keep   = "keep"
	omit   = "omit"
)

// addresses are where things are: paths, and the site they are on.
type addresses struct {
	origin, base                                     string
	authorize, token, jwks, revoke, logout, userinfo string
}

func (d dialect) addresses(issuer string) (addresses, error) {
	site, base, err := origin(issuer)
	if err != nil {
		return addresses{}, err
	}
	at := addresses{authorize: "/authorize", token: "/token", jwks: "/jwks", revoke: "/revoke", logout: "/logout", userinfo: "/userinfo"}
	if d.paths != nil {
		at = d.paths(base)
	}
	at.origin, at.base = site, base
	return at, nil
}

// under puts the usual paths below a prefix.
func under(prefix string) addresses {
	return addresses{
		authorize: prefix + "/authorize", token: prefix + "/token", jwks: prefix + "/keys", revoke: prefix + "/revoke",
		logout: prefix + "/logout", userinfo: prefix + "/userinfo",
	}
}

func (d dialect) grantTypes() []string { return slices.Sorted(maps.Keys(d.grants)) }

func (d dialect) discovery(p *Provider) map[string]any {
	doc := maps.Clone(d.document)
	if doc == nil {
		doc = map[string]any{}
	}
	for name, path := range d.linked {
		doc[name] = p.at.origin + path
	}
	if d.issuerBack {
		doc["authorization_response_iss_parameter_supported"] = true
	}
	if !d.logoutHidden {
		doc["end_session_endpoint"] = p.at.origin + p.at.logout
	}
	return doc
}

func (d dialect) logout(p *Provider) func(*call) {
	if d.ended == nil {
		return p.logout
	}
	return func(c *call) { d.ended(p, c) }
}

// dialects are all of them. It is a function because grants and routes are methods that need them.
func dialects() map[string]dialect {
	return map[string]dialect{
		"": generic(), "generic": generic(), "auth0": auth0(), "okta": okta(), "keycloak": keycloak(), "entra": entra(),
		"cognito": cognito(), "challenge": challenge(),
	}
}

// generic has no second factor in the password grant: mfa_required comes without a way on, so that a client must send
// the person to the hosted page.
func generic() dialect {
	return dialect{
		grants: plainGrants(), rotation: rotate, issuerBack: true,
		document: map[string]any{
			"prompt_values_supported":              []string{"none", "login"},
			"backchannel_logout_supported":         true,
			"backchannel_logout_session_supported": true,
		},
	}
}

// plainGrants are those that every provider has, but for Cognito.
func plainGrants() map[string]grant {
	return map[string]grant{
		"authorization_code": (*Provider).exchange, "refresh_token": (*Provider).rotate, "password": (*Provider).password,
	}
}

// verdict is what came of a question, before a dialect finds words for it. "" is good.
type verdict string

// Verdicts.
const (
	unknownClient  verdict = "unknown client"
	unknownGrant   verdict = "unknown grant"
	badRequest     verdict = "bad request"
	badGrant       verdict = "bad grant"  // a code, or a refresh token that was never issued, or is over
	reusedGrant    verdict = "reused"     // a refresh token that was spent
	deadGrant      verdict = "dead grant" // its family was revoked
	wrongPassword  verdict = "wrong password"
	tooManyWrong   verdict = "too many wrong passwords"
	tooManyCalls   verdict = "too many calls"
	isLocked       verdict = "blocked"
	isBreached     verdict = "breached"
	needsCaptcha   verdict = "captcha"
	isDenied       verdict = "denied"
	isUnverified   verdict = "unverified"
	isExpired      verdict = "password expired"
	needsConsent   verdict = "consent"
	needsFactor    verdict = "second factor"
	factorRefresh  verdict = "second factor at refresh"
	wrongCode      verdict = "wrong code"
	wrongOOBCode   verdict = "wrong sent code"
	wrongRecovery  verdict = "wrong recovery code"
	codeUsed       verdict = "code used before"
	codeOver       verdict = "code expired"
	tooManyCodes   verdict = "too many wrong codes"
	tooManySent    verdict = "too many codes sent"
	isPending      verdict = "pending"
	isFast         verdict = "slow down"
	isRejected     verdict = "rejected"
	isRejectedAlso verdict = "rejected, said otherwise"
	attemptOver    verdict = "attempt expired"
	attemptUnknown verdict = "attempt unknown"
	noSuchFactor   verdict = "no such factor"
	mustEnrol      verdict = "must enrol"
	hasEnrolled    verdict = "has enrolled"
)

// genericWords are Auth0's where no standard has any: demos speak them.
var genericWords = map[verdict]*oauthError{
	unknownClient:  {status: http.StatusUnauthorized, code: "invalid_client", description: "The client is not known by this secret."},
	unknownGrant:   {status: http.StatusBadRequest, code: "unsupported_grant_type", description: "There is no such grant here."},
	badRequest:     {status: http.StatusBadRequest, code: "invalid_request", description: "A parameter is missing or makes no sense."},
	badGrant:       {status: http.StatusBadRequest, code: "invalid_grant", description: "The grant is not valid, or was used before."},
	reusedGrant:    {status: http.StatusBadRequest, code: "invalid_grant", description: "The grant is not valid, or was used before."},
	deadGrant:      {status: http.StatusBadRequest, code: "invalid_grant", description: "The grant is not valid, or was used before."},
	wrongPassword:  {status: http.StatusForbidden, code: "invalid_grant", description: "Wrong email or password."},
	tooManyWrong:   {status: http.StatusTooManyRequests, code: "too_many_attempts", description: "Your account has been blocked after multiple consecutive login attempts."},
	tooManyCalls:   {status: http.StatusTooManyRequests, code: "too_many_requests", description: "Global limit has been reached."},
	isLocked:       {status: http.StatusUnauthorized, code: "unauthorized", description: "user is blocked"},
	isBreached:     {status: http.StatusUnauthorized, code: "password_leaked", description: "This login has been blocked because the password was leaked. A mail was sent."},
	needsCaptcha:   {status: http.StatusUnauthorized, code: "requires_verification", description: "Suspicious request requires verification"},
	isDenied:       {status: http.StatusForbidden, code: "access_denied", description: "You are not on the list."},
	isUnverified:   {status: http.StatusForbidden, code: "access_denied", description: "Please verify your email before logging in."},
	isExpired:      {status: http.StatusUnauthorized, code: "password_expired", description: "The password is too old."},
	needsConsent:   {status: http.StatusForbidden, code: "consent_required", description: "The user has not agreed yet."},
	needsFactor:    {status: http.StatusBadRequest, code: "mfa_required", description: "A second factor is needed, which this grant cannot ask for."},
	factorRefresh:  {status: http.StatusBadRequest, code: "mfa_required", description: "A second factor is needed, which this grant cannot ask for."},
	wrongCode:      {status: http.StatusForbidden, code: "invalid_grant", description: "Invalid otp_code."},
	wrongOOBCode:   {status: http.StatusForbidden, code: "invalid_grant", description: "Invalid binding_code."},
	wrongRecovery:  {status: http.StatusForbidden, code: "invalid_grant", description: "Invalid recovery_code."},
	codeOver:       {status: http.StatusForbidden, code: "invalid_grant", description: "The code is too old."},
	tooManyCodes:   {status: http.StatusTooManyRequests, code: "too_many_attempts", description: "Too many wrong codes.", retry: codeRefill},
	tooManySent:    {status: http.StatusTooManyRequests, code: "too_many_requests", description: "Too many codes were sent.", retry: sendRefill},
	isPending:      {status: http.StatusBadRequest, code: "authorization_pending", description: "Authorization pending: please repeat the request in a few seconds."},
	isFast:         {status: http.StatusBadRequest, code: "slow_down", description: "You are polling faster than allowed. Try again in a few seconds."},
	isRejected:     {status: http.StatusBadRequest, code: "access_denied", description: "MFA Authorization rejected."},
	isRejectedAlso: {status: http.StatusBadRequest, code: "invalid_grant", description: "MFA Authorization rejected."},
	attemptOver:    {status: http.StatusUnauthorized, code: "expired_token", description: "mfa_token is expired"},
	attemptUnknown: {status: http.StatusUnauthorized, code: "invalid_grant", description: "Malformed mfa_token"},
	noSuchFactor:   {status: http.StatusBadRequest, code: "unsupported_challenge_type", description: "User does not have a factor of these types enrolled"},
	mustEnrol:      {status: http.StatusBadRequest, code: "association_required", description: "User must associate a factor first"},
	hasEnrolled:    {status: http.StatusForbidden, code: "access_denied", description: "User is already enrolled."},
}

// oauthError is a refusal.
type oauthError struct {
	status            int
	code, description string
	extra             map[string]any // further members
	retry             time.Duration  // Retry-After
}

// with adds members.
func (e *oauthError) with(extra map[string]any) *oauthError {
	more := *e
	more.extra = maps.Clone(e.extra)
	if more.extra == nil {
		more.extra = map[string]any{}
	}
	maps.Copy(more.extra, extra)
	return &more
}

// say puts a verdict in the dialect's words.
func (p *Provider) say(v verdict) *oauthError {
	if v == codeUsed { // only Cognito tells them apart
		v = wrongCode
	}
	if e, ok := p.dialect.words[v]; ok {
		return e
	}
	if e, ok := genericWords[v]; ok {
		return e
	}
	return &oauthError{status: http.StatusInternalServerError, code: "server_error", description: string(v)}
}

// refuse answers with an error in the dialect's shape.
func (p *Provider) refuse(w http.ResponseWriter, e *oauthError) {
	if e.retry > 0 {
		w.Header().Set("Retry-After", seconds(e.retry))
	}
	body := map[string]any{"error": e.code, "error_description": e.description}
	if p.dialect.shape != nil {
		body = p.dialect.shape(p, e)
	}
	maps.Copy(body, e.extra)
	writeJSON(w, e.status, body)
}
