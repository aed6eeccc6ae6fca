package config

import "time"

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

	// Tries at one provider, over all accounts and addresses.
	//
	// Default: none
	PerProvider Rate `yaml:"per_provider" later:"*"`
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.PerAccount, Rate{10, 15 * time.Minute})
	orDefault(&l.PerAddress, Rate{100, 15 * time.Minute})
	return l
}

func (l Limits) check(a at) {
	for _, r := range []struct {
		key  string
		rate Rate
	}{{"per_account", l.PerAccount}, {"per_address", l.PerAddress}} {
		if r.rate.Burst <= 0 || r.rate.Per <= 0 {
			a.key(r.key).say("lets nobody in", "write a rate like 10/15m")
		}
	}
}

// Challenge is an outside service that tells people from programs.
type Challenge struct {
	// The service's address that verifies an answer.
	//
	// Default: `""`, none
	VerifyURL string `yaml:"verify_url" later:"*"`

	// Our secret at that service.
	//
	// Default: none
	Secret Secret `yaml:"secret" later:"*"`
}
