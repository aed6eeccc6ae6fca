package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"golang.org/x/net/http2"
)

// TestResetCode lets a server reset the stream with each code, so that net/http's own error is what is looked at.
func TestResetCode(t *testing.T) {
	for _, tc := range []struct {
		code          http2.ErrCode
		kind, timeout string
		want          int
	}{
		{http2.ErrCodeCancel, "application/grpc", "100m", 4},
		{http2.ErrCodeCancel, "application/grpc", "", 1},
		{http2.ErrCodeInternal, "application/grpc", "100m", 13},
		{http2.ErrCodeEnhanceYourCalm, "application/grpc", "", 8},
		{http2.ErrCodeCancel, "application/json", "100m", 0},
	} {
		t.Run(fmt.Sprint(tc), func(t *testing.T) {
			err := resetWith(t, tc.code)
			in := httptest.NewRequest("POST", "/", nil)
			in.ProtoMajor = 2
			in.Header.Set("Content-Type", tc.kind)
			if tc.timeout != "" {
				in.Header.Set("Grpc-Timeout", tc.timeout)
			}
			if got := resetCode(in, err); got != tc.want {
				t.Errorf("%d instead of %d for %v", got, tc.want, err)
			}
		})
	}
	in := httptest.NewRequest("POST", "/", nil)
	in.ProtoMajor = 2
	in.Header.Set("Content-Type", "application/grpc")
	for err, want := range map[error]int{io.EOF: 0, nil: 0, streamError{Code: refusedStream}: 14} { // net/http tries those again by itself
		if got := resetCode(in, err); got != want {
			t.Errorf("%v: %d instead of %d", err, got, want)
		}
	}
}

// resetWith returns the error of a request whose stream the server resets with the code.
func resetWith(t *testing.T, code http2.ErrCode) error {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface)))
		f := http2.NewFramer(conn, conn)
		_ = f.WriteSettings()
		for {
			switch frame, err := f.ReadFrame(); {
			case err != nil:
				return
			case frame.Header().Type == http2.FrameHeaders:
				_ = f.WriteRSTStream(frame.Header().StreamID, code)
			}
		}
	}()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+ln.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(req)
	if err == nil {
		res.Body.Close()
	}
	return err
}
