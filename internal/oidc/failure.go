package oidc

import (
	"errors"
	"net/http"
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
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// IsKind reports whether err is an *Error of this kind.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

// kinds says what OAuth and OpenID Connect error codes mean for a grant (RFC 6749 section 5.2, OIDC Core 3.1.2.6,
// RFC 9470, OAuth for First-Party Applications).
var kinds = map[string]Kind{
	"invalid_grant":              Definitive,
	"access_denied":              Definitive,
	"invalid_user_password":      Definitive,
	"mfa_required":               StepUp,
	"interaction_required":       StepUp,
	"login_required":             StepUp,
	"consent_required":           StepUp,
	"account_selection_required": StepUp,
	"insufficient_authorization": StepUp,
	"temporarily_unavailable":    Transient,
	"server_error":               Transient,
	"slow_down":                  Transient,
	"too_many_requests":          Transient,
	"too_many_attempts":          Transient,
	"invalid_client":             Misconfigured,
	"unauthorized_client":        Misconfigured,
	"unsupported_grant_type":     Misconfigured,
	"invalid_scope":              Misconfigured,
	"invalid_request":            Misconfigured,
	"invalid_target":             Misconfigured,
}

// refusal is an answer with an OAuth error code. An unknown code ends nobody's session: it is the operator's to
// look at.
func refusal(act string, head answerHead, code, description string) *Error {
	e := &Error{Kind: Misconfigured, Act: act, Status: head.status, Code: code, Description: description, RetryAfter: head.retryAfter}
	if k, ok := kinds[code]; ok {
		e.Kind = k
	}
	if head.status == http.StatusTooManyRequests {
		e.Kind = Transient
	}
	return e
}

// unreadable is an answer that is no OAuth answer: HTML, nothing, half of one. What happened behind it cannot be
// known, except that a 429 says that nothing did.
func unreadable(act string, head answerHead) *Error {
	e := &Error{
		Kind: Ambiguous, Act: act, Status: head.status, RetryAfter: head.retryAfter,
		Err: errors.New("the answer is no OAuth answer"),
	}
	if head.status == http.StatusTooManyRequests {
		e.Kind = Transient
	}
	return e
}

// retryAfter reads the header (RFC 9110 section 10.2.3), bounded to an hour.
func retryAfter(s string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.Atoi(strings.TrimSpace(s)); err == nil {
		d = time.Duration(min(n, 3600)) * time.Second
	} else if at, err := http.ParseTime(s); err == nil {
		d = at.Sub(now)
	}
	return max(0, min(d, time.Hour))
}
