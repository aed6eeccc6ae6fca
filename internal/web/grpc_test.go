package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestIsGRPC(t *testing.T) {
	for _, tc := range []struct {
		method, kind string
		major        int
		want         bool
	}{
		{"POST", "application/grpc", 2, true},
		{"POST", "application/grpc+proto", 2, true},
		{"POST", "application/grpc;charset=utf-8", 2, true},
		{"POST", "application/grpc-web+proto", 2, false},
		{"POST", "application/grpcx", 2, false},
		{"POST", "application/json", 2, false},
		{"POST", "", 2, false},
		{"POST", "application/grpc", 1, false},
		{"GET", "application/grpc", 2, false},
	} {
		r := httptest.NewRequest(tc.method, "/", nil)
		r.ProtoMajor = tc.major
		r.Header.Set("Content-Type", tc.kind)
		if got := IsGRPC(r); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

func TestWriteGRPC(t *testing.T) {
	for code, want := range map[string]string{
		CodeSessionRequired: "16", CodeStepUpRequired: "16", CodeCrossOrigin: "7", CodeProviderUnavailable: "14", CodeUpstreamUnreachable: "14",
		CodeUpstreamTimeout: "14", CodeNotFound: "12", CodeMethodNotAllowed: "12", CodeInvalidPath: "3", CodeTooLarge: "8",
		CodeTooManyAttempts: "8", CodeInternal: "13", CodeWrongHost: "2",
	} {
		w := httptest.NewRecorder()
		NewProblem(code, "50 % of ü\n").After(1500*time.Millisecond).WriteGRPC(w, httptest.NewRequest("POST", "/", nil))
		h := w.Header()
		if w.Code != http.StatusOK || w.Body.Len() != 0 || h.Get("Content-Type") != "application/grpc" || h.Get("Grpc-Status") != want ||
			h.Get("Grpc-Message") != code+": 50 %25 of %C3%BC%0A" || h.Get("Retry-After") != "2" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", code, w.Code, h)
		}
	}
	own := NewProblem(CodeUpstreamUnreachable, "")
	own.GRPC = GRPCDeadlineExceeded
	w := httptest.NewRecorder()
	if own.WriteGRPC(w, httptest.NewRequest("POST", "/", nil)); w.Header().Get("Grpc-Status") != "4" {
		t.Error(w.Header())
	}
	w = httptest.NewRecorder()
	NewProblem(CodeNotFound, "").WriteGRPC(w, httptest.NewRequest("POST", "/", nil))
	if got := w.Header().Get("Grpc-Message"); got != "not_found: There is nothing here." {
		t.Error(got)
	}
}
