package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/cloakroom/cloakroom/internal/session"
)

// maxReplay is the largest body that is kept to be sent again.
const maxReplay = 64 << 10

// renewer sends a request again, once, with a newer token after the upstream said invalid_token (RFC 6750 section
// 3.1). A body that cannot be repeated is not.
type renewer struct {
	next   http.RoundTripper
	gate   Gate
	wanted bool // the route has a token
}

func (t *renewer) RoundTrip(r *http.Request) (*http.Response, error) {
	s := sendingOf(r.Context())
	if !t.wanted || s == nil || s.pass.Token.Value == "" {
		return t.next.RoundTrip(r)
	}
	again, err := replay(r)
	if err != nil {
		return nil, err
	}
	res, err := t.next.RoundTrip(r)
	if err != nil || res.StatusCode != http.StatusUnauthorized || again == nil || !invalidToken(res.Header) {
		return res, err
	}
	pass, ok, err := t.gate.Renew(r.Context(), s.pass)
	if errors.Is(err, session.ErrStepUp) { // neither a logout nor the upstream's matter
		_ = res.Body.Close()
		return nil, err
	}
	if err != nil || !ok {
		return res, nil //nolint:nilerr // the upstream's own answer says it best
	}
	_, _ = io.CopyN(io.Discard, res.Body, maxReplay) // so that the connection can be used again
	_ = res.Body.Close()
	retry := r.Clone(r.Context())
	retry.Body = again()
	setToken(retry.Header, pass)
	res, err = t.next.RoundTrip(retry)
	if err == nil && res.StatusCode == http.StatusUnauthorized && invalidToken(res.Header) {
		t.gate.Rejected(pass)
	}
	return res, err
}

// replay returns what makes the request's body again, nil if it cannot be repeated. A small body is read for that.
func replay(r *http.Request) (func() io.ReadCloser, error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return func() io.ReadCloser { return http.NoBody }, nil
	}
	if r.ContentLength < 0 || r.ContentLength > maxReplay || r.Header.Get("Expect") != "" {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, r.ContentLength))
	if err != nil {
		return nil, err
	}
	_ = r.Body.Close()
	make := func() io.ReadCloser { return io.NopCloser(bytes.NewReader(body)) }
	r.Body = make()
	return make, nil
}

// invalidToken reports whether the upstream rejected the token itself.
func invalidToken(h http.Header) bool {
	for _, v := range h["Www-Authenticate"] {
		v = strings.ToLower(v)
		if strings.Contains(v, "bearer") && (strings.Contains(v, `error="invalid_token"`) || strings.Contains(v, "error=invalid_token")) {
			return true
		}
	}
	return false
}
