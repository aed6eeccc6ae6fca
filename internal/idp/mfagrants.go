package idp

// The grants of a second factor, as Auth0 has them and Okta after it.

// byOTP is the grant of an authenticator app. It needs no challenge before.
func (p *Provider) byOTP(a asked) (granted, *oauthError) {
	at, v := p.attempt(a.form.Get("mfa_token"), a.client.ID)
	if v != "" {
		return granted{}, p.say(v)
	}
	if !at.enrols {
		f, ok := first(p.userOf(at).Factors, "otp")
		if !ok {
			return granted{}, p.say(wrongCode)
		}
		at.factor = f
	} else if at.factor.Type != "otp" {
		return granted{}, p.say(wrongCode)
	}
	return p.through(a, at, p.answer(at, a.form.Get("otp")))
}

// byOOB is the grant of a code that was sent, or of a push, which is polled.
func (p *Provider) byOOB(a asked) (granted, *oauthError) {
	at, v := p.attempt(a.form.Get("mfa_token"), a.client.ID)
	if v != "" {
		return granted{}, p.say(v)
	}
	if at.handle == "" || at.handle != hash(a.form.Get("oob_code")) || !at.open {
		return granted{}, p.say(wrongOOBCode)
	}
	if at.factor.Type == "push" {
		return p.through(a, at, p.poll(at))
	}
	return p.through(a, at, p.answer(at, a.form.Get("binding_code")))
}

// byRecoveryCode answers with a new recovery code: the old one is used up.
func (p *Provider) byRecoveryCode(a asked) (granted, *oauthError) {
	at, v := p.attempt(a.form.Get("mfa_token"), a.client.ID)
	if v != "" {
		return granted{}, p.say(v)
	}
	f, ok := first(p.userOf(at).Factors, "recovery_code")
	if !ok {
		return granted{}, p.say(wrongRecovery)
	}
	at.factor, at.enrols = f, false
	g, problem := p.through(a, at, p.answer(at, a.form.Get("recovery_code")))
	if problem == nil {
		g.extra = map[string]any{"recovery_code": at.recovery}
	}
	return g, problem
}

// through ends a login once its second factor was shown, unless something else stands against it.
func (p *Provider) through(a asked, at *attempt, v verdict) (granted, *oauthError) {
	if v != "" {
		return granted{}, p.say(v)
	}
	if v := p.userOf(at).obstacle(at.Settled); v != "" {
		return granted{}, p.say(v)
	}
	p.forget(at)
	return p.grantTo(a.client, at), nil
}

// grantTo makes the family of a login that is complete, or goes on with that of the refresh which had to wait.
func (p *Provider) grantTo(client Client, at *attempt) granted {
	if f := p.state.Families[at.Family]; f != nil && !f.Dead {
		f.AMR = at.AMR
		if f.Current != "" {
			f.spend(f.Current, p.now())
		}
		return granted{family: f, id: at.Family, asked: at.Scope}
	}
	g := p.newFamily(client, at.Subject, at.Scope)
	g.family.AMR, g.family.Since = at.AMR, at.Since
	return g
}
