package config

import (
	"net/url"
	"time"
)

// Limits says how often the own-domain form may be tried before a user is told to wait (429). A rate `10/15m` is
// ten tries at once, and ten more spread over each 15 minutes.
type Limits struct {
	// Tries for one account of one provider, from wherever they come. Too many lets passwords be guessed, too few
	// lets strangers keep a user out.
	//
	// Default: `10/15m`
	PerAccount Rate `yaml:"per_account"`

	// Tries from one client address (IPv6: one /64). Users behind one address share it.
	//
	// Default: `100/15m`
	PerAddress Rate `yaml:"per_address"`

	// Tries at one provider, over all accounts and addresses: it is asked no more often than that. One half is kept for
	// browsers that have logged in before, so that an attack keeps no owner out.
	//
	// Default: none
	PerProvider Rate `yaml:"per_provider"`
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.PerAccount, Rate{10, 15 * time.Minute})
	orDefault(&l.PerAddress, Rate{100, 15 * time.Minute})
	return l
}

func (l Limits) check(a at) {
	if p := l.PerProvider; p != (Rate{}) && (p.Burst < 2 || p.Per <= 0) {
		a.key("per_provider").say("is too small to be halved", "write a rate like 100/1m, or leave it out")
	}
	for _, r := range []struct {
		key  string
		rate Rate
	}{{"per_account", l.PerAccount}, {"per_address", l.PerAddress}} {
		if r.rate.Burst <= 0 || r.rate.Per <= 0 {
			a.key(r.key).say("lets nobody in", "write a rate like 10/15m")
		}
	}
}

// Challenge is an outside service that tells people from programs. Where a limit would make a stranger wait, whoever
// solves its challenge may go on: 403 `challenge_required` asks for it. Any service that takes `secret`, `response` and
// `remoteip` as a form and answers with `success` will do: Turnstile, hCaptcha, reCAPTCHA. The page that shows the
// challenge is your own.
type Challenge struct {
	// The service's address that verifies an answer.
	//
	// Default: `""`, none
	VerifyURL string `yaml:"verify_url"`

	// Our secret at that service.
	//
	// Default: none
	Secret Secret `yaml:"secret"`
}

func (c Challenge) check(a at) {
	if c.VerifyURL == "" {
		if !c.Secret.Empty() {
			a.key("secret").say("is for a service that is not named", "write verify_url, or leave both out")
		}
		return
	}
	u, err := url.Parse(c.VerifyURL)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		a.key("verify_url").say("is no URL", "write it like https://challenges.cloudflare.com/turnstile/v0/siteverify")
	case u.Scheme != "https" && (u.Scheme != "http" || !loopbackHost(u.Hostname())):
		a.key("verify_url").say("is not https", "write https://, or http:// on localhost")
	}
	if c.Secret.Empty() {
		a.key("secret").say("is missing", "write ${env:NAME} or ${file:PATH}")
	}
}
