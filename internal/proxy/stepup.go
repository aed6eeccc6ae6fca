package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/gate"
)

// errStepUp is an upstream's answer that the login was not strong or fresh enough.
type errStepUp struct{ wanted gate.StepUp }

func (errStepUp) Error() string { return "the upstream wants another login" }

// maxWanted bounds what an upstream may ask for: it becomes part of an address.
const maxWanted = 500

// stepUpIn reads an upstream's insufficient_user_authentication (RFC 9470 section 3).
func stepUpIn(res *http.Response) (gate.StepUp, bool) {
	if res.StatusCode != http.StatusUnauthorized {
		return gate.StepUp{}, false
	}
	for _, line := range res.Header["Www-Authenticate"] {
		for _, c := range challenges(line) {
			if !strings.EqualFold(c.scheme, "Bearer") && !strings.EqualFold(c.scheme, "DPoP") || c.params["error"] != "insufficient_user_authentication" {
				continue
			}
			s := gate.StepUp{ACRValues: wanted(c.params["acr_values"])}
			if n, err := strconv.Atoi(c.params["max_age"]); err == nil && n >= 0 && n < 1<<30 {
				s.MaxAge, s.Now = time.Duration(n)*time.Second, n == 0
			}
			if s == (gate.StepUp{}) { // not said: a new login is the least that can help
				s.Now = true
			}
			return s, true
		}
	}
	return gate.StepUp{}, false
}

// wanted is a list of names of authentication contexts, or nothing if it is no such list.
func wanted(acr string) string {
	if len(acr) > maxWanted || strings.ContainsFunc(acr, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return strings.Join(strings.Fields(acr), " ")
}

// challenge is one of a WWW-Authenticate header (RFC 9110 section 11.6.1).
type challenge struct {
	scheme string
	params map[string]string // by name in lower case
}

// maxChallenges bounds what is read of one header line.
const maxChallenges = 8

// challenges reads a header line: schemes with their parameters, quoted or not, apart by commas.
func challenges(line string) (list []challenge) {
	for len(list) <= maxChallenges {
		line = strings.TrimLeft(line, " \t,")
		if line == "" {
			return list
		}
		word, rest := token(line)
		if word == "" {
			return list // not of the grammar: what follows cannot be told apart
		}
		rest = strings.TrimLeft(rest, " \t")
		if after, ok := strings.CutPrefix(rest, "="); ok && len(list) > 0 {
			var value string
			value, line = quotedOrToken(strings.TrimLeft(after, " \t"))
			list[len(list)-1].params[strings.ToLower(word)] = value
			continue
		}
		list = append(list, challenge{word, map[string]string{}})
		line = rest
	}
	return list[:maxChallenges]
}

// token takes a token (RFC 9110 section 5.6.2), or a token68 as its beginning, off a line.
func token(s string) (word, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	})
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

func quotedOrToken(s string) (value, rest string) {
	if s == "" || s[0] != '"' {
		return token(s)
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		case '"':
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "" // no end: nothing of it counts
}
