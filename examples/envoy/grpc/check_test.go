package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/cloakroom/cloakroom"
	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/idp"
)

const token = "what-the-proxy-presents"

// world is Cloakroom with its provider, and this program in front of its verify listener.
type world struct {
	host, cookie string
	verify       *httptest.Server
	envoy        auth.AuthorizationClient
}

func newWorld(t *testing.T) *world {
	t.Helper()
	var p *idp.Provider
	var h *cloakroom.Handler
	op := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.ServeHTTP(w, r) }))
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	t.Cleanup(op.Close)
	t.Cleanup(app.Close)
	var err error
	p, err = idp.New(idp.Config{
		Issuer: op.URL, Clients: []idp.Client{{ID: "app", Secret: "client-secret", RedirectURIs: []string{app.URL + "/auth/callback"}}},
		Users: []idp.User{{Username: "ann", Password: "password", Name: "Ann"}}, AccessTokenLife: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err = cloakroom.New(config.Config{
		Keys: []config.Secret{config.NewKey()}, Verify: config.Verify{Token: config.NewSecret(token)},
		Frontends: []config.Frontend{{
			URL:       app.URL,
			Providers: []config.Provider{{Issuer: op.URL, ClientID: "app", ClientSecret: config.NewSecret("client-secret"), PasswordLogin: true}},
			Routes:    []config.Route{{Path: "/public/", ForwardAuth: true, Session: "none"}, {Path: "/", ForwardAuth: true}},
		}},
	}, cloakroom.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Shutdown(context.Background()) })
	w := &world{host: strings.TrimPrefix(app.URL, "http://"), verify: httptest.NewServer(h.Verify())}
	t.Cleanup(w.verify.Close)
	w.login(t, app.URL)
	w.envoy = client(t, newAsker(w.verify.URL, token))
	return w
}

// client is Envoy's side: a real gRPC client over a real connection.
func client(t *testing.T, a *asker) auth.AuthorizationClient {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	auth.RegisterAuthorizationServer(server, a)
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return auth.NewAuthorizationClient(conn)
}

func (w *world) login(t *testing.T, url string) {
	t.Helper()
	req, err := http.NewRequest("POST", url+"/auth/login", strings.NewReader(`{"username":"ann","password":"password"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Cloakroom", "1")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 || len(res.Cookies()) == 0 {
		t.Fatalf("login: %s", res.Status)
	}
	w.cookie = res.Cookies()[0].Name + "=" + res.Cookies()[0].Value
}

// check is what Envoy sends about a request.
func (w *world) check(method, path string, headers map[string]string) *auth.CheckRequest {
	return &auth.CheckRequest{Attributes: &auth.AttributeContext{
		Source: &auth.AttributeContext_Peer{Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{Address: "203.0.113.9"}}}},
		Request: &auth.AttributeContext_Request{Http: &auth.AttributeContext_HttpRequest{
			Method: method, Path: path, Host: w.host, Scheme: "http", Headers: headers,
		}},
	}}
}

func value(list []*core.HeaderValueOption, name string) string {
	for _, o := range list {
		if o.GetHeader().GetKey() == name {
			return o.GetHeader().GetValue()
		}
	}
	return ""
}

func TestYes(t *testing.T) {
	w := newWorld(t)
	lies := map[string]string{
		":authority": "evil.example", ":path": "/public/", "x-forwarded-uri": "/public/", "x-forwarded-method": "GET", "x-forwarded-host": "evil.example", "host": "evil.example",
		"authorization": "Bearer forged", "x-auth-user": "root", "x-cloakroom-verify": "forged", "content-length": "7", "cookie": w.cookie + "; theirs=1", "sec-fetch-site": "same-origin",
	}
	answer, err := w.envoy.Check(t.Context(), w.check("POST", "/orders?x=%2F", lies))
	ok := answer.GetOkResponse()
	if err != nil || ok == nil || answer.GetStatus().GetCode() != int32(codes.OK) {
		t.Fatalf("%v %v", answer, err)
	}
	if !strings.HasPrefix(value(ok.GetHeaders(), "authorization"), "Bearer at_") || value(ok.GetHeaders(), "x-auth-user") == "" || value(ok.GetHeaders(), "cookie") != "theirs=1" {
		t.Errorf("%v", ok)
	}
	for _, o := range ok.GetHeaders() {
		if o.GetAppendAction() != core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			t.Errorf("%s is added, so that the client's stays", o.GetHeader().GetKey())
		}
	}
	delete(lies, "cookie") // nobody: everything that the client says of itself goes
	answer, err = w.envoy.Check(t.Context(), w.check("POST", "/public/x", lies))
	ok = answer.GetOkResponse()
	if err != nil || ok == nil || len(ok.GetHeaders()) != 0 {
		t.Fatalf("%v %v", answer, err)
	}
	for _, name := range identity {
		if !slices.Contains(ok.GetHeadersToRemove(), strings.ToLower(name)) {
			t.Errorf("%s stays", name)
		}
	}
}

func TestNo(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		name, method, path string
		headers            map[string]string
		status             int
		code               string
	}{
		{"nobody", "GET", "/orders", map[string]string{"sec-fetch-site": "same-origin"}, 401, "session_required"},
		{"a person", "GET", "/orders", map[string]string{"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 302, "session_required"},
		{"another site", "POST", "/orders", map[string]string{"cookie": w.cookie, "sec-fetch-site": "cross-site", "origin": "https://evil.example"}, 403, "cross_origin"},
		{"metadata twice", "POST", "/orders", map[string]string{"cookie": w.cookie, "sec-fetch-site": "same-origin,cross-site"}, 403, "cross_origin"},
		{"dots", "GET", "/public/../orders", nil, 400, "invalid_path"},
		{"no path", "GET", "", nil, 400, "invalid_request"},
		{"no method", "", "/orders", nil, 400, "invalid_request"},
	} {
		answer, err := w.envoy.Check(t.Context(), w.check(tc.method, tc.path, tc.headers))
		denied := answer.GetDeniedResponse()
		if err != nil || denied == nil || answer.GetStatus().GetCode() == int32(codes.OK) {
			t.Errorf("%s: %v %v", tc.name, answer, err)
			continue
		}
		if int(denied.GetStatus().GetCode()) != tc.status || value(denied.GetHeaders(), "x-cloakroom-code") != tc.code {
			t.Errorf("%s: %v", tc.name, denied)
		}
		if location := value(denied.GetHeaders(), "location"); tc.status == 302 && location != fmt.Sprintf("http://%s/auth/login?return_to=%%2Forders", w.host) {
			t.Errorf("%s: to %q", tc.name, location)
		}
		if tc.status == 401 && (!strings.Contains(denied.GetBody(), tc.code) || value(denied.GetHeaders(), "content-type") != "application/problem+json") {
			t.Errorf("%s: %v", tc.name, denied)
		}
		for _, o := range denied.GetHeaders() {
			if k := o.GetHeader().GetKey(); k == "content-length" || k == "authorization" {
				t.Errorf("%s: %s", tc.name, k)
			}
		}
	}
}

// Raw headers come as a list, with what the client sent twice still twice.
func TestRawHeaders(t *testing.T) {
	w := newWorld(t)
	check := w.check("GET", "/orders", nil)
	raw := func(list ...string) {
		m := &core.HeaderMap{}
		for i := 0; i < len(list); i += 2 {
			m.Headers = append(m.Headers, &core.HeaderValue{Key: list[i], RawValue: []byte(list[i+1])})
		}
		check.Attributes.Request.Http.HeaderMap = m
	}
	raw("cookie", w.cookie, "sec-fetch-site", "same-origin")
	if answer, err := w.envoy.Check(t.Context(), check); err != nil || answer.GetOkResponse() == nil {
		t.Errorf("%v %v", answer, err)
	}
	raw("cookie", w.cookie, "sec-fetch-site", "same-origin", "Sec-Fetch-Site", "cross-site")
	if answer, err := w.envoy.Check(t.Context(), check); err != nil || answer.GetDeniedResponse() == nil {
		t.Errorf("%v %v", answer, err)
	}
	raw("cookie", w.cookie+"\r\nSec-Fetch-Site: same-origin")
	if answer, err := w.envoy.Check(t.Context(), check); err == nil || answer.GetOkResponse() != nil {
		t.Errorf("a line break passed: %v", answer)
	}
}

// No answer, an empty check and a wrong token are no yes.
func TestFailsClosed(t *testing.T) {
	w := newWorld(t)
	good := w.check("GET", "/public/x", nil)
	if answer, err := client(t, newAsker(w.verify.URL, "another-token-altogether")).Check(t.Context(), good); err != nil || answer.GetDeniedResponse().GetStatus().GetCode() != 403 {
		t.Errorf("a wrong token: %v %v", answer, err)
	}
	if answer, err := w.envoy.Check(t.Context(), &auth.CheckRequest{}); err != nil || answer.GetDeniedResponse().GetStatus().GetCode() != 400 {
		t.Errorf("an empty check: %v %v", answer, err)
	}
	w.verify.Close()
	if answer, err := w.envoy.Check(t.Context(), good); status.Code(err) != codes.Unavailable || answer.GetOkResponse() != nil {
		t.Errorf("nobody answers: %v %v", answer, err)
	}
}
