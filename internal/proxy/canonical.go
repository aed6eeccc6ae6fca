package proxy

import (
	"net/http"
	"strings"

	"github.com/cloakroom/cloakroom/internal/web"
)

// CanonicalPath returns the one path of a request that is used for matching and for forwarding, byte for byte as it
// was sent, or the problem that it has. What two programs could read in two ways is refused: encoded separators,
// dot segments in any disguise, backslashes, control characters, empty segments, escapes of escapes, and escapes of
// characters that need none, which would be a second spelling of a path.
func CanonicalPath(r *http.Request) (string, *web.Problem) {
	path := r.URL.EscapedPath()
	if r.RequestURI != "" && !strings.HasPrefix(r.RequestURI, "/") && !sameHost(r) {
		return "", invalid("the request target must be a path")
	}
	if sent := sentPath(r.RequestURI); sent != "" {
		path = sent
	}
	if reason := pathFault(path); reason != "" {
		return "", invalid(reason)
	}
	return path, nil
}

func invalid(reason string) *web.Problem {
	return web.NewProblem(web.CodeInvalidPath, "The path can be read in two ways: "+reason+".")
}

// sentPath is the path as it came over the wire, before any parsing.
func sentPath(target string) string {
	if !strings.HasPrefix(target, "/") {
		return ""
	}
	path, _, _ := strings.Cut(target, "?")
	return path
}

// sameHost reports whether an absolute-form target names the host of the request itself (RFC 9112 section 3.2.2).
func sameHost(r *http.Request) bool {
	return r.URL.Host != "" && strings.EqualFold(r.URL.Host, r.Host) && r.URL.User == nil && strings.HasPrefix(r.URL.Path, "/")
}

// pathFault says what is wrong with an escaped path, "" for nothing. It does not allocate.
func pathFault(path string) string {
	if path == "" || path[0] != '/' {
		return "it must start with a slash"
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c <= 0x20 || c >= 0x7f:
			return "it has a character that must be encoded"
		case c == '\\':
			return "it has a backslash"
		case c == '#' || c == '?':
			return "it has a separator that must be encoded"
		case c == '%':
			if fault := escapeFault(path, i); fault != "" {
				return fault
			}
			i += 2
		case c == '/':
			if fault := segmentFault(path[i+1:], i+1 == len(path)); fault != "" {
				return fault
			}
		}
	}
	return ""
}

// escapeFault looks at the escape at path[i].
func escapeFault(path string, i int) string {
	if i+2 >= len(path) {
		return "it has half an escape"
	}
	hi, lo := hexValue(path[i+1]), hexValue(path[i+2])
	if hi < 0 || lo < 0 {
		return "it has half an escape"
	}
	switch c := byte(hi<<4 | lo); { //nolint:gosec // two hexadecimal digits
	case c < 0x20 || c == 0x7f:
		return "it has an encoded control character"
	case c == '/' || c == '\\':
		return "it has an encoded separator"
	case c == '%':
		return "it has an escape of an escape"
	case c == '.' || c == '-' || c == '_' || c == '~' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z':
		return "it has an escape of a character that needs none" // RFC 3986 section 2.3
	}
	return ""
}

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// segmentFault looks at the segment that rest begins with. Dots cannot be encoded here, so they are as they stand.
func segmentFault(rest string, end bool) string {
	if end {
		return ""
	}
	segment, _, _ := strings.Cut(rest, "/")
	name, _, _ := strings.Cut(segment, ";") // some servers cut a segment's parameters off
	switch {
	case segment == "":
		return "it has an empty segment"
	case name == "." || name == "..":
		return "it has a dot segment"
	case name == "":
		return "it has a segment of parameters only"
	}
	return ""
}
