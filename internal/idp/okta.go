package idp

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// okta is Okta: a custom authorization server with Direct Authentication.
func okta() dialect {
	grants := plainGrants()
	grants[grantURI+"mfa-otp"] = (*Provider).byOTP
	grants[grantURI+"mfa-oob"] = (*Provider).byOOB
	return dialect{
		paths:  func(base string) addresses { return under(base + "/v1") },
		grants: grants, rotation: rotate, leeway: 30 * time.Second, bruteForce: true,
		words: oktaWords,
		wayOn: func(p *Provider, a *attempt) map[string]any {
			return map[string]any{"mfa_token": p.begin("mfa_token", "", a)}
		},
		ended: (*Provider).oktaLogout,
		routes: func(p *Provider) {
			p.handle("POST "+p.at.base+"/v1/challenge", "mfa_challenge", p.oktaChallenge)
		},
	}
}

// oktaWrong is said of a locked account, too.
var (
	oktaWrong  = &oauthError{status: http.StatusBadRequest, code: "invalid_grant", description: "The credentials provided were invalid."}
	oktaPolicy = &oauthError{status: http.StatusBadRequest, code: "access_denied", description: "Policy evaluation failed for this request, please check the policy configurations."}
	oktaToken  = &oauthError{status: http.StatusBadRequest, code: "invalid_grant", description: "The refresh token is invalid or expired."}
)

var oktaWords = map[verdict]*oauthError{
	unknownClient:  {status: http.StatusUnauthorized, code: "invalid_client", description: "The client secret supplied for a confidential client is invalid."},
	badGrant:       oktaToken,
	reusedGrant:    oktaToken,
	deadGrant:      oktaToken,
	wrongPassword:  oktaWrong,
	isLocked:       oktaWrong,
	tooManyWrong:   oktaWrong,
	isBreached:     oktaPolicy,
	needsCaptcha:   oktaPolicy,
	isDenied:       oktaPolicy,
	isUnverified:   oktaPolicy,
	isExpired:      oktaPolicy,
	needsConsent:   oktaPolicy,
	needsFactor:    {status: http.StatusForbidden, code: "mfa_required", description: "MFA is required for this request."},
	factorRefresh:  {status: http.StatusForbidden, code: "mfa_required", description: "MFA is required for this request."},
	wrongCode:      {status: http.StatusBadRequest, code: "invalid_grant", description: "The passcode is invalid."},
	wrongOOBCode:   {status: http.StatusBadRequest, code: "invalid_grant", description: "The passcode is invalid."},
	codeOver:       {status: http.StatusBadRequest, code: "invalid_grant", description: "The passcode is expired."},
	tooManyCodes:   {status: http.StatusTooManyRequests, code: "too_many_requests", description: "API call exceeded rate limit due to too many requests.", retry: codeRefill},
	tooManySent:    {status: http.StatusTooManyRequests, code: "too_many_requests", description: "API call exceeded rate limit due to too many requests.", retry: sendRefill},
	isPending:      {status: http.StatusBadRequest, code: "authorization_pending", description: "The user has not yet responded to the challenge."},
	isFast:         {status: http.StatusBadRequest, code: "slow_down", description: "The polling interval is too short."},
	isRejected:     {status: http.StatusBadRequest, code: "access_denied", description: "The user rejected the challenge."},
	isRejectedAlso: {status: http.StatusBadRequest, code: "invalid_grant", description: "The user rejected the challenge."},
	attemptOver:    {status: http.StatusBadRequest, code: "invalid_grant", description: "The mfa_token is expired."},
	attemptUnknown: {status: http.StatusBadRequest, code: "invalid_grant", description: "The mfa_token is invalid."},
}

// oktaChallenge starts a factor of the kind that channel_hint names. There is no list of them.
func (p *Provider) oktaChallenge(c *call) {
	client, ok := p.authenticate(c)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.unlock()
	a, v := p.attempt(c.form.Get("mfa_token"), client.ID)
	if v != "" {
		p.deny(c, p.say(v))
		return
	}
	f, ok := oktaWanted(p.userOf(a).Factors, strings.Fields(c.form.Get("challenge_types_supported")), c.form.Get("channel_hint"))
	if !ok {
		p.deny(c, p.say(noSuchFactor))
		return
	}
	if v := p.choose(a, f); v != "" {
		p.deny(c, p.say(v))
		return
	}
	c.log(c.act, "ok", p.userOf(a).Username)
	writeJSON(c.w, http.StatusOK, p.oktaChallenged(a))
}

func oktaWanted(factors []Factor, types []string, hint string) (Factor, bool) {
	if hint != "" {
		if !slices.Contains(types, grantURI+"mfa-oob") || hint == "otp" {
			return Factor{}, false
		}
		return first(factors, hint)
	}
	if slices.Contains(types, grantURI+"mfa-oob") {
		if f, ok := first(factors, "push", "sms", "voice", "email"); ok {
			return f, true
		}
	}
	if slices.Contains(types, grantURI+"mfa-otp") {
		return first(factors, "otp")
	}
	return Factor{}, false
}

// oktaChallenged tells of the chosen factor. A push with a number shows it to the person.
func (p *Provider) oktaChallenged(a *attempt) map[string]any {
	if a.factor.Type == "otp" {
		return map[string]any{"challenge_type": grantURI + "mfa-otp"}
	}
	answer := map[string]any{
		"challenge_type": grantURI + "mfa-oob", "oob_code": p.oobCode(a), "channel": a.factor.Type, "expires_in": int(sentLife / time.Second),
		"interval": int(max(p.PushInterval, time.Second) / time.Second), "binding_method": "prompt",
	}
	if a.factor.Type == "push" {
		answer["binding_method"] = "none"
		if a.factor.Number != "" {
			answer["binding_method"], answer["binding_code"] = "transfer", a.factor.Number
		}
	}
	return answer
}

// oktaLogout needs the hint.
func (p *Provider) oktaLogout(c *call) {
	if p.audienceOf(c.r.URL.Query().Get("id_token_hint")) == "" {
		p.page(c.w, http.StatusBadRequest, view{Problem: "The id_token_hint is missing or not valid."})
		return
	}
	p.logout(c)
}
