package idp

import (
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// auth0 is Auth0: the password grants, the MFA API, and brute-force protection by the person's address.
func auth0() dialect {
	grants := plainGrants()
	grants["password"] = (*Provider).auth0Password
	grants[grantURI+"password-realm"] = (*Provider).auth0Realm
	grants[grantURI+"mfa-otp"] = (*Provider).byOTP
	grants[grantURI+"mfa-oob"] = (*Provider).byOOB
	grants[grantURI+"mfa-recovery-code"] = (*Provider).byRecoveryCode
	for name, do := range grants {
		grants[name] = limited(do)
	}
	return dialect{
		paths: func(base string) addresses {
			return addresses{
				authorize: base + "/authorize", token: base + "/oauth/token", jwks: base + "/.well-known/jwks.json", revoke: base + "/oauth/revoke",
				logout: base + "/v2/logout", userinfo: base + "/userinfo",
			}
		},
		grants: grants, rotation: rotate, bruteForce: true,
		words:  auth0Words,
		wayOn:  auth0WayOn,
		shape:  auth0Shape,
		extras: auth0Extras,
		linked: map[string]string{"userinfo_endpoint": "/userinfo", "mfa_challenge_endpoint": "/mfa/challenge"},
		document: map[string]any{
			"backchannel_logout_supported": true, "backchannel_logout_session_supported": true,
		},
		ended: (*Provider).auth0Logout, logoutHidden: true,
		routes: func(p *Provider) {
			p.handle("GET /mfa/authenticators", "mfa_authenticators", p.auth0Authenticators)
			p.handle("POST /mfa/challenge", "mfa_challenge", p.auth0Challenge)
			p.handle("POST /mfa/associate", "mfa_associate", p.auth0Associate)
			p.handle("GET /oidc/logout", "logout", p.logout)
		},
	}
}

var auth0Words = map[verdict]*oauthError{
	badGrant:      {status: http.StatusForbidden, code: "invalid_grant", description: "Unknown or invalid refresh token."},
	reusedGrant:   {status: http.StatusForbidden, code: "invalid_grant", description: "Unknown or invalid refresh token."},
	deadGrant:     {status: http.StatusForbidden, code: "invalid_grant", description: "Unknown or invalid refresh token."},
	unknownClient: {status: http.StatusUnauthorized, code: "access_denied", description: "Unauthorized"},
	unknownGrant:  {status: http.StatusForbidden, code: "unauthorized_client", description: "Grant type not allowed for the client."},
	needsFactor:   {status: http.StatusForbidden, code: "mfa_required", description: "Multifactor authentication required"},
	factorRefresh: {status: http.StatusForbidden, code: "mfa_required", description: "Multifactor authentication required"},
	tooManyWrong: {
		status: http.StatusTooManyRequests, code: "too_many_attempts", retry: 30 * 24 * time.Hour,
		description: "Your account has been blocked after multiple consecutive login attempts. We've sent you an email with instructions on how to unblock it.",
	},
}

// auth0Shape is one of Auth0's two shapes of an error. What is about the rules of passwords has the other one, whose
// description is an object.
func auth0Shape(_ *Provider, e *oauthError) map[string]any {
	if e.code == genericWords[isExpired].code {
		return map[string]any{
			"code": e.code, "name": "PasswordExpiredError",
			"description": map[string]any{"verified": false, "rules": []any{map[string]any{
				"code": "passwordAge", "message": "The password may be at most %d days old", "format": []int{90}, "verified": false,
			}}},
		}
	}
	return map[string]any{"error": e.code, "error_description": e.description}
}

// auth0Extras leaves the scope out where it is what was asked for.
func auth0Extras(_ *Provider, g granted, answer map[string]any) {
	if g.asked != "" && g.asked == g.family.Scope {
		delete(answer, "scope")
	}
}

// auth0WayOn is the mfa_token, and what can be done with it.
func auth0WayOn(p *Provider, a *attempt) map[string]any {
	u := p.userOf(a)
	needs := map[string]any{}
	if len(u.Factors) == 0 {
		needs["enroll"] = []any{map[string]any{"type": "otp"}, map[string]any{"type": "phone"}, map[string]any{"type": "push-notification"}}
	} else {
		var types []string
		for _, f := range u.Factors {
			if name := auth0Families[f.Type]; !slices.Contains(types, name) {
				types = append(types, name)
			}
		}
		challenges := []any{}
		for _, name := range types {
			challenges = append(challenges, map[string]any{"type": name})
		}
		needs["challenge"] = challenges
	}
	return map[string]any{"mfa_token": p.begin("mfa_token", "Fe26.2*", a), "mfa_requirements": needs}
}

// rate is how many requests came in a minute.
type rate struct {
	minute time.Time
	count  int
}

// limited counts the requests of a client, says so in the headers, and refuses those over the limit.
func limited(do grant) grant {
	return func(p *Provider, a asked) (granted, *oauthError) {
		minute := p.now().Truncate(time.Minute)
		r := p.memory.window[a.client.ID]
		if !r.minute.Equal(minute) {
			r = rate{minute: minute}
		}
		r.count++
		p.memory.window[a.client.ID] = r
		reset := minute.Add(time.Minute)
		h := a.w.Header()
		h.Set("X-RateLimit-Limit", strconv.Itoa(p.RateLimit))
		h.Set("X-RateLimit-Remaining", strconv.Itoa(max(0, p.RateLimit-r.count)))
		h.Set("X-RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
		if r.count > p.RateLimit {
			e := *p.say(tooManyCalls)
			e.retry = reset.Sub(p.now())
			return granted{}, &e
		}
		return do(p, a)
	}
}

// auth0Password believes the client's word for where the person is, if the client was given that right.
func (p *Provider) auth0Password(a asked) (granted, *oauthError) {
	if ip := net.ParseIP(a.r.Header.Get("auth0-forwarded-for")); p.TrustForwardedFor && ip != nil {
		a.address = ip.String()
	}
	if a.form.Get("username") == "" || a.form.Get("password") == "" {
		return granted{}, p.say(badRequest)
	}
	return p.password(a)
}

// auth0Realm is the password grant that names the connection.
func (p *Provider) auth0Realm(a asked) (granted, *oauthError) {
	if realm := a.form.Get("realm"); realm == "" || p.Realm != "" && realm != p.Realm {
		e := *p.say(badRequest)
		e.description = "Unknown realm."
		return granted{}, &e
	}
	return p.auth0Password(a)
}

// auth0Families are the types of factors in the words of mfa_requirements.
var auth0Families = map[string]string{
	"otp": "otp", "sms": "phone", "voice": "phone", "email": "email", "push": "push-notification", "recovery_code": "recovery-code",
}

// auth0Kinds are the types of factors in the words of the list.
var auth0Kinds = map[string][2]string{
	"otp": {"otp", ""}, "sms": {"oob", "sms"}, "voice": {"oob", "voice"}, "email": {"oob", "email"}, "push": {"oob", "auth0"},
	"recovery_code": {"recovery-code", ""},
}

// bearer finds the attempt of an mfa_token that comes as a bearer token. p.mu is held.
func (p *Provider) bearer(c *call) (*attempt, verdict) {
	token, ok := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil, attemptUnknown
	}
	for _, client := range p.Clients {
		if a, v := p.attempt(token, client.ID); v != attemptUnknown {
			return a, v
		}
	}
	return nil, attemptUnknown
}

// auth0Authenticators lists the factors.
func (p *Provider) auth0Authenticators(c *call) {
	p.mu.Lock()
	a, v := p.bearer(c)
	p.mu.Unlock()
	if v != "" {
		p.deny(c, p.say(v))
		return
	}
	u := p.userOf(a)
	list := []map[string]any{}
	for _, f := range u.Factors {
		kind := auth0Kinds[f.Type]
		item := map[string]any{"id": f.ID, "authenticator_type": kind[0], "active": true}
		if kind[1] != "" {
			item["oob_channel"] = kind[1]
		}
		if f.Name != "" {
			item["name"] = f.Name
		}
		list = append(list, item)
	}
	c.log(c.act, "ok", u.Username)
	writeJSON(c.w, http.StatusOK, list)
}

// auth0Challenge starts a factor. The client authenticates in the JSON body.
func (p *Provider) auth0Challenge(c *call) {
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
	u := p.userOf(a)
	f, v := auth0Wanted(u, c.form.Get("authenticator_id"), strings.Fields(c.form.Get("challenge_type")))
	if v == "" {
		v = p.choose(a, f)
	}
	if v != "" {
		p.deny(c, p.say(v))
		return
	}
	c.log(c.act, "ok", u.Username)
	writeJSON(c.w, http.StatusOK, p.auth0Challenged(a))
}

// auth0Wanted finds the factor that is meant.
func auth0Wanted(u User, id string, types []string) (Factor, verdict) {
	if len(u.Factors) == 0 {
		return Factor{}, mustEnrol
	}
	for _, f := range u.Factors {
		kind := auth0Kinds[f.Type][0]
		fits := id == "" || f.ID == id || f.Type == "otp" && id == "totp|"+f.ID
		if fits && kind != "recovery-code" && (len(types) == 0 || slices.Contains(types, kind)) {
			return f, ""
		}
	}
	return Factor{}, noSuchFactor
}

// auth0Challenged is the answer about the chosen factor. A push has no code to type.
func (p *Provider) auth0Challenged(a *attempt) map[string]any {
	kind := auth0Kinds[a.factor.Type][0]
	answer := map[string]any{"challenge_type": kind}
	if kind == "oob" {
		answer["oob_code"] = p.oobCode(a)
		if a.factor.Type != "push" {
			answer["binding_method"] = "prompt"
		}
	}
	return answer
}

// oobCode makes the code that stands for a started factor.
func (p *Provider) oobCode(a *attempt) string {
	value := secret("Fe26.2**")
	p.witness("oob_code", value)
	a.handle = hash(value)
	return value
}

// auth0Associate enrols a factor. Who has one must show it first. Recovery codes come with the first one only.
func (p *Provider) auth0Associate(c *call) {
	p.mu.Lock()
	defer p.unlock()
	a, v := p.bearer(c)
	if v == "" && len(p.userOf(a).Factors) > 0 {
		v = hasEnrolled
	}
	if v == "" {
		v = p.enrol(a, auth0Enrolled(c), c.form.Get("phone_number")+c.form.Get("email"))
	}
	if v != "" {
		p.deny(c, p.say(v))
		return
	}
	u, f := p.userOf(a), a.factor
	kind := auth0Kinds[f.Type]
	answer := map[string]any{"authenticator_type": kind[0], "recovery_codes": []string{a.recovery}}
	if kind[0] == "otp" {
		answer["secret"], answer["barcode_uri"] = f.Secret, otpURI(u, f)
	} else {
		answer["oob_channel"], answer["oob_code"] = kind[1], p.oobCode(a)
		if f.Type != "push" {
			answer["binding_method"] = "prompt"
		} else {
			answer["barcode_uri"] = "otpauth://totp/" + u.Username + "?enrollment_tx_id=" + secret("")[:12]
		}
	}
	c.log(c.act, "ok", u.Username)
	writeJSON(c.w, http.StatusOK, answer)
}

// auth0Enrolled is the type of factor that is to be enrolled.
func auth0Enrolled(c *call) string {
	if c.form.Get("authenticator_types") == "otp" {
		return "otp"
	}
	for kind, words := range auth0Kinds {
		if words[0] == "oob" && words[1] == c.form.Get("oob_channels") {
			return kind
		}
	}
	return ""
}

// auth0Logout goes to returnTo, which the client has registered, or, without a client, anybody.
func (p *Provider) auth0Logout(c *call) {
	if !p.leave(c) {
		return
	}
	q := c.r.URL.Query()
	allowed := p.everywhere()
	if client, ok := p.client(q.Get("client_id")); ok {
		allowed = client.PostLogoutRedirectURIs
	}
	to := q.Get("returnTo")
	if to == "" && len(allowed) > 0 {
		to = allowed[0]
	}
	p.returned(c, allowed, to)
}
