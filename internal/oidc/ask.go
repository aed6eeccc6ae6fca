package oidc

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
)

// Question is a request to an address at the provider that is no token endpoint: the steps of a login by form that
// are the provider's own.
type Question struct {
	Act     string // as event.Call names it
	Address string
	// One of: a form, sent with client authentication as at the token endpoint; a JSON body, sent with what Header
	// says; neither, which is a GET.
	Form          url.Values
	JSON          any
	Header        map[string]string
	ClientAddress string
	Secrets       []string // what of the JSON body no log may hold, should the provider echo it
}

// Ask sends a question once and reads a 200's JSON into a value. The error's Reason says what it means for the person.
func (p *Provider) Ask(ctx context.Context, q Question, into any) error {
	read := func(a answer) error {
		if a.status != http.StatusOK {
			refused, _ := parseObject(a.body) // what is no object has no code
			return p.refusal(q.Act, a, refused)
		}
		if err := json.Unmarshal(a.body, into); err != nil {
			return &Error{Kind: Rejected, Act: q.Act, Status: a.status, Code: "answer"}
		}
		return nil
	}
	header := p.addressOf(q.ClientAddress)
	for name, value := range q.Header {
		header.Set(name, value)
	}
	if q.Form != nil {
		return withReason(p.post(ctx, posting{act: q.Act, form: q.Form, header: header, endpoint: func(*metadata) string { return q.Address }}, read))
	}
	return withReason(p.concealAll(p.ask(ctx, q, header, read), q.Secrets))
}

// ask sends a JSON body, or a GET. The body cannot be rewound, so that net/http never sends it twice.
func (p *Provider) ask(ctx context.Context, q Question, header http.Header, read func(answer) error) (err error) {
	c := p.begin(q.Act)
	defer func() { c.end(err) }()
	var body io.Reader
	var size int
	method := http.MethodGet
	if q.JSON != nil {
		raw, err := json.Marshal(q.JSON)
		if err != nil {
			return &Error{Kind: Misconfigured, Act: q.Act, Err: err}
		}
		method, body, size = http.MethodPost, io.NopCloser(bytes.NewReader(raw)), len(raw)
	}
	var way trace
	req, err := http.NewRequestWithContext(way.watch(ctx), method, q.Address, body)
	if err != nil {
		return &Error{Kind: Misconfigured, Act: q.Act, Err: noAddress(err)}
	}
	req.Header, req.ContentLength = header, int64(size)
	if q.JSON != nil && header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/json")
	}
	a, err := p.send(c, req)
	if err == nil {
		return read(a)
	}
	e := &Error{Kind: Ambiguous, Act: q.Act, Status: c.Status, Err: noAddress(err)}
	if c.Status == 0 && way.nothingWritten(err) {
		e.Kind = Transient
	}
	return e
}

// Endpoints are addresses of the provider's discovery document that a login by form needs.
type Endpoints struct {
	Token     string
	Challenge string // authorization_challenge_endpoint, "" = none
}

// Endpoints reads them, asking for the document if need be.
func (p *Provider) Endpoints(ctx context.Context) (Endpoints, error) {
	m, err := p.discover(ctx)
	if err != nil {
		return Endpoints{}, withReason(err)
	}
	return Endpoints{Token: m.token, Challenge: m.challenge}, nil
}
