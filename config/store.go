package config

import (
	"net/url"
	"slices"
	"strings"
)

// sharedStores are the kinds of store that many processes use at once.
var sharedStores = []string{"redis", "rediss", "postgres", "postgresql"}

func checkStore(a at, store string) {
	scheme, rest, _ := strings.Cut(store, ":")
	switch {
	case store == "", store == "memory:":
	case scheme == "memory":
		a.say("names a place in memory", "write memory: alone")
	case scheme == "file" && (rest == "" || strings.HasPrefix(rest, "//")):
		a.say("names no file", "write file:PATH, like file:/var/lib/cloakroom/sessions.db")
	case scheme == "file":
	case slices.Contains(sharedStores, scheme):
		if u, err := url.Parse(store); err != nil || u.Host == "" {
			a.say("names no server", "write redis://HOST:PORT, rediss://HOST:PORT or postgres://USER@HOST/DATABASE; a password in it is URL-encoded")
		}
	default:
		a.say("is of no known kind", "write file:PATH, redis://, rediss://, postgres:// or memory:")
	}
}

// SharedStore reports whether a store is one that several processes can use: they need the same keys.
func (c Config) SharedStore() bool {
	scheme, _, _ := strings.Cut(c.Store, ":")
	return slices.Contains(sharedStores, scheme)
}
