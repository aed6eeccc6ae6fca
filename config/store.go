package config

import (
	"slices"
	"strings"
)

func checkStore(a at, store string) {
	scheme, rest, _ := strings.Cut(store, ":")
	switch {
	case store == "", store == "memory:":
	case scheme == "memory":
		a.say("names a place in memory", "write memory: alone")
	case scheme == "file" && (rest == "" || strings.HasPrefix(rest, "//")):
		a.say("names no file", "write file:PATH, like file:/var/lib/cloakroom/sessions.db")
	case scheme == "file":
	case slices.Contains([]string{"redis", "rediss", "postgres", "postgresql"}, scheme):
		a.say("is of a kind that is not built yet in this version", "write file:PATH or memory:")
	default:
		a.say("is of no known kind", "write file:PATH or memory:")
	}
}
