package idp

import (
	"net/url"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
)

// otpPeriod is how long an authenticator app shows a code.
const otpPeriod = 30 * time.Second

// otpURI is what an authenticator app reads as a picture.
func otpURI(u User, f Factor) string {
	q := url.Values{"secret": {f.Secret}, "issuer": {"Demo provider"}}
	return "otpauth://totp/" + url.PathEscape("Demo provider:"+u.Username) + "?" + q.Encode()
}

// codeAt is the code of a moment (RFC 6238).
func codeAt(shared string, at time.Time) string {
	code, err := totp.GenerateCodeCustom(shared, at, totp.ValidateOpts{Period: uint(otpPeriod / time.Second), Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		return ""
	}
	return code
}

// spendOTP takes a code of this step or the one before, each once.
func (p *Provider) spendOTP(subject, shared, code string) verdict {
	v := wrongCode
	for _, at := range p.steps() {
		if good := codeAt(shared, at); good == "" || !same(good, code) {
			continue
		}
		if v = codeUsed; !p.memory.spent[spentKey(subject, shared, at)] {
			if len(p.memory.spent) >= mostKept {
				clear(p.memory.spent)
			}
			p.memory.spent[spentKey(subject, shared, at)] = true
			return ""
		}
	}
	return v
}

// spentKey keeps apart what one factor took: users may share a secret.
func spentKey(subject, shared string, at time.Time) string {
	return hash(subject + " " + shared + " " + at.Format(time.RFC3339))
}

// steps are the moments whose codes are good: this step and the one before.
func (p *Provider) steps() []time.Time {
	now := p.now().UTC().Truncate(otpPeriod)
	return []time.Time{now, now.Add(-otpPeriod)}
}

// OTP is a code that is good now, of the user's first authenticator app, or of the one that is being enrolled. Each
// code works once: where the current one was used, it is the one before; "" says that the clock has to move on by 30 s.
func (p *Provider) OTP(username string) string {
	u, ok := p.named(username)
	if !ok {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := first(u.Factors, "otp")
	if !ok {
		f = p.enrolling(u.subject())
	}
	if f.Secret == "" {
		return ""
	}
	for _, at := range p.steps() {
		if !p.memory.spent[spentKey(u.subject(), f.Secret, at)] {
			code := codeAt(f.Secret, at)
			p.witness("one-time code", code)
			return code
		}
	}
	return ""
}

// enrolling is the authenticator app that a user is about to enrol: the newest, if several logins do.
func (p *Provider) enrolling(subject string) Factor {
	var newest *attempt
	for _, a := range p.memory.attempts {
		if a.Subject == subject && a.enrols && a.factor.Type == "otp" && (newest == nil || a.Since.After(newest.Since)) {
			newest = a
		}
	}
	if newest == nil {
		return Factor{}
	}
	return newest.factor
}
