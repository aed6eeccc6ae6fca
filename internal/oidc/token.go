package oidc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Expect is what the caller knows that the answer must agree with.
type Expect struct {
	Nonce     string        // "" = there was none (login by form, refresh)
	MaxAge    time.Duration // 0 = not asked
	ACRValues string        // "" = not asked
	Subject   string        // at a refresh: whom the session belongs to
	Issuer    string        // at a refresh
	AuthTime  time.Time     // at a refresh
}

// Exchange is what a grant brought.
type Exchange struct {
	Tokens TokenSet
	Claims Claims // zero where no ID token came
}

// PasswordRequest is a login by form. The password goes to the provider byte for byte.
type PasswordRequest struct{ Username, Password, ClientAddress string }

func (PasswordRequest) String() string               { return "[password request]" }
func (PasswordRequest) Format(f fmt.State, _ rune)   { fmt.Fprint(f, "[password request]") }
func (PasswordRequest) GoString() string             { return "[password request]" }
func (PasswordRequest) MarshalText() ([]byte, error) { return []byte("[password request]"), nil }

// Exchange turns an authorization code into tokens (RFC 6749 section 4.1.3, RFC 7636).
func (p *Provider) Exchange(ctx context.Context, code, verifier, redirectURI string, e Expect) (Exchange, error) {
	x, err := p.grant(ctx, "authorization_code", url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {redirectURI},
	}, nil)
	if err != nil {
		return Exchange{}, err
	}
	return p.withClaims(ctx, "authorization_code", x, e)
}

// Password logs in by form (RFC 6749 section 4.3). It is sent once, whatever happens: a second try would count
// double towards a lockout. The error's Reason says what it means for the person.
func (p *Provider) Password(ctx context.Context, r PasswordRequest) (Exchange, error) {
	form := url.Values{
		"grant_type": {"password"}, "username": {r.Username}, "password": {r.Password},
		"scope": {strings.Join(p.Scopes, " ")},
	}
	if p.Realm != "" && p.profile.realmGrant != "" {
		form.Set("grant_type", p.profile.realmGrant)
		form.Set("realm", p.Realm)
	}
	if p.Audience != "" {
		form.Set(p.profile.audienceParameter(), p.Audience)
	}
	header := http.Header{}
	if p.profile.addressHeader != "" && r.ClientAddress != "" {
		header.Set(p.profile.addressHeader, r.ClientAddress)
	}
	x, err := p.grant(ctx, "password", form, header)
	if err == nil {
		x, err = p.withClaims(ctx, "password", x, Expect{})
	}
	if failed, ok := errors.AsType[*Error](err); ok {
		failed.Reason = p.profile.reasonOf(failed)
	}
	return x, err
}

// Refresh gets a new token set. What the provider leaves out keeps its old value. An ID token that came along and
// does not hold is an *Error of Kind Rejected beside the complete Exchange: the tokens must be saved first, for the
// old refresh token may be spent.
func (p *Provider) Refresh(ctx context.Context, old TokenSet, e Expect) (Exchange, error) {
	x, err := p.grant(ctx, "refresh_token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {old.Refresh}}, nil)
	if err != nil {
		return Exchange{}, err
	}
	t := &x.Tokens
	fresh := t.ID
	t.Generation = old.Generation + 1
	if t.Refresh == "" {
		t.Refresh = old.Refresh
		if t.RefreshEnd.IsZero() {
			t.RefreshEnd = old.RefreshEnd
		}
	}
	if t.ID == "" {
		t.ID = old.ID
	}
	if t.Scope == "" {
		t.Scope = old.Scope
	}
	if fresh == "" {
		return x, nil
	}
	claims, err := p.verifyRefreshed(ctx, x.Tokens, fresh, e)
	if err != nil {
		t.ID = old.ID
		if !IsKind(err, Rejected) {
			return x, nil //nolint:nilerr // it could not be checked now, so it is not used; the tokens must not be lost for that
		}
		return x, err
	}
	x.Claims = claims
	return x, nil
}

// withClaims checks the ID token, which a login must bring.
func (p *Provider) withClaims(ctx context.Context, act string, x Exchange, e Expect) (Exchange, error) {
	claims, err := p.verify(ctx, x.Tokens.ID, x.Tokens.Access, e)
	if err != nil {
		if refused, ok := errors.AsType[*Error](err); ok {
			refused.Act = act
		}
		return Exchange{}, err
	}
	x.Claims = claims
	return x, nil
}

// tokenAnswer is a token endpoint's answer, good or bad (RFC 6749 sections 5.1 and 5.2). Unknown members are ignored.
type tokenAnswer struct {
	AccessToken    string          `json:"access_token"`
	TokenType      string          `json:"token_type"`
	RefreshToken   string          `json:"refresh_token"`
	IDToken        string          `json:"id_token"`
	Scope          string          `json:"scope"`
	ExpiresIn      json.RawMessage `json:"expires_in"`
	RefreshExpires json.RawMessage `json:"refresh_expires_in"`
	RefreshToken2  json.RawMessage `json:"refresh_token_expires_in"`

	Error       json.RawMessage `json:"error"`
	Description json.RawMessage `json:"error_description"`
	Code        json.RawMessage `json:"code"` // the other shape of an error at Auth0
}

// grant asks the token endpoint.
func (p *Provider) grant(ctx context.Context, act string, form url.Values, header http.Header) (Exchange, error) {
	res, body, err := p.post(ctx, act, form, header, func(m *metadata) string { return m.Token })
	if err != nil {
		return Exchange{}, err
	}
	tokens, err := parseTokens(act, res, body, time.Now())
	return Exchange{Tokens: tokens}, err
}

// answerHead is what of an HTTP answer matters.
type answerHead struct {
	status     int
	retryAfter time.Duration
}

// parseTokens reads a token endpoint's answer.
func parseTokens(act string, head answerHead, body []byte, now time.Time) (TokenSet, error) {
	var a tokenAnswer
	err := uniqueJSON(body)
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	code := word(a.Error)
	if code == "" && head.status != http.StatusOK {
		code = word(a.Code)
	}
	if err != nil || head.status != http.StatusOK && code == "" {
		return TokenSet{}, unreadable(act, head)
	}
	if code != "" {
		return TokenSet{}, refusal(act, head, code, word(a.Description))
	}
	switch {
	case a.AccessToken == "":
		return TokenSet{}, unreadable(act, head)
	case !strings.EqualFold(a.TokenType, "Bearer"):
		return TokenSet{}, &Error{Kind: Rejected, Act: act, Status: head.status, Code: "token_type"}
	case !tokenText(a.AccessToken) || !tokenText(a.RefreshToken):
		return TokenSet{}, &Error{Kind: Rejected, Act: act, Status: head.status, Code: "token_characters"}
	}
	t := TokenSet{Access: a.AccessToken, TokenType: a.TokenType, Refresh: a.RefreshToken, ID: a.IDToken, Scope: a.Scope, Obtained: now}
	if life := seconds(a.ExpiresIn); life > 0 {
		t.Expires = now.Add(life)
	}
	life := seconds(a.RefreshExpires)
	if life == 0 {
		life = seconds(a.RefreshToken2)
	}
	if life > 0 && a.RefreshToken != "" {
		t.RefreshEnd = now.Add(life)
	}
	return t, nil
}

// tokenText reports whether s may stand in a header (RFC 6750 section 2.1, generously): no control character, no
// space, nothing beyond ASCII.
func tokenText(s string) bool {
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// seconds reads a number of seconds, which some providers write as a string. Absent and nonsense are 0 = unknown.
func seconds(raw json.RawMessage) time.Duration {
	s := strings.Trim(string(raw), `"`)
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || f <= 0 {
		return 0
	}
	return time.Duration(min(f, 10*365*24*3600)) * time.Second
}

// word is a JSON string, "" for anything else.
func word(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return printable(s)
}

// post sends a form to an endpoint, with client authentication, exactly once.
func (p *Provider) post(ctx context.Context, act string, form url.Values, header http.Header, endpoint func(*metadata) string) (head answerHead, body []byte, err error) {
	m, err := p.discover(ctx)
	if err != nil {
		return head, nil, err
	}
	method, err := p.authMethod(m)
	if err != nil {
		return head, nil, err
	}
	c := p.begin(act)
	defer func() { c.end(err) }()
	var written atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaderField: func(string, []string) { written.Store(true) },
	})
	req, err := p.request(ctx, endpoint(m), method, form)
	if err != nil {
		return head, nil, &Error{Kind: Misconfigured, Act: act, Err: err}
	}
	maps.Copy(req.Header, header)
	res, err := p.HTTP.Do(req)
	if err != nil {
		return head, nil, lost(act, written.Load(), err)
	}
	defer res.Body.Close()
	c.Status = res.StatusCode
	head = answerHead{res.StatusCode, retryAfter(res.Header.Get("Retry-After"), time.Now())}
	body, err = readAll(res.Body)
	if err != nil {
		return head, nil, &Error{Kind: Ambiguous, Act: act, Status: res.StatusCode, Err: noQuery(err)}
	}
	return head, body, nil
}

// lost is a request without an answer: before anything was written nothing happened; after that, anything may have.
func lost(act string, written bool, err error) *Error {
	e := &Error{Kind: Transient, Act: act, Err: noQuery(err)}
	if written {
		e.Kind = Ambiguous
	}
	return e
}

// request makes the POST. Its body cannot be replayed: net/http repeats a request on a stale connection only where
// it can rewind the body, and a grant must never be sent twice.
func (p *Provider) request(ctx context.Context, endpoint, method string, form url.Values) (*http.Request, error) {
	if method == "client_secret_post" {
		form.Set("client_id", p.ClientID)
		form.Set("client_secret", p.ClientSecret.Reveal())
	}
	encoded := form.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, io.NopCloser(strings.NewReader(encoded)))
	if err != nil {
		return nil, err
	}
	req.GetBody, req.ContentLength = nil, int64(len(encoded))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if method == "client_secret_basic" { // RFC 6749 section 2.3.1: form-encoded first
		req.SetBasicAuth(url.QueryEscape(p.ClientID), url.QueryEscape(p.ClientSecret.Reveal()))
	}
	return req, nil
}

// Revoke tells the provider that a token set is of no use any more (RFC 7009): its refresh token, or the access
// token where there is none. Without an endpoint there is nothing to tell.
func (p *Provider) Revoke(ctx context.Context, t TokenSet) error {
	m, err := p.discover(ctx)
	if err != nil {
		return err
	}
	if m.Revocation == "" {
		return nil
	}
	form := url.Values{"token": {t.Refresh}, "token_type_hint": {"refresh_token"}}
	if t.Refresh == "" {
		form = url.Values{"token": {t.Access}, "token_type_hint": {"access_token"}}
	}
	head, _, err := p.post(ctx, "revoke", form, nil, func(m *metadata) string { return m.Revocation })
	if err == nil && (head.status < 200 || head.status > 299) {
		err = &Error{Kind: Transient, Act: "revoke", Status: head.status, RetryAfter: head.retryAfter}
	}
	return err
}

// challenge is the S256 code challenge of a verifier (RFC 7636 section 4.2).
func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// uniqueJSON refuses an object that names a member twice at its top: two parsers could take different ones.
func uniqueJSON(body []byte) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if seen[name] {
			return errors.New("a member is named twice")
		}
		seen[name] = true
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}
