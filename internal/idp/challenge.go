package idp

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// challenge is OAuth 2.0 for First-Party Applications, draft 04: the login by questions and answers at the authorization
// challenge endpoint.
func challenge() dialect {
	d := generic()
	d.linked = map[string]string{"authorization_challenge_endpoint": "/authorize-challenge"}
	more := &oauthError{status: http.StatusForbidden, code: "insufficient_authorization", description: "A second factor is needed."}
	d.words = map[verdict]*oauthError{needsFactor: more, factorRefresh: more}
	d.wayOn = func(p *Provider, a *attempt) map[string]any {
		return map[string]any{"auth_session": p.begin("auth_session", "", a)}
	}
	d.routes = func(p *Provider) { p.handle("POST /authorize-challenge", "challenge", p.challenge) }
	return d
}

const (
	// pushedLife is how long a request_uri is good.
	pushedLife = 90 * time.Second
	// stepUpLife is how long an auth_session is good once the login was complete: for a step-up.
	stepUpLife = 30 * 24 * time.Hour
	requestURN = "urn:ietf:params:oauth:request_uri:"
)

// pushed is an authorization request that goes on at the hosted page.
type pushed struct {
	query url.Values
	Ends  time.Time
}

// requested completes an authorization request that names a pushed one. What was pushed counts; the rest is the
// browser's.
func (p *Provider) requested(q url.Values) (url.Values, bool) {
	if !q.Has("request_uri") {
		return q, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	have, ok := p.memory.pushed[hash(q.Get("request_uri"))]
	if !ok || p.now().After(have.Ends) || have.query.Get("client_id") != q.Get("client_id") {
		return q, false
	}
	q.Del("request_uri")
	maps.Copy(q, have.query)
	return q, true
}

// asking is one request to the challenge endpoint.
type asking struct {
	asked
	at      *attempt
	session string // the auth_session that came
}

// challenge is the authorization challenge endpoint (section 5).
func (p *Provider) challenge(c *call) {
	client, ok := p.authenticate(c)
	if !ok {
		return
	}
	for what, name := range map[string]string{"password": "password", "one-time code": "otp", "auth_session": "auth_session"} {
		p.witness(what, c.form.Get(name))
	}
	p.mu.Lock()
	defer p.unlock()
	q := asking{asked: asked{c, client}, session: c.form.Get("auth_session")}
	if c.form.Get("response_type") != "code" {
		p.deny(c, p.say(badRequest))
		return
	}
	if q.session != "" {
		at, v := p.attempt(q.session, client.ID)
		if v != "" {
			p.deny(c, &oauthError{status: http.StatusBadRequest, code: "invalid_session", description: "The auth_session is not good, or is over."})
			return
		}
		q.at = at
	} else {
		q.at = &attempt{Client: client.ID, AMR: []string{"pwd"}}
		p.begin("auth_session", "", q.at)
	}
	q.at.remember(c.form)
	p.challenged(q)
}

// remember keeps what the code will be for. Who says nothing in a later request means what they said before.
func (a *attempt) remember(form url.Values) {
	for name, at := range map[string]*string{"scope": &a.Scope, "nonce": &a.Nonce, "code_challenge": &a.Challenge} {
		if form.Has(name) {
			*at = form.Get(name)
		}
	}
}

// challenged takes what was sent and says what is missing.
func (p *Provider) challenged(q asking) {
	if q.at.Subject == "" || q.form.Has("password") || p.stale(q) {
		if !q.form.Has("password") {
			p.insufficient(q, "password", nil)
			return
		}
		u, v := p.knock(q.form.Get("username"), q.form.Get("password"), q.address)
		if v == wrongPassword || v == tooManyWrong {
			p.wrong(q, v)
			return
		}
		q.at.Subject, q.at.Since, q.at.AMR, q.at.Settled = u.subject(), p.now(), []string{"pwd"}, nil
	}
	u := p.userOf(q.at)
	v := p.wanted(q.at, u, q.form)
	switch v {
	case "":
		p.complete(q)
	case needsFactor:
		p.second(q, u)
	case isLocked, isDenied:
		p.wrong(q, v)
	default:
		p.toWeb(q, v)
	}
}

// stale reports whether the password was shown longer ago than the client accepts.
func (p *Provider) stale(q asking) bool {
	limit, err := strconv.Atoi(q.form.Get("max_age"))
	return err == nil && p.now().Sub(q.at.Since) > time.Duration(limit)*time.Second
}

// wrong refuses what was sent; the login can go on. The auth_session that came stays good besides the new one: a client
// that reads it in refusals of other kinds only is no worse off.
func (p *Provider) wrong(q asking, v verdict) {
	e := &oauthError{status: http.StatusBadRequest, code: "invalid_grant", description: sentences[v]}
	switch v {
	case isLocked, isDenied, isRejected, isRejectedAlso:
		e = &oauthError{status: http.StatusBadRequest, code: "access_denied", description: p.say(v).description}
	case tooManySent, tooManyCodes:
		e = p.say(v)
	case noSuchFactor, badRequest, mustEnrol:
		e = p.say(badRequest)
	}
	p.deny(q.call, e.with(map[string]any{"auth_session": p.name("auth_session", "", q.at)}))
}

// turnSession makes a new auth_session; those of before are over.
func (p *Provider) turnSession(at *attempt) string {
	p.forget(at)
	return p.begin("auth_session", "", at)
}

// insufficient says what is missing, in members of our own.
func (p *Provider) insufficient(q asking, required string, more map[string]any) {
	e := &oauthError{status: http.StatusForbidden, code: "insufficient_authorization", description: "More is needed: " + required + "."}
	members := map[string]any{"required": required, "auth_session": p.turnSession(q.at)}
	maps.Copy(members, more)
	p.deny(q.call, e.with(members))
}

// toWeb sends the login to the hosted page. Without a PKCE challenge no request can be carried over (section 5.2.2.1.1).
func (p *Provider) toWeb(q asking, why verdict) {
	u := p.userOf(q.at)
	e := &oauthError{status: http.StatusForbidden, code: "redirect_to_web", description: "Go on at the provider's page."}
	members := map[string]any{"auth_session": p.turnSession(q.at), "reason": "provider_policy"}
	if why == needsCaptcha || why == needsConsent {
		members["reason"] = string(why)
	}
	if q.at.Challenge != "" && len(q.client.RedirectURIs) > 0 {
		uri := requestURN + secret("")
		p.witness("request_uri", uri)
		to := q.client.RedirectURIs[0]
		if asked := q.form.Get("redirect_uri"); slices.Contains(q.client.RedirectURIs, asked) {
			to = asked
		}
		query := url.Values{
			"client_id": {q.client.ID}, "response_type": {"code"}, "scope": {q.at.Scope}, "redirect_uri": {to}, "login_hint": {u.Username},
			"code_challenge": {q.at.Challenge}, "code_challenge_method": {"S256"}, "prompt": {"login"},
		}
		if q.at.Nonce != "" {
			query.Set("nonce", q.at.Nonce)
		}
		for _, name := range []string{"state", "acr_values", "max_age"} {
			if q.form.Has(name) {
				query.Set(name, q.form.Get(name))
			}
		}
		p.memory.pushed[hash(uri)] = pushed{query, p.now().Add(pushedLife)}
		members["request_uri"], members["expires_in"] = uri, int(pushedLife/time.Second)
	}
	p.deny(q.call, e.with(members))
}

// complete answers with the code. The auth_session stays good for a step-up.
func (p *Provider) complete(q asking) {
	value := secret("code_")
	p.witness("authorization code", value)
	at := q.at
	p.state.Codes[hash(value)] = code{
		Client: at.Client, Challenge: at.Challenge, Nonce: at.Nonce, Scope: at.Scope, Subject: at.Subject,
		Since: at.Since, Ends: p.now().Add(codeLife), AMR: slices.Clone(at.AMR),
	}
	session := p.turnSession(at)
	at.Ends = p.now().Add(stepUpLife)
	at.Gone = at.Ends.Add(24 * time.Hour)
	at.Nonce, at.Challenge, at.factor, at.open = "", "", Factor{}, false
	at.AMR, at.Settled = []string{"pwd"}, nil // a step-up shows the second factor anew
	if err := p.save(); err != nil {
		p.deny(q.call, unwritten)
		return
	}
	q.log(q.act, "ok", p.userOf(at).Username)
	writeJSON(q.w, http.StatusOK, map[string]any{"authorization_code": value, "auth_session": session})
}

// second is the second factor: chosen, typed, polled, or enrolled.
func (p *Provider) second(q asking, u User) {
	at, wanted, typed := q.at, q.form.Get("factor"), q.form.Has("otp")
	var v verdict
	switch {
	case len(u.Factors) == 0 && wanted != "" && !typed:
		v = p.enrol(at, wanted, q.form.Get("phone_number")+q.form.Get("email"))
	case typed:
		v = p.typed(q, u)
	case wanted != "" && at.open && at.factor.ID == wanted && at.factor.Type == "push":
		if v = p.poll(at); v == isPending || v == isFast {
			v = ""
		}
	case wanted != "" || len(u.Factors) == 1 && !at.open:
		if wanted == "" {
			wanted = u.Factors[0].ID
		}
		f, ok := byID(u.Factors, wanted)
		v = noSuchFactor
		if ok {
			v = p.choose(at, f)
		}
	}
	switch {
	case v != "":
		p.wrong(q, v)
	case slices.Contains(at.Settled, needsFactor):
		if v := p.wanted(at, p.userOf(at), q.form); v != "" {
			p.toWeb(q, v)
			return
		}
		p.complete(q)
	default:
		required, more := p.missing(at, u)
		p.insufficient(q, required, more)
	}
}

// typed checks a code. What needs no sending may be named along with its code.
func (p *Provider) typed(q asking, u User) verdict {
	at := q.at
	f, named := byID(u.Factors, q.form.Get("factor"))
	if named && (!at.open || at.factor.ID != f.ID) && (f.Type == "otp" || f.Type == "recovery_code") {
		if v := p.choose(at, f); v != "" {
			return v
		}
	}
	if !at.open {
		return noSuchFactor
	}
	return p.answer(at, q.form.Get("otp"))
}

// missing is what the second factor needs next.
func (p *Provider) missing(at *attempt, u User) (required string, more map[string]any) {
	factors := []map[string]any{}
	for _, f := range u.Factors {
		factors = append(factors, map[string]any{"id": f.ID, "type": f.Type, "name": f.Name})
	}
	if len(u.Factors) == 0 {
		for _, kind := range []string{"otp", "sms", "voice", "email"} {
			factors = append(factors, map[string]any{"id": kind, "type": kind, "name": ""})
		}
	}
	more = map[string]any{"factors": factors}
	if !at.open {
		if len(u.Factors) == 0 {
			return "enroll", more
		}
		return "factor", more
	}
	f := at.factor
	more["selected"] = f.ID
	switch {
	case at.enrols:
		more["selected"] = f.Type
		if f.Type == "otp" {
			more["otp_secret"], more["otp_uri"] = f.Secret, otpURI(u, f)
		}
		if at.recovery != "" {
			more["recovery_codes"] = []string{at.recovery}
		}
	case f.Type == "push":
		more["interval"] = int(max(p.PushInterval, time.Second) / time.Second)
		if strings.TrimSpace(f.Number) != "" {
			more["display_code"] = f.Number
		}
		return "push", more
	}
	return "otp", more
}
