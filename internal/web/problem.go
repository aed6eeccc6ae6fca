// Package web is our manners in HTTP, shared by every room that answers a browser: problems (RFC 9457), cookies,
// the client's address behind trusted proxies, and return_to. It decides nothing.
package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Codes of problems. They are stable: apps branch on them.
const (
	CodeSessionRequired     = "session_required"
	CodeSessionEnded        = "session_ended"
	CodeSessionReplaced     = "session_replaced"
	CodeStepUpRequired      = "step_up_required"
	CodeCrossOrigin         = "cross_origin"
	CodeInvalidCredentials  = "invalid_credentials"
	CodeAccountBlocked      = "account_blocked"
	CodePasswordBreached    = "password_breached"
	CodeAccessDenied        = "access_denied"
	CodeTooManyAttempts     = "too_many_attempts"
	CodeChallengeRequired   = "challenge_required"
	CodeProviderUnavailable = "provider_unavailable"
	CodeStoreUnavailable    = "store_unavailable"
	CodeInvalidRequest      = "invalid_request"
	CodeInvalidReturnTo     = "invalid_return_to"
	CodeInvalidLogout       = "invalid_logout"
	CodeInvalidPath         = "invalid_path"
	CodeLoginFailed         = "login_failed"
	CodeLoginExpired        = "login_expired"
	CodeNotFound            = "not_found"
	CodeMethodNotAllowed    = "method_not_allowed"
	CodeTooLarge            = "too_large"
	CodeUnsupportedType     = "unsupported_media_type"
	CodeWrongHost           = "wrong_host"
	CodeHTTPSRequired       = "https_required"
	CodeUpstreamUnreachable = "upstream_unreachable"
	CodeUpstreamTimeout     = "upstream_timeout"
	CodePrefetch            = "prefetch_refused"
	CodeVerifyToken         = "verify_token_required"
	CodeInternal            = "internal_error"

	// The operator's.
	CodeTokenRequired    = "token_required"
	CodeAPIClosed        = "api_closed"
	CodeChoiceRequired   = "choice_required"
	CodeReplicasDisagree = "replicas_disagree"
)

// standing is what a code always says: its status, and a title that needs no context.
type standing struct {
	status int
	title  string
}

var standings = map[string]standing{
	CodeSessionRequired:     {401, "You are not logged in"},
	CodeSessionEnded:        {401, "Your session has ended"},
	CodeSessionReplaced:     {401, "Your session was replaced by a newer one"},
	CodeStepUpRequired:      {401, "Please confirm that it is you"},
	CodeCrossOrigin:         {403, "The request came from another site"},
	CodeInvalidCredentials:  {401, "Wrong user name or password"},
	CodeAccountBlocked:      {403, "This account is blocked"},
	CodePasswordBreached:    {403, "This password is known from a data breach"},
	CodeAccessDenied:        {403, "Access was denied"},
	CodeTooManyAttempts:     {429, "Too many attempts"},
	CodeChallengeRequired:   {403, "Please show that you are no robot"},
	CodeProviderUnavailable: {503, "The login service cannot be reached"},
	CodeStoreUnavailable:    {503, "The session store cannot be reached"},
	CodeInvalidRequest:      {400, "The request is not valid"},
	CodeInvalidLogout:       {400, "The logout does not hold"},
	CodeInvalidReturnTo:     {400, "return_to must be a path on this site"},
	CodeInvalidPath:         {400, "The path is ambiguous"},
	CodeLoginFailed:         {400, "The login did not succeed"},
	CodeLoginExpired:        {410, "The login took too long"},
	CodeNotFound:            {404, "There is nothing here"},
	CodeMethodNotAllowed:    {405, "The method is not allowed here"},
	CodeTooLarge:            {413, "The request is too large"},
	CodeUnsupportedType:     {415, "The content type is not supported"},
	CodeWrongHost:           {421, "This host is not served here"},
	CodeHTTPSRequired:       {403, "This site is served over https only"},
	CodeUpstreamUnreachable: {502, "The service behind this address cannot be reached"},
	CodeUpstreamTimeout:     {504, "The service behind this address did not answer in time"},
	CodePrefetch:            {503, "A login is not started by a prefetch"},
	CodeVerifyToken:         {403, "This proxy may not ask here"},
	CodeInternal:            {500, "Something went wrong"},
	CodeTokenRequired:       {401, "The operator's token is needed here"},
	CodeAPIClosed:           {403, "The operator's API is closed"},
	CodeChoiceRequired:      {400, "It must be said which sessions are meant"},
	CodeReplicasDisagree:    {409, "The replicas do not seal with the same key"},
}

// Problem is an answer that says no: a stable code for the app, a sentence for a person, a cause for the operator.
type Problem struct {
	Status     int
	Code       string
	Title      string
	Detail     string        // for people: what is wrong and how to mend it
	RetryAfter time.Duration // 0 = not said
	LoginURL   string
	Step       any    // what a login in progress waits for, so that an app need not remember it
	Allow      string // for 405
	GRPC       int    // what a call of gRPC gets in place of the status's code; 0 = that one
	Cause      error  // for the log only
}

// NewProblem makes the problem that a code stands for. An unknown code is a programming error and becomes a 500.
func NewProblem(code, detail string) *Problem {
	s, ok := standings[code]
	if !ok {
		s, code = standings[CodeInternal], CodeInternal
	}
	return &Problem{Status: s.status, Code: code, Title: s.title, Detail: detail}
}

// Because attaches the cause that only the operator sees.
func (p *Problem) Because(cause error) *Problem { p.Cause = cause; return p }

// After says when to try again.
func (p *Problem) After(d time.Duration) *Problem { p.RetryAfter = d; return p }

// Login says where to log in.
func (p *Problem) Login(url string) *Problem { p.LoginURL = url; return p }

func (p *Problem) Error() string {
	if p.Cause != nil {
		return fmt.Sprintf("%s: %v", p.Code, p.Cause)
	}
	return p.Code
}

func (p *Problem) Unwrap() error { return p.Cause }

// body is the wire form, RFC 9457 section 3.
type body struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Code       string `json:"code"`
	Detail     string `json:"detail"`
	RequestID  string `json:"request_id"`
	RetryAfter int    `json:"retry_after,omitempty"`
	LoginURL   string `json:"login_url,omitempty"`
	Step       any    `json:"step,omitempty"`
}

// Headers sets the headers that go with the problem, for answers in HTML as in JSON.
func (p *Problem) Headers(w http.ResponseWriter, r *http.Request) {
	if info := InfoOf(r); info != nil {
		info.Code, info.Cause = p.Code, p.Cause
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(Seconds(p.RetryAfter)))
	}
	if p.Allow != "" {
		h.Set("Allow", p.Allow)
	}
}

// Write answers with the problem as JSON.
func (p *Problem) Write(w http.ResponseWriter, r *http.Request) {
	p.Headers(w, r)
	b := body{
		Type: "about:blank", Title: p.Title, Status: p.Status, Code: p.Code, Detail: p.Detail,
		LoginURL: p.LoginURL, RetryAfter: Seconds(p.RetryAfter), Step: p.Step,
	}
	if info := InfoOf(r); info != nil {
		b.RequestID = info.ID
	}
	if b.Detail == "" {
		b.Detail = p.Title + "."
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(b) // the client may be gone; there is no one left to tell
}

// WriteJSON answers with v. Every JSON answer of ours is for one user and one moment: no-store.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// Seconds rounds d up to whole seconds, as Retry-After wants them.
func Seconds(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	return int((d + time.Second - 1) / time.Second)
}
