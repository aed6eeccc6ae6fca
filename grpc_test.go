package cloakroom_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestGRPCRefusals: a client of gRPC without a session hears of it in its own way, over a real HTTP/2 connection. A
// proxy that asks for it hears a 401: a 200 would be a yes.
func TestGRPCRefusals(t *testing.T) {
	r := newRig(t, forwardAuth)
	front := httptest.NewUnstartedServer(r.h)
	front.EnableHTTP2 = true
	front.StartTLS()
	defer front.Close()
	for path, want := range map[string]string{"/api/pkg.Service/Call": "16", "/none/Call": "12", "/api/a%2fb": "3"} {
		for kind, grpc := range map[string]bool{"application/grpc+proto": true, "application/grpc-web+proto": false} {
			req, err := http.NewRequest("POST", front.URL+path, strings.NewReader("\x00\x00\x00\x00\x00"))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = strings.TrimPrefix(r.url, "http://")
			req.Header.Set("Content-Type", kind)
			req.Header.Set("Te", "trailers")
			res, err := front.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if h := res.Header; grpc && (res.StatusCode != 200 || h.Get("Grpc-Status") != want || h.Get("Content-Type") != "application/grpc" || h.Get("Grpc-Message") == "") ||
				!grpc && (res.StatusCode < 400 || h.Get("Grpc-Status") != "") {
				t.Errorf("%s as %s: %d %v", path, kind, res.StatusCode, h)
			}
		}
	}
	for at, method := range map[string]string{"/verify/forwarded": "GET", "/verify/envoy/orders/x": "POST"} {
		req := httptest.NewRequest(method, at, nil)
		req.ProtoMajor, req.Host = 2, strings.TrimPrefix(r.url, "http://")
		for name, value := range map[string]string{
			"X-Forwarded-Method": "POST", "X-Forwarded-Uri": "/orders/x", "X-Forwarded-Host": req.Host, "X-Forwarded-Proto": "http",
			"X-Forwarded-For": "192.0.2.1", "Content-Type": "application/grpc", "Te": "trailers",
		} {
			req.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		r.h.Verify().ServeHTTP(w, req)
		if w.Code != 401 {
			t.Errorf("%s: %d %s", at, w.Code, w.Body)
		}
	}
}
