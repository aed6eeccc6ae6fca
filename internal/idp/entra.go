package idp

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// entra is Microsoft Entra ID: the password grant, which a second factor blocks without a way on. Errors have numbers.
func entra() dialect {
	grants := plainGrants()
	grants["password"] = (*Provider).entraPassword
	return dialect{
		paths: func(base string) addresses {
			tenant := strings.TrimSuffix(base, "/v2.0")
			at := under(tenant + "/oauth2/v2.0")
			at.jwks, at.revoke, at.userinfo = tenant+"/discovery/v2.0/keys", "", "/oidc/userinfo"
			return at
		},
		grants: grants, rotation: keep, bruteForce: true,
		words: entraWords, shape: entraShape,
		extras: func(_ *Provider, _ granted, answer map[string]any) { answer["ext_expires_in"] = answer["expires_in"] },
		linked: map[string]string{"userinfo_endpoint": "/oidc/userinfo"},
		document: map[string]any{
			"frontchannel_logout_supported": true, "http_logout_supported": true, "request_uri_parameter_supported": false,
		},
		ended: (*Provider).entraLogout,
	}
}

// aadsts is an error with its number.
func aadsts(code string, number int, words string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: code, description: words, extra: map[string]any{"error_codes": []int{number}}}
}

var entraWords = map[verdict]*oauthError{
	unknownClient: {
		status: http.StatusUnauthorized, code: "invalid_client", description: "Invalid client secret provided.",
		extra: map[string]any{"error_codes": []int{7000215}},
	},
	unknownGrant:  aadsts("unsupported_grant_type", 70003, "The app requested an unsupported grant type."),
	badRequest:    aadsts("invalid_request", 900144, "The request body must contain the following parameter."),
	badGrant:      aadsts("invalid_grant", 70008, "The provided authorization code or refresh token has expired due to inactivity."),
	reusedGrant:   aadsts("invalid_grant", 70008, "The provided authorization code or refresh token has expired due to inactivity."),
	deadGrant:     aadsts("invalid_grant", 50173, "The provided grant has expired due to it being revoked, a fresh auth token is needed."),
	wrongPassword: aadsts("invalid_grant", 50126, "Error validating credentials due to invalid username or password."),
	tooManyWrong:  aadsts("invalid_grant", 50053, "The account is locked, you've tried to sign in too many times with an incorrect user ID or password."),
	isLocked:      aadsts("invalid_grant", 50057, "The user account is disabled."),
	isExpired:     aadsts("invalid_grant", 50055, "The password is expired."),
	isBreached:    aadsts("invalid_grant", 50142, "Password change is required due to a conditional access policy."),
	isDenied:      aadsts("invalid_grant", 53003, "Access has been blocked by Conditional Access policies."),
	needsCaptcha:  aadsts("invalid_grant", 50158, "External security challenge was not satisfied."),
	isUnverified:  aadsts("invalid_grant", 50158, "External security challenge was not satisfied."),
	needsConsent:  aadsts("consent_required", 65001, "The user or administrator has not consented to use the application."),
	needsFactor:   aadsts("invalid_grant", 50076, "Due to a configuration change made by your administrator, you must use multi-factor authentication."),
	mustEnrol:     aadsts("invalid_grant", 50079, "Due to a configuration change made by your administrator, you must enroll in multi-factor authentication."),
	factorRefresh: aadsts("interaction_required", 50076, "Due to a configuration change made by your administrator, you must use multi-factor authentication."),
}

// entraPassword says so if a second factor has to be enrolled first.
func (p *Provider) entraPassword(a asked) (granted, *oauthError) {
	g, problem := p.password(a)
	if u, ok := p.named(a.form.Get("username")); ok && problem == p.say(needsFactor) && len(u.Factors) == 0 {
		problem = p.say(mustEnrol)
	}
	return g, problem
}

// entraShape adds what a support call is asked for.
func entraShape(p *Provider, e *oauthError) map[string]any {
	words, codes := e.description, e.extra["error_codes"]
	trace, correlation := uuid(), uuid()
	at := p.now().UTC().Format("2006-01-02 15:04:05Z")
	if numbers, ok := codes.([]int); ok {
		words = "AADSTS" + strconv.Itoa(numbers[0]) + ": " + words
	} else {
		codes = []int{}
	}
	words += " Trace ID: " + trace + " Correlation ID: " + correlation + " Timestamp: " + at
	body := map[string]any{
		"error": e.code, "error_description": words, "error_codes": codes, "timestamp": at, "trace_id": trace, "correlation_id": correlation,
	}
	if e.code == "consent_required" || e.code == "interaction_required" {
		body["suberror"] = map[string]string{"consent_required": "consent_required", "interaction_required": "basic_action"}[e.code]
	}
	return body
}

func uuid() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// entraLogout asks for no client: the address only has to be somebody's.
func (p *Provider) entraLogout(c *call) {
	if !p.leave(c) {
		return
	}
	to := c.r.URL.Query().Get("post_logout_redirect_uri")
	if to == "" {
		p.page(c.w, http.StatusOK, view{Problem: "You are logged out."})
		return
	}
	p.returned(c, p.everywhere(), to)
}
