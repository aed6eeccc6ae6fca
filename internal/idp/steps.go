package idp

import (
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// The hosted page asks for one thing after the other, a form each: password, captcha, a new password, a mailed code, a
// second factor, consent. What was shown so far is an attempt, whose secret goes along in the form.

// signIn takes the login page's forms.
func (p *Provider) signIn(c *call) {
	if site := c.r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		http.Error(c.w, "This form is sent from here only.", http.StatusForbidden)
		return
	}
	q, err := url.ParseQuery(c.form.Get("query"))
	client, ok := p.client(q.Get("client_id"))
	if err != nil || !ok || !slices.Contains(client.RedirectURIs, q.Get("redirect_uri")) || requestFault(q) != "" {
		p.page(c.w, http.StatusBadRequest, view{Problem: "Start again at the app."})
		return
	}
	for _, name := range []string{"password", "new_password", "code"} {
		p.witness(name, c.form.Get(name))
	}
	p.mu.Lock()
	var t turned
	if c.form.Has("step") {
		t = p.next(c, q)
	} else {
		t = p.first(c, q)
	}
	p.unlock()
	p.turn(c, q, t)
}

// turned is where a login stands after a form.
type turned struct {
	a       *attempt
	step    string
	user    User
	stage   verdict // what is asked for next; "" = the login is complete
	problem verdict // what was wrong with this form
}

// first takes user name and password. p.mu is held.
func (p *Provider) first(c *call, q url.Values) turned {
	u, v := p.knock(c.form.Get("username"), c.form.Get("password"), c.address)
	if v == wrongPassword || v == tooManyWrong {
		return turned{stage: v}
	}
	a := &attempt{Client: q.Get("client_id"), Subject: u.subject(), AMR: []string{"pwd"}}
	t := turned{a: a, user: u, stage: p.wanted(a, u, q), step: p.begin("login step", "step_", a)}
	t.problem = p.ask(a, t.stage)
	return t
}

// wanted is what is still to be asked for.
func (p *Provider) wanted(a *attempt, u User, q url.Values) verdict {
	v := u.obstacle(a.Settled)
	stepUp := contains(strings.Fields(q.Get("acr_values")), acrFactor) && len(u.Factors) > 0 || p.people.steps(a.Subject)
	if stepUp && (v == "" || v == needsConsent) && !slices.Contains(a.Settled, needsFactor) {
		return needsFactor
	}
	return v
}

// ask prepares a stage. One factor needs no choice.
func (p *Provider) ask(a *attempt, stage verdict) verdict {
	a.stage = stage
	a.open = false
	u := p.userOf(a)
	switch {
	case stage == isUnverified:
		return p.choose(a, Factor{ID: "verify", Type: "email", Name: u.Email})
	case stage == needsFactor && len(u.Factors) == 0:
		return p.enrol(a, "otp", "")
	case stage == needsFactor && len(u.Factors) == 1:
		return p.choose(a, u.Factors[0])
	}
	return ""
}

// next takes a further form. p.mu is held.
func (p *Provider) next(c *call, q url.Values) turned {
	step := c.form.Get("step")
	a, v := p.attempt(step, q.Get("client_id"))
	if v != "" {
		return turned{stage: v}
	}
	t := turned{a: a, step: step, user: p.userOf(a), stage: a.stage}
	if t.problem = p.take(c, a); t.problem != "" {
		return t
	}
	t.user = p.userOf(a)
	switch {
	case a.stage == needsFactor && !slices.Contains(a.Settled, needsFactor):
		return t // a factor was chosen
	case a.stage == needsFactor && a.factor.Type == "recovery_code":
		t.stage, a.stage = showRecovery, showRecovery
		return t
	}
	if t.stage = p.wanted(a, t.user, q); t.stage != a.stage {
		t.problem = p.ask(a, t.stage)
	}
	return t
}

// take takes what a stage's form says.
func (p *Provider) take(c *call, a *attempt) verdict {
	f := c.form
	switch a.stage {
	case needsCaptcha:
		if f.Get("captcha") != "on" {
			return needsCaptcha
		}
		a.Settled = append(a.Settled, needsCaptcha)
	case isExpired, isBreached:
		return p.renew(a, f.Get("new_password"))
	case needsConsent:
		if f.Get("consent") != "yes" {
			return isDenied
		}
		p.people.change(a.Subject, func(u *User) { u.Consent = false })
	case isUnverified:
		if v := p.check(a, strings.TrimSpace(f.Get("code"))); v != "" {
			return v
		}
		p.people.change(a.Subject, func(u *User) { u.Unverified = false })
	case needsFactor:
		return p.takeFactor(c, a)
	}
	return ""
}

// leastPassword is how long a new password has to be.
const leastPassword = 8

// renew gives the user a new password.
func (p *Provider) renew(a *attempt, password string) verdict {
	if len(password) < leastPassword || same(password, p.userOf(a).Password) {
		return weakPassword
	}
	p.people.change(a.Subject, func(u *User) { u.Password, u.PasswordExpired, u.Breached = password, false, false })
	return ""
}

// takeFactor takes the choice of a factor, a code, or the wish to look whether a push was answered.
func (p *Provider) takeFactor(c *call, a *attempt) verdict {
	switch {
	case c.form.Get("factor") != "":
		f, ok := byID(p.userOf(a).Factors, c.form.Get("factor"))
		if !ok {
			return noSuchFactor
		}
		return p.choose(a, f)
	case c.form.Has("other"):
		a.open = false
		return ""
	case !a.open:
		return noSuchFactor
	case a.factor.Type == "push":
		v := p.poll(a)
		if v == isRejected || v == isRejectedAlso {
			a.factor = Factor{}
		}
		return v
	}
	return p.answer(a, c.form.Get("code"))
}

// turn shows what comes next.
func (p *Provider) turn(c *call, q url.Values, t turned) {
	v := view{
		Query: q.Encode(), Username: c.form.Get("username"), Step: t.step, Stage: stages[t.stage], Problem: sentences[t.problem],
	}
	status := http.StatusOK
	if t.problem != "" {
		status = http.StatusUnprocessableEntity
		c.log("hosted_login", string(t.problem), t.user.Username)
	}
	switch t.stage {
	case "":
		p.enter(c, q, t.a)
		return
	case isDenied:
		c.log("hosted_login", "denied", t.user.Username)
		p.back(c, q, url.Values{"error": {"access_denied"}, "error_description": {p.say(isDenied).description}})
		return
	case wrongPassword, isLocked, tooManyWrong, attemptOver, attemptUnknown:
		c.log("hosted_login", string(t.stage), t.user.Username)
		status, v.Stage, v.Step, v.Problem = http.StatusForbidden, "", "", sentences[t.stage]
		if t.stage == wrongPassword {
			status = http.StatusUnauthorized
		}
		if v.Username == "" {
			v.Username = q.Get("login_hint")
		}
	case needsConsent:
		if t.problem == isDenied {
			c.log("hosted_login", "consent refused", t.user.Username)
			p.back(c, q, url.Values{"error": {"access_denied"}})
			return
		}
	case needsFactor, showRecovery:
		p.viewFactor(&v, t)
	}
	p.page(c.w, status, v)
}

// viewFactor is the choice of a factor, or the chosen one's form.
func (p *Provider) viewFactor(v *view, t turned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case t.stage == showRecovery:
		v.Recovery = t.a.recovery
		return
	case !t.a.open:
		v.Factors = t.user.Factors
		return
	}
	v.Factor = t.a.factor
	if t.a.enrols {
		v.Secret, v.URI, v.Recovery = t.a.factor.Secret, template.URL(otpURI(t.user, t.a.factor)), t.a.recovery //nolint:gosec // made here
	}
}

// stages are the forms by what they ask for.
var stages = map[verdict]string{
	needsCaptcha: "captcha", isExpired: "password", isBreached: "password", isUnverified: "verify", needsFactor: "factor", needsConsent: "consent",
	showRecovery: "recovery",
}

// showRecovery shows the new recovery code, since the old one was used.
const showRecovery verdict = "new recovery code"

// weakPassword is a new password that is too short, or the old one.
const weakPassword verdict = "weak password"

// sentences are what the page says.
var sentences = map[verdict]string{
	wrongPassword:  "Wrong user name or password.",
	tooManyWrong:   "Too many wrong passwords. This account is blocked for now.",
	isLocked:       "This account is blocked.",
	attemptOver:    "That took too long. Log in again.",
	attemptUnknown: "That took too long. Log in again.",
	needsCaptcha:   "Tick the box.",
	weakPassword:   "Choose another password, of 8 characters or more.",
	wrongCode:      "This code is wrong.",
	codeUsed:       "This code was used before. Wait for the next one.",
	wrongOOBCode:   "This code is wrong.",
	wrongRecovery:  "This recovery code is wrong.",
	codeOver:       "This code is too old. Ask for a new one.",
	tooManyCodes:   "Too many wrong codes. Try again later.",
	tooManySent:    "Too many codes were sent. Try again later.",
	isPending:      "Nobody has answered on your phone yet.",
	isFast:         "Nobody has answered on your phone yet.",
	isRejected:     "The login was refused on your phone.",
	isRejectedAlso: "The login was refused on your phone.",
	noSuchFactor:   "Choose one of these.",
}
