package main

import (
	"context"
	"io"
	"net/http"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	envoy "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// asker translates Envoy's checks into questions to the verify listener, and its answers back. It decides nothing.
type asker struct {
	auth.UnimplementedAuthorizationServer
	url, token string
	client     *http.Client
}

// maxBody bounds a refusal: a page or a problem.
const maxBody = 1 << 20

// identity are the headers of a yes. An empty one is taken away, so that what the client sent never stays.
var identity = []string{"Authorization", "Cookie", "X-Auth-User", "X-Auth-Provider", "X-Auth-Email", "X-Auth-Session"}

// kept back are headers of one connection, of the body, and those that are set here.
var keptBack = map[string]bool{
	"connection": true, "keep-alive": true, "te": true, "trailer": true, "transfer-encoding": true, "proxy-connection": true, "content-length": true, "host": true,
	"expect": true, "authorization": true, "x-forwarded-method": true, "x-forwarded-uri": true, "x-forwarded-host": true, "x-forwarded-proto": true, "x-cloakroom-verify": true,
}

// Check answers one check. An error is no yes: Envoy then answers with status_on_error, if failure_mode_allow is off.
func (a *asker) Check(ctx context.Context, check *auth.CheckRequest) (*auth.CheckResponse, error) {
	question, err := a.question(ctx, check)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	answer, err := a.client.Do(question)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "Cloakroom does not answer")
	}
	defer answer.Body.Close() //nolint:errcheck // read to its end, or of no use
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxBody))
	if err != nil {
		return nil, status.Error(codes.Unavailable, "Cloakroom's answer broke off")
	}
	if answer.StatusCode == http.StatusOK {
		return yes(answer.Header), nil
	}
	return no(answer, string(body)), nil
}

// question is the request to the verify listener. Method, path, host and scheme are Envoy's own words; a missing one
// is left out, and Cloakroom refuses.
func (a *asker) question(ctx context.Context, check *auth.CheckRequest) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url, nil)
	if err != nil {
		return nil, err
	}
	asked := check.GetAttributes().GetRequest().GetHttp()
	set := func(name, value string) {
		if !keptBack[name] && !strings.HasPrefix(name, ":") {
			r.Header.Add(name, value)
		}
	}
	for name, value := range asked.GetHeaders() { // one of several lines is joined with commas, which no rule takes for one
		set(strings.ToLower(name), value)
	}
	for _, h := range asked.GetHeaderMap().GetHeaders() { // encode_raw_headers
		value := h.GetValue()
		if raw := h.GetRawValue(); len(raw) > 0 {
			value = string(raw)
		}
		set(strings.ToLower(h.GetKey()), value)
	}
	if r.Header.Get("X-Forwarded-For") == "" {
		r.Header.Set("X-Forwarded-For", check.GetAttributes().GetSource().GetAddress().GetSocketAddress().GetAddress())
	}
	for name, value := range map[string]string{
		"X-Forwarded-Method": asked.GetMethod(), "X-Forwarded-Uri": asked.GetPath(), "X-Forwarded-Host": asked.GetHost(),
		"X-Forwarded-Proto": asked.GetScheme(), "X-Cloakroom-Verify": a.token,
	} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	return r, nil
}

// yes lets the request pass, with Cloakroom's word in place of the client's.
func yes(h http.Header) *auth.CheckResponse {
	ok := &auth.OkHttpResponse{}
	for _, name := range identity {
		if value := h.Get(name); value != "" {
			ok.Headers = append(ok.Headers, option(name, value, core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD))
			continue
		}
		ok.HeadersToRemove = append(ok.HeadersToRemove, strings.ToLower(name))
	}
	for _, cookie := range h.Values("Set-Cookie") {
		ok.ResponseHeadersToAdd = append(ok.ResponseHeadersToAdd, option("Set-Cookie", cookie, core.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD))
	}
	return &auth.CheckResponse{Status: &rpc.Status{Code: int32(codes.OK)}, HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: ok}}
}

// no gives the browser what Cloakroom answered.
func no(answer *http.Response, body string) *auth.CheckResponse {
	denied := &auth.DeniedHttpResponse{Status: &envoy.HttpStatus{Code: envoy.StatusCode(answer.StatusCode)}, Body: body} //nolint:gosec // three digits
	for name, values := range answer.Header {
		if keptBack[strings.ToLower(name)] || name == "Date" {
			continue
		}
		for _, value := range values {
			denied.Headers = append(denied.Headers, option(name, value, core.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD))
		}
	}
	return &auth.CheckResponse{
		Status:       &rpc.Status{Code: int32(codes.PermissionDenied)},
		HttpResponse: &auth.CheckResponse_DeniedResponse{DeniedResponse: denied},
	}
}

func option(name, value string, action core.HeaderValueOption_HeaderAppendAction) *core.HeaderValueOption {
	return &core.HeaderValueOption{Header: &core.HeaderValue{Key: strings.ToLower(name), Value: value}, AppendAction: action}
}
