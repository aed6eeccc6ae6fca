package oidc

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

func (e *Error) Error() string {
	parts := []string{"provider: " + e.Act, e.Kind.String()}
	if e.Status != 0 {
		parts = append(parts, "status "+strconv.Itoa(e.Status))
	}
	if e.Code != "" {
		parts = append(parts, e.Code)
	}
	if e.Err != nil {
		parts = append(parts, printable(e.Err.Error()))
	}
	return strings.Join(parts, ": ")
}

// IsKind reports whether err is an *Error of this kind.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

// kinds says what OAuth and OpenID Connect error codes mean for a grant (RFC 6749 section 5.2, OIDC Core 3.1.2.6,
// RFC 8707, RFC 9470, OAuth for First-Party Applications). access_denied is a no to a login, but at a refresh it has
// no fixed meaning: some providers say it of a wrong client secret.
var kinds = map[string]Kind{
	"invalid_grant":              Definitive,
	"mfa_required":               StepUp,
	"interaction_required":       StepUp,
	"login_required":             StepUp,
	"consent_required":           StepUp,
	"account_selection_required": StepUp,
	"insufficient_authorization": StepUp,
	"temporarily_unavailable":    Transient,
	"server_error":               Transient,
	"slow_down":                  Transient,
	"invalid_client":             Misconfigured,
	"unauthorized_client":        Misconfigured,
	"unsupported_grant_type":     Misconfigured,
	"invalid_scope":              Misconfigured,
	"invalid_request":            Misconfigured,
	"invalid_target":             Misconfigured,
}

// refusal is an answer of a token or revocation endpoint that is no success.
func (p *Provider) refusal(act string, a answer, o object) *Error {
	e := &Error{Act: act, Status: a.status, RetryAfter: a.retryAfter, body: o}
	e.Code, e.Description = codeOf(o, a.status), describe(o)
	e.numbers = numbersOf(o)
	if e.Code == "" {
		e.Err = errors.New("the answer is no OAuth answer")
	}
	e.Kind = kindOf(e)
	if r, ok := p.profile.ruleFor(e); ok {
		e.Kind, e.Reason, e.Meaning = r.kind, r.reason, r.meaning
	}
	if a.status == http.StatusTooManyRequests {
		e.Kind = Transient
	}
	return e
}

// kindOf is the meaning of an error by the standards. What has no OAuth code may have come from anywhere, after the
// grant was spent; only 401 and 429 say that it was not. A code nobody knows ends nobody's session.
func kindOf(e *Error) Kind {
	k, known := kinds[e.Code]
	switch {
	case known && k == Misconfigured && e.Status >= 500:
		return Transient
	case known:
		return k
	case e.Code == "access_denied" && e.Act != actRefresh:
		return Definitive
	case e.Status == http.StatusUnauthorized:
		return Misconfigured
	case e.Code != "" && e.Status >= 400 && e.Status < 500:
		return Misconfigured
	}
	return Ambiguous
}

// codeOf is the error code of an answer: error, or code, the other shape of an error at Auth0, or Cognito's type. What cannot be a code
// (RFC 6749 section 5.2, and no space: frameworks write "Bad Gateway" there) is none.
func codeOf(o object, status int) string {
	m := &members{object: o}
	code := m.text("error")
	if !o.has("error") && status != http.StatusOK {
		code = m.text("code")
		if o.has("__type") { // Cognito's JSON API, with a namespace before a # or without
			code = m.text("__type")
			code = code[strings.LastIndexByte(code, '#')+1:]
		}
	}
	if len(code) > 64 || strings.Trim(code, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/-") != "" {
		return ""
	}
	return code
}

func describe(o object) string {
	m := &members{object: o}
	if s := m.text("error_description"); s != "" {
		return printable(s)
	}
	if s := m.text("description"); s != "" {
		return printable(s)
	}
	return printable(m.text("message"))
}

// numbersOf reads error_codes, with which Entra ID says more than with its error.
func numbersOf(o object) (n []int) {
	if json.Unmarshal(o["error_codes"], &n) != nil {
		return nil
	}
	return n
}

// secretFields are the members of our forms that no log may hold, should a provider echo them.
var secretFields = []string{
	"password", "code", "code_verifier", "refresh_token", "token", "mfa_token", "otp", "totp", "oob_code", "binding_code",
	"recovery_code", "auth_session", "subject_token", "assertion",
}

// conceal takes out of an error what the provider echoed of our secrets.
func (p *Provider) conceal(err error, form url.Values) error {
	var secrets []string
	for _, name := range secretFields {
		secrets = append(secrets, form.Get(name))
	}
	return p.concealAll(err, secrets)
}

func (p *Provider) concealAll(err error, secrets []string) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	_, known := kinds[e.Code]
	for _, v := range append(secrets, p.ClientSecret.Reveal()) {
		if v == "" {
			continue
		}
		if !known && strings.Contains(e.Code, v) {
			e.Code = "concealed"
		}
		if strings.Contains(e.Description, v) {
			e.Description = ""
		}
	}
	return err
}

// retryAfter reads the header (RFC 9110 section 10.2.3), bounded to an hour.
func retryAfter(s string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.Atoi(strings.TrimSpace(s)); err == nil {
		d = time.Duration(max(0, min(n, 3600))) * time.Second
	} else if at, err := http.ParseTime(s); err == nil {
		d = at.Sub(now)
	}
	return max(0, min(d, time.Hour))
}

// printable cuts a provider's words to what may stand in a log.
func printable(s string) string {
	out := make([]byte, 0, 200)
	for i := 0; i < len(s) && len(out) < 200; i++ {
		if c := s[i]; c >= 0x20 && c < 0x7f {
			out = append(out, c)
		}
	}
	return string(out)
}
