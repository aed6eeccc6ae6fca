package lean

import (
	"net/http"
	"strings"
)

// What a byte may be part of (RFC 9110, section 5.6.2 and 5.5; RFC 3986 for a host).
const (
	isToken = 1 << iota
	isValue
	isHost
	isUpper
	isLower
)

var classes = func() (c [256]uint8) {
	for b := range c {
		switch {
		case 'a' <= b && b <= 'z':
			c[b] = isToken | isValue | isHost | isLower
		case 'A' <= b && b <= 'Z':
			c[b] = isToken | isValue | isHost | isUpper
		case '0' <= b && b <= '9':
			c[b] = isToken | isValue | isHost
		case b == '\t', b >= ' ' && b != 0x7f:
			c[b] = isValue
		}
	}
	for _, b := range []byte("!#$%&'*+-.^_`|~") {
		c[b] |= isToken
	}
	for _, b := range []byte("!$%&()*+,-.:;=[']_~") {
		c[b] |= isHost
	}
	return c
}()

// all says whether each byte of s is of that class.
func all(s string, class uint8) bool {
	for i := range len(s) {
		if classes[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

// trim removes what may stand around a value.
func trim(s string) string {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// equalFold compares in any case. strings.EqualFold also takes a Kelvin sign for a k.
func equalFold(s, t string) bool {
	if len(s) != len(t) {
		return false
	}
	for i := range len(s) {
		a, b := s[i], t[i]
		if a != b && (a|0x20 != b|0x20 || classes[a]&(isUpper|isLower) == 0) {
			return false
		}
	}
	return true
}

// hasToken says whether a list has that token, in any case.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for v != "" {
			element, rest, _ := strings.Cut(v, ",")
			if equalFold(trim(element), token) {
				return true
			}
			v = rest
		}
	}
	return false
}

// withoutZone removes the zone of an IPv6 address, which means something on this machine only.
func withoutZone(host string) string {
	if !strings.HasPrefix(host, "[") {
		return host
	}
	end := strings.LastIndexByte(host, ']')
	if end < 0 {
		return host
	}
	zone := strings.LastIndexByte(host[:end], '%')
	if zone < 0 {
		return host
	}
	return host[:zone] + host[end:]
}

// checkFields refuses what would break the header apart, and the fields that are written here under another spelling.
func checkFields(h http.Header, what string) error {
	for name, values := range h {
		if name == "" || !all(name, isToken) {
			return unfit("a name in the " + what + " is not valid")
		}
		switch len(name) {
		case len("Host"), len("Trailer"), len("User-Agent"), len("Content-Length"), len("Transfer-Encoding"):
			if ours(name) {
				return unfit("a field under a spelling that is not its own: " + http.CanonicalHeaderKey(name))
			}
		}
		for _, v := range values {
			if !all(v, isValue) {
				return unfit("the value of " + name + " is not valid")
			}
		}
	}
	return nil
}

// ours says whether it is one of the fields written here, but not spelled so.
func ours(name string) bool {
	for _, f := range [...]string{"Host", "Trailer", "User-Agent", "Content-Length", "Transfer-Encoding"} {
		if name != f && equalFold(name, f) {
			return true
		}
	}
	return false
}

// checkTrailer refuses, in a trailer, what decides where messages end or who they are for.
func checkTrailer(h http.Header) error {
	if err := checkFields(h, "trailer"); err != nil {
		return err
	}
	for name := range h {
		if barred(http.CanonicalHeaderKey(name)) {
			return unfit("not in a trailer: " + http.CanonicalHeaderKey(name))
		}
	}
	return nil
}

// barred are fields that a trailer must not have (RFC 9110, section 6.5.1).
func barred(name string) bool {
	switch name {
	case "Transfer-Encoding", "Content-Length", "Trailer", "Host", "Connection":
		return true
	}
	return false
}
