package idp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	awsType   = "application/x-amz-json-1.1"
	awsTarget = "AWSCognitoIdentityProviderService."
	// awsAct says that the act is in the request: one address takes everything.
	awsAct = "aws"
	// awsSession is how long a Session is good.
	awsSession = 3 * time.Minute
)

// cognito is Amazon Cognito: no password grant, but a JSON API of challenges; and the hosted page with its endpoints.
func cognito() dialect {
	return dialect{
		paths: func(base string) addresses {
			return addresses{
				authorize: "/oauth2/authorize", token: "/oauth2/token", jwks: base + "/.well-known/jwks.json", revoke: "/oauth2/revoke",
				logout: "/logout", userinfo: "/oauth2/userInfo",
			}
		},
		grants: map[string]grant{"authorization_code": (*Provider).exchange, "refresh_token": (*Provider).rotate},
		words: map[verdict]*oauthError{
			unknownClient: {status: http.StatusBadRequest, code: "invalid_client"},
			factorRefresh: {status: http.StatusBadRequest, code: "invalid_grant"},
			badGrant:      {status: http.StatusBadRequest, code: "invalid_grant"},
			reusedGrant:   {status: http.StatusBadRequest, code: "invalid_grant"},
			deadGrant:     {status: http.StatusBadRequest, code: "invalid_grant"},
		},
		shape:    func(_ *Provider, e *oauthError) map[string]any { return map[string]any{"error": e.code} },
		rotation: omit, alwaysFresh: true, bruteForce: true, logoutHidden: true,
		extras: func(_ *Provider, _ granted, answer map[string]any) { delete(answer, "scope") },
		claims: func(u User, _ *family, claims map[string]any) {
			claims["token_use"], claims["cognito:username"] = "id", u.Username
		},
		linked: map[string]string{"userinfo_endpoint": "/oauth2/userInfo"},
		ended:  (*Provider).cognitoLogout,
		routes: func(p *Provider) { p.handle("POST /{$}", awsAct, p.aws) },
	}
}

// cognitoLogout goes to logout_uri, or with redirect_uri back to the login page.
func (p *Provider) cognitoLogout(c *call) {
	q := c.r.URL.Query()
	client, ok := p.client(q.Get("client_id"))
	to := q.Get("logout_uri")
	again := slices.Contains(client.RedirectURIs, q.Get("redirect_uri")) && q.Get("response_type") != ""
	if !ok || !again && !slices.Contains(client.PostLogoutRedirectURIs, to) {
		p.page(c.w, http.StatusBadRequest, view{Problem: "Required parameters are missing, or the address is not registered here."})
		return
	}
	if !p.leave(c) {
		return
	}
	if to == "" {
		to = p.at.authorize + "?" + q.Encode()
	}
	p.redirect(c, to)
}

// exceptions are verdicts in the words of the API. An unknown user is a wrong password there.
var exceptions = map[verdict][2]string{
	wrongPassword:  {"NotAuthorizedException", "Incorrect username or password."},
	tooManyWrong:   {"NotAuthorizedException", "Password attempts exceeded"},
	isLocked:       {"NotAuthorizedException", "User is disabled."},
	isDenied:       {"UserLambdaValidationException", "PreAuthentication failed with error You are not on the list."},
	needsCaptcha:   {"UserLambdaValidationException", "PreAuthentication failed with error A person is needed."},
	needsConsent:   {"UserLambdaValidationException", "PreAuthentication failed with error The user has not agreed yet."},
	isBreached:     {"PasswordResetRequiredException", "Password reset required for the user"},
	isUnverified:   {"UserNotConfirmedException", "User is not confirmed."},
	wrongCode:      {"CodeMismatchException", "Invalid code or auth state for the user."},
	wrongOOBCode:   {"CodeMismatchException", "Invalid code or auth state for the user."},
	codeUsed:       {"ExpiredCodeException", "Your software token has already been used once."},
	codeOver:       {"ExpiredCodeException", "Invalid code provided, please request a code again."},
	tooManyCodes:   {"LimitExceededException", "Attempt limit exceeded, please try after some time."},
	tooManySent:    {"LimitExceededException", "Attempt limit exceeded, please try after some time."},
	attemptOver:    {"NotAuthorizedException", "Invalid session for the user, session is expired."},
	attemptUnknown: {"NotAuthorizedException", "Invalid session for the user."},
	weakPassword:   {"InvalidPasswordException", "Password did not conform with policy: Password not long enough"},
	unknownClient:  {"NotAuthorizedException", "Unable to verify secret hash for client"},
	badGrant:       {"NotAuthorizedException", "Invalid Refresh Token"},
	reusedGrant:    {"NotAuthorizedException", "Refresh Token has been revoked"},
	deadGrant:      {"NotAuthorizedException", "Refresh Token has been revoked"},
	factorRefresh:  {"NotAuthorizedException", "Refresh Token has been revoked"},
	badRequest:     {"InvalidParameterException", "A parameter is missing or makes no sense."},
	noSuchFactor:   {"InvalidParameterException", "The user has no such factor."},
}

// awsOperations are what X-Amz-Target can name. p.mu is held. A verdict is an exception.
var awsOperations = map[string]func(*Provider, asked) (any, verdict){
	"InitiateAuth":              (*Provider).awsInitiate,
	"RespondToAuthChallenge":    (*Provider).awsRespond,
	"GetTokensFromRefreshToken": (*Provider).awsRefresh,
	"RevokeToken":               (*Provider).awsRevoke,
	"AssociateSoftwareToken":    (*Provider).awsAssociate,
	"VerifySoftwareToken":       (*Provider).awsVerify,
}

// awsActOf names what is asked.
func awsActOf(c *call) string {
	switch target := strings.TrimPrefix(c.r.Header.Get("X-Amz-Target"), awsTarget); target {
	case "InitiateAuth":
		if strings.HasPrefix(c.form.Get("AuthFlow"), "REFRESH_TOKEN") {
			return "refresh_token"
		}
		return "password"
	case "RespondToAuthChallenge":
		if act := map[string]string{
			"SOFTWARE_TOKEN_MFA": "mfa_otp", "SMS_MFA": "mfa_oob", "EMAIL_OTP": "mfa_oob", "SELECT_MFA_TYPE": "mfa_challenge",
			"MFA_SETUP": "mfa_setup", "NEW_PASSWORD_REQUIRED": "new_password",
		}[c.form.Get("ChallengeName")]; act != "" {
			return act
		}
	case "GetTokensFromRefreshToken":
		return "refresh_token"
	case "RevokeToken":
		return "revoke"
	case "AssociateSoftwareToken":
		return "mfa_associate"
	case "VerifySoftwareToken":
		return "mfa_verify"
	}
	return awsAct
}

// aws is the JSON API.
func (p *Provider) aws(c *call) {
	c.w.Header().Set("Content-Type", awsType)
	c.w.Header().Set("X-Amzn-Requestid", uuid())
	do, ok := awsOperations[strings.TrimPrefix(c.r.Header.Get("X-Amz-Target"), awsTarget)]
	if !ok || !strings.HasPrefix(c.r.Header.Get("Content-Type"), awsType) {
		p.except(c, "UnknownOperationException", "")
		return
	}
	for _, name := range []string{
		"AuthParameters.PASSWORD", "ChallengeResponses.NEW_PASSWORD", "ChallengeResponses.SOFTWARE_TOKEN_MFA_CODE", "ChallengeResponses.SMS_MFA_CODE",
		"ChallengeResponses.EMAIL_OTP_CODE", "UserCode",
	} {
		p.witness(name, c.form.Get(name))
	}
	p.mu.Lock()
	defer p.unlock()
	client, known := p.client(c.form.Get("ClientId"))
	if !known && (c.form.Has("ClientId") || !c.form.Has("Session")) { // a Session names its client
		p.except(c, "ResourceNotFoundException", "User pool client does not exist.")
		return
	}
	answer, v := do(p, asked{c, client})
	if v != "" {
		e, ok := exceptions[v]
		if !ok {
			e = [2]string{"InternalErrorException", string(v)}
		}
		p.except(c, e[0], e[1])
		return
	}
	if err := p.save(); err != nil {
		p.except(c, "InternalErrorException", unwritten.description)
		return
	}
	if len(c.entries) == 0 {
		c.log(c.act, "ok", "")
	}
	writeJSON(c.w, http.StatusOK, answer)
}

// except answers with an exception.
func (p *Provider) except(c *call, kind, message string) {
	c.log(c.act, kind, "")
	c.w.Header().Set("X-Amzn-Errortype", kind+":")
	status := http.StatusBadRequest
	if kind == "InternalErrorException" {
		status = http.StatusInternalServerError
	}
	writeJSON(c.w, status, map[string]string{"__type": kind, "message": message})
}

// secretHash checks SECRET_HASH for a name of the user.
func secretHash(client Client, given string, names ...string) bool {
	for _, name := range names {
		mac := hmac.New(sha256.New, []byte(client.Secret))
		mac.Write([]byte(name + client.ID))
		if same(given, base64.StdEncoding.EncodeToString(mac.Sum(nil))) {
			return true
		}
	}
	return false
}

func (p *Provider) awsInitiate(a asked) (any, verdict) {
	parameter := func(name string) string { return a.form.Get("AuthParameters." + name) }
	switch a.form.Get("AuthFlow") {
	case "USER_PASSWORD_AUTH":
	case "REFRESH_TOKEN_AUTH", "REFRESH_TOKEN":
		if p.Rotation == rotate {
			return nil, badGrant
		}
		return p.awsTokensFor(a, parameter("REFRESH_TOKEN"), parameter("SECRET_HASH"))
	default:
		return nil, badRequest
	}
	name := parameter("USERNAME")
	if name == "" || parameter("PASSWORD") == "" {
		return nil, badRequest
	}
	if !secretHash(a.client, parameter("SECRET_HASH"), name) {
		return nil, unknownClient
	}
	u, v := p.knock(name, parameter("PASSWORD"), a.address)
	at := &attempt{Client: a.client.ID, Subject: u.subject(), Scope: "openid email profile", AMR: []string{"pwd"}, Since: p.now()}
	return p.awsGoOn(a, at, v)
}

// awsGoOn answers with the tokens, or with the challenge that comes next.
func (p *Provider) awsGoOn(a asked, at *attempt, v verdict) (any, verdict) {
	u := p.userOf(at)
	switch v {
	case "":
		a.log(a.act, "ok", u.Username)
		return p.awsTokens(p.grantTo(a.client, at), u)
	case isExpired:
		return p.awsChallenge(at, "NEW_PASSWORD_REQUIRED", map[string]string{"userAttributes": "{}", "requiredAttributes": "[]"}), ""
	case needsFactor:
		return p.awsFactor(at, u)
	}
	return nil, v
}

func (p *Provider) awsRefresh(a asked) (any, verdict) {
	if !same(a.form.Get("ClientSecret"), a.client.Secret) {
		return nil, unknownClient
	}
	return p.awsTokensFor(a, a.form.Get("RefreshToken"), "")
}

// awsTokensFor refreshes. The hash is made with the user's real name, whatever they typed at the login.
func (p *Provider) awsTokensFor(a asked, token, given string) (any, verdict) {
	f := p.state.Families[p.state.Refresh[hash(token)]]
	if f == nil {
		return nil, badGrant
	}
	u, _ := p.find(f.Subject)
	if given != "" && !secretHash(a.client, given, u.Username, u.subject()) || given == "" && a.form.Has("AuthFlow") {
		return nil, unknownClient
	}
	g, v := p.refreshed(a, token)
	if v != "" {
		return nil, v
	}
	a.log(a.act, "ok", u.Username)
	return p.awsTokens(g, u)
}

// awsTokens is AuthenticationResult. Its access token is for Cognito's own API.
func (p *Provider) awsTokens(g granted, u User) (any, verdict) {
	answer, err := p.issue(g)
	if err != nil {
		return nil, verdict("server error")
	}
	result := map[string]any{
		"AccessToken": answer["access_token"], "ExpiresIn": answer["expires_in"], "TokenType": "Bearer", "IdToken": answer["id_token"],
	}
	if rt, ok := answer["refresh_token"]; ok {
		result["RefreshToken"] = rt
	}
	return map[string]any{"AuthenticationResult": result, "ChallengeParameters": map[string]string{}}, ""
}

func (p *Provider) awsRevoke(a asked) (any, verdict) {
	if !same(a.form.Get("ClientSecret"), a.client.Secret) {
		return nil, unknownClient
	}
	p.end(a.call, a.client, a.form.Get("Token"))
	return map[string]any{}, ""
}
