// Package xconnect has net/http offer WebSockets over HTTP/2 (RFC 8441), which it does only if the environment says so
// when it is initialised. A program that links this package says so itself. It imports nothing but what net/http
// imports, and its path sorts before "net/http": so the language has it initialised first (Go specification, "Program
// initialization"). Every handler of the program must understand CONNECT with ":protocol" then: only cmd may link it.
package xconnect

import (
	"os"
	"strings"
)

const setting = "http2xconnect="

func init() { //nolint:gochecknoinits // there is no later moment at which net/http would listen
	if all := os.Getenv("GODEBUG"); !strings.Contains(all, setting) {
		_ = os.Setenv("GODEBUG", strings.TrimPrefix(all+","+setting+"1", ","))
	}
}
