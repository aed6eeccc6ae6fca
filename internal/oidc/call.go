package oidc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
)

// maxAnswer bounds every answer of a provider, after decompression.
const maxAnswer = 1 << 20

// Names of OpenID Connect Core section 9.
const (
	clientSecretBasic = "client_secret_basic"
	clientSecretPost  = "client_secret_post"
)

// NewHTTPClient makes the client for conversations with providers: time-outs at every step, no redirect (one would
// send the client secret elsewhere). Idle connections are dropped early, before a provider drops them (Node does
// after 5 s): a grant on a connection that closes just then may or may not have arrived.
func NewHTTPClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	t.MaxIdleConnsPerHost = 16
	t.IdleConnTimeout = 3 * time.Second
	t.TLSHandshakeTimeout = 5 * time.Second
	t.ResponseHeaderTimeout = 25 * time.Second
	t.MaxResponseHeaderBytes = 64 << 10
	return &http.Client{Transport: t, Timeout: 30 * time.Second}
}

// confined is a client that follows no redirect and keeps no cookie, whatever it did before.
func confined(c *http.Client) *http.Client {
	own := *c
	own.Jar = nil
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// answer is what of an HTTP answer matters.
type answer struct {
	status     int
	retryAfter time.Duration
	body       []byte
}

// get fetches a JSON document and hands it on. Whatever goes wrong is Transient, unless read says otherwise.
func (p *Provider) get(ctx context.Context, act, address string, read func([]byte) error) (err error) {
	c := p.begin(act)
	defer func() { c.end(err) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return &Error{Kind: Misconfigured, Act: act, Err: noAddress(err)}
	}
	a, err := p.send(c, req)
	switch {
	case err != nil:
		return &Error{Kind: Transient, Act: act, Status: c.Status, Err: noAddress(err)}
	case a.status != http.StatusOK:
		return &Error{Kind: Transient, Act: act, Status: a.status, RetryAfter: a.retryAfter, Err: errors.New("not what was asked for")}
	}
	err = read(a.body)
	var e *Error
	if err != nil && !errors.As(err, &e) {
		return &Error{Kind: Transient, Act: act, Status: a.status, Err: err}
	}
	return err
}

// posting is a form for one of the provider's endpoints.
type posting struct {
	act      string
	endpoint func(*metadata) string
	form     url.Values
	header   http.Header
}

// post sends a form with client authentication, exactly once, and hands the answer on. An error of its own says by
// its Kind whether the form may have arrived.
func (p *Provider) post(ctx context.Context, o posting, read func(answer) error) (err error) {
	m, err := p.discover(ctx)
	if err != nil {
		return err
	}
	method, err := p.authMethod(m)
	if err != nil {
		return err
	}
	c := p.begin(o.act)
	defer func() { c.end(err) }()
	if err := ctx.Err(); err != nil {
		return &Error{Kind: Transient, Act: o.act, Err: err}
	}
	var way trace
	req, err := p.request(way.watch(ctx), o.endpoint(m), method, o)
	if err != nil {
		return &Error{Kind: Misconfigured, Act: o.act, Err: noAddress(err)}
	}
	a, err := p.send(c, req)
	if err == nil {
		return p.conceal(read(a), o.form)
	}
	e := &Error{Kind: Ambiguous, Act: o.act, Status: c.Status, Err: noAddress(err)}
	if c.Status == 0 && way.nothingWritten(err) {
		e.Kind = Transient
	}
	return e
}

// request makes the POST. Its body is wrapped so that it has no GetBody: net/http repeats a request on a connection
// that turns out to be closed only where it can rewind the body, and a grant must never be sent twice.
func (p *Provider) request(ctx context.Context, endpoint, method string, o posting) (*http.Request, error) {
	form := o.form
	if method == clientSecretPost {
		form.Set("client_id", p.ClientID)
		form.Set("client_secret", p.ClientSecret.Reveal())
	}
	encoded := form.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, io.NopCloser(strings.NewReader(encoded)))
	if err != nil {
		return nil, err
	}
	req.ContentLength = int64(len(encoded))
	maps.Copy(req.Header, o.header)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if method == clientSecretBasic { // RFC 6749 section 2.3.1: form-encoded first
		req.SetBasicAuth(url.QueryEscape(p.ClientID), url.QueryEscape(p.ClientSecret.Reveal()))
	}
	return req, nil
}

// errTooLarge says that an answer is larger than any honest one.
var errTooLarge = errors.New("the answer is too large")

// send does the request and reads the answer to its end, bounded.
func (p *Provider) send(c *call, req *http.Request) (answer, error) {
	defer func() { c.Duration = time.Since(c.Time) }()
	req.Header.Set("Accept", "application/json")
	res, err := p.HTTP.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	c.Status = res.StatusCode
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	case len(body) > maxAnswer:
		return answer{}, errTooLarge
	}
	return answer{res.StatusCode, retryAfter(res.Header.Get("Retry-After"), time.Now()), body}, nil
}

// trace knows how far a request came.
type trace struct{ asked, connected, wrote atomic.Bool }

func (t *trace) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:          func(string) { t.asked.Store(true) },
		GotConn:          func(httptrace.GotConnInfo) { t.connected.Store(true) },
		WroteHeaderField: func(string, []string) { t.wrote.Store(true) },
	})
}

// nothingWritten reports whether a request that failed certainly did not arrive. After a time-out net/http does not
// wait for its writer, so with a connection at hand the answer is no.
func (t *trace) nothingWritten(err error) bool {
	if !t.asked.Load() || t.wrote.Load() {
		return false
	}
	var timeout net.Error
	given := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
	return !t.connected.Load() || !given
}

// noAddress takes the address out of a transport error: what stands in a query is nobody's business.
func noAddress(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// call times one request to the provider for its event.
type call struct {
	event.Call
	sink event.Sink
}

func (p *Provider) begin(act string) *call {
	return &call{event.Call{Time: time.Now(), Provider: p.Name, Act: act, Outcome: "ok"}, p.Events}
}

func (c *call) end(err error) {
	var e *Error
	switch {
	case errors.As(err, &e):
		c.Outcome = strings.TrimSpace(e.Kind.String() + " " + e.Code)
	case err != nil:
		c.Outcome = Transient.String()
	}
	c.sink.Emit(&c.Call)
}
