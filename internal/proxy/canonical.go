package proxy

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/cloakroom/cloakroom/internal/web"
)

// CanonicalPath returns the one path of a request that is used for matching and for forwarding, byte for byte as it
// was sent, or the problem that it has. What two programs could read in two ways is refused: encoded separators,
// dot segments in any disguise, backslashes, control characters, empty segments, escapes of escapes, escapes that are
// no UTF-8 (overlong ones are dots and slashes to some), and escapes of characters that need none, which would be a
// second spelling of a path.
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
	if !plainQuery(r.URL.RawQuery) {
		return "", web.NewProblem(web.CodeInvalidPath, "The query has a character that must be encoded.")
	}
	return path, nil
}

// plainQuery reports whether a query can stand in a request line: over HTTP/2 it may come with spaces, which would end
// the target there, and a fragment is never sent.
func plainQuery(query string) bool {
	for i := range len(query) {
		if c := query[i]; c <= 0x20 || c == 0x7f || c == '#' {
			return false
		}
	}
	return true
}

func invalid(reason string) *web.Problem {
	return web.NewProblem(web.CodeInvalidPath, "The path can be read in two ways: "+reason+".")
}

// sentPath is the path as it came over the wire, before any parsing: net/url would escape it anew where it has a
// character that must be encoded, and an encoded slash beside it would become a slash.
func sentPath(target string) string {
	if !strings.HasPrefix(target, "/") {
		_, rest, _ := strings.Cut(target, "://")
		at := strings.IndexAny(rest, "/?#")
		if at < 0 || rest[at] != '/' {
			return ""
		}
		target = rest[at:]
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
			n, fault := escapeFault(path[i:])
			if fault != "" {
				return fault
			}
			i += n - 1
		case c == '/':
			if fault := segmentFault(path[i+1:], i+1 == len(path)); fault != "" {
				return fault
			}
		}
	}
	return ""
}

// escapeFault looks at the escapes of one character that rest begins with, and says how long they are.
func escapeFault(rest string) (n int, fault string) {
	c, ok := escaped(rest)
	switch {
	case !ok:
		return 0, "it has half an escape"
	case c < 0x20 || c == 0x7f:
		return 0, "it has an encoded control character"
	case c == '/' || c == '\\':
		return 0, "it has an encoded separator"
	case c == '%':
		return 0, "it has an escape of an escape"
	case c == '.' || c == '-' || c == '_' || c == '~' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z':
		return 0, "it has an escape of a character that needs none" // RFC 3986 section 2.3
	case c < utf8.RuneSelf:
		return 3, ""
	}
	var char [utf8.UTFMax]byte
	length := 0
	for ok && c >= utf8.RuneSelf && length < len(char) {
		char[length] = c
		length++
		c, ok = escaped(rest[3*length:])
	}
	r, size := utf8.DecodeRune(char[:length])
	if r == utf8.RuneError && size <= 1 {
		return 0, "it has escapes that are no UTF-8"
	}
	if 0x80 <= r && r < 0xa0 {
		return 0, "it has an encoded control character"
	}
	return 3 * size, ""
}

// escaped decodes the escape that s begins with.
func escaped(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	hi, lo := hexValue(s[1]), hexValue(s[2])
	return byte(hi<<4 | lo), hi >= 0 && lo >= 0 //nolint:gosec // two hexadecimal digits
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
	name, _ := cutParameters(segment)
	switch {
	case segment == "":
		return "it has an empty segment"
	case name == "":
		return "it has a segment of parameters only"
	case onlyDots(name):
		return "it has a dot segment"
	}
	return ""
}

// onlyDots reports whether a name is dots and spaces only: some servers take them off the end of a name before they
// look for dot segments.
func onlyDots(name string) bool {
	for name != "" {
		switch {
		case name[0] == '.':
			name = name[1:]
		case strings.HasPrefix(name, "%20"):
			name = name[3:]
		default:
			return false
		}
	}
	return true
}

// cutParameters splits a segment at its first ";", which some servers cut off with all that follows; some decode it
// first.
func cutParameters(segment string) (name string, cut bool) {
	for i := range len(segment) {
		if segment[i] == ';' || segment[i] == '%' && len(segment) >= i+3 && segment[i+1] == '3' && segment[i+2]|0x20 == 'b' {
			return segment[:i], true
		}
	}
	return segment, false
}
