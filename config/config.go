// Package config is the configuration: one struct, one shape. [Load] reads it from a strict YAML file; an embedder
// fills the same struct. [Config.WithDefaults] completes it, [Config.Validate] finds every mistake at once.
//
// The fields' comments are the only description there is: docs/configuration.md and the JSON Schema are made from
// them. In YAML every text may hold ${env:NAME} and ${file:PATH}, and paths are relative to the file.
package config

//go:generate go test -run ^TestGenerated$ -update .

import (
	"net/netip"
	"slices"
	"time"
)

// Config is the whole configuration.
type Config struct {
	// The address of the public listener, `host:port`. Without a host it listens on every address of the machine.
	// A program that embeds Cloakroom listens itself and leaves it empty.
	//
	// Default: `:8080`
	Listen string `yaml:"listen" rule:"set"`

	// The certificate of the public listener. Without it the listener speaks plain HTTP, which is right behind a
	// proxy that ends TLS, and for `http://localhost`.
	//
	// Default: none
	TLS *TLS `yaml:"tls"`

	// The operator's listener.
	Admin Admin `yaml:"admin"`

	// The forward-auth listener.
	Verify Verify `yaml:"verify"`

	// Where the sessions rest. `file:PATH` is one file of this machine and survives restarts and crashes;
	// `memory:` forgets every session when the process ends. Any number of processes share `redis://` (or `rediss://`
	// with TLS; Redis or Valkey, one server, Sentinel, Cluster) or `postgres://`; both need `keys`. docs/operate.md has
	// the URLs, and says which store when. A program that embeds Cloakroom opens its store itself
	// and leaves this empty, or writes `memory:`.
	//
	// Default: `file:cloakroom.db`
	Store string `yaml:"store" rule:"set"`

	// The key ring: each key is 32 random bytes in base64, as `cloakroom keys new` prints it; an item may be several,
	// one per line, as `cloakroom keys rotate` leaves them in a file. The first key seals,
	// all of them open, so a new key goes to the end of every replica's list before it goes to the front. Whoever
	// has the keys and the store still opens no token without a ticket; who loses the keys loses every session.
	//
	// Default: none; `file:` makes a key of its own in a 0600 file beside the database, `memory:` one in memory
	Keys []Secret `yaml:"keys"`

	// The proxies in front of Cloakroom, as CIDR ranges. Only their `Forwarded` and `X-Forwarded-*` headers are
	// believed. A range that is too wide lets strangers choose the address that limits and logs see.
	//
	// Default: `[]`, nobody is believed
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`

	// How much memory opened sessions may take. Too little costs a store read and an opening for each request of
	// the sessions that do not fit; nothing is lost.
	//
	// Default: `64MiB`
	Cache Size `yaml:"cache" rule:"set"`

	// How long cached sessions go on being served while the store cannot be reached. Each second is a second that
	// an ended session may live on. A store that this process has to itself needs no grace.
	//
	// Default: `0s`
	StoreGrace Duration `yaml:"store_grace"`

	// How often the own-domain form may be tried.
	Limits Limits `yaml:"limits"`

	// The check for humans before a password is tried.
	Challenge Challenge `yaml:"challenge"`

	// What is logged, and how.
	Log Log `yaml:"log"`

	// The apps. A request belongs to the frontend that its Host header names; any other host gets 421.
	//
	// Required.
	Frontends []Frontend `yaml:"frontends" rule:"required"`
}

// The defaults of the server. They belong to the file alone: an embedder's empty value means "none" or "my own".
const (
	defaultListen      = ":8080"
	defaultAdminListen = "127.0.0.1:9080"
	defaultStore       = "file:cloakroom.db"
	defaultCache       = 64 << 20
)

// WithDefaults returns a copy in which everything left out has its default. The copy shares no list and no pointer
// with c. Listen, Admin.Listen and Store have a default only in a file.
func (c Config) WithDefaults() Config {
	c.Keys = slices.Clone(c.Keys)
	c.TrustedProxies = slices.Clone(c.TrustedProxies)
	c.Admin.Hosts = slices.Clone(c.Admin.Hosts)
	c.TLS = clonePointer(c.TLS)
	if c.Cache == 0 {
		c.Cache = defaultCache
	}
	c.Limits = c.Limits.withDefaults()
	c.Log = c.Log.withDefaults()
	c.Frontends = slices.Clone(c.Frontends)
	for i, f := range c.Frontends {
		c.Frontends[i] = f.withDefaults()
	}
	return c
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// orDefault sets what is still zero.
func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate checks the whole configuration, as it is with its defaults, and the files that it names. The error is a
// [Problems] with every mistake, each at the path of its setting.
func (c Config) Validate() error {
	var found Problems
	c.WithDefaults().check(at{to: &found})
	if len(found) == 0 {
		return nil
	}
	return found
}

func (c Config) check(a at) {
	a.tags(c)
	checkListen(a.key("listen"), c.Listen)
	if c.TLS != nil {
		c.TLS.check(a.key("tls"))
	}
	c.Admin.check(a.key("admin"), c.Listen)
	c.Verify.check(a.key("verify"), c)
	checkStore(a.key("store"), c.Store)
	checkKeys(a.key("keys"), c.Keys, c.SharedStore())
	checkTrusted(a.key("trusted_proxies"), c.TrustedProxies)
	if c.Cache < 0 {
		a.key("cache").say("is below zero", "write a size like 64MiB")
	}
	if c.StoreGrace < 0 || c.StoreGrace.Std() > time.Hour {
		a.key("store_grace").say("is below zero or above an hour", "write a duration like 30s; it is how late an end may be")
	}
	c.Limits.check(a.key("limits"))
	c.Challenge.check(a.key("challenge"))
	checkFrontends(a.key("frontends"), c)
}

func checkTrusted(a at, trusted []netip.Prefix) {
	for i, p := range trusted {
		switch item := a.item(i); {
		case !p.IsValid():
			item.say("is no address range", "write a CIDR range like 10.0.0.0/8")
		case p.Bits() == 0, p.Addr().Is4In6() && p.Bits() <= 96:
			item.say("is the whole internet: everyone could choose the address that limits and logs see", "name only your own proxies")
		}
	}
}
