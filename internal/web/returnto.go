package web

import (
	"net/url"
	"strings"
)

// maxReturnTo bounds a return_to, so that no URL or cookie of ours grows past what browsers and servers take.
const maxReturnTo = 2000

// ReturnTo checks a place to go to after a login: a path on the frontend's own origin. It must start with exactly
// one "/", is parsed and rebuilt, and what a browser and Go could read in two ways is refused (the corpus of
// GO-PEERS.md section 4.2 is the test). The query and the fragment are kept: apps route by them.
func ReturnTo(s string) (string, bool) {
	if len(s) == 0 || len(s) > maxReturnTo || s[0] != '/' {
		return "", false
	}
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == 0x7f || c == '\\' {
			return "", false
		}
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" {
		return "", false
	}
	if !plainPath(u.Path) || ambiguous(u.EscapedPath()) {
		return "", false
	}
	out := url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery, Fragment: u.Fragment, RawFragment: u.RawFragment}
	rebuilt := out.String()
	if len(rebuilt) < 1 || len(rebuilt) > maxReturnTo || rebuilt[0] != '/' || strings.HasPrefix(rebuilt, "//") {
		return "", false
	}
	return rebuilt, true
}

// plainPath reports whether a decoded path has no empty or dot segments, no backslash and no control character.
func plainPath(p string) bool {
	if strings.Contains(p, "//") {
		return false
	}
	for seg := range strings.SplitSeq(p, "/") {
		name, _, _ := strings.Cut(seg, ";")
		if name == "." || name == ".." {
			return false
		}
	}
	for i := range len(p) {
		if c := p[i]; c < 0x20 || c == 0x7f || c == '\\' {
			return false
		}
	}
	return true
}

// ambiguous reports whether an escaped path hides a separator, or hides escapes in escapes.
func ambiguous(escaped string) bool {
	low := strings.ToLower(escaped)
	for _, bad := range []string{"%2f", "%5c", "%00", "%25"} {
		if strings.Contains(low, bad) {
			return true
		}
	}
	return false
}
