package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// caller is a gRPC client of a front.
type caller struct {
	*grpc.ClientConn
	front *front
	api   *echo
}

func dialGRPC(t *testing.T, f *front, api *echo) caller {
	t.Helper()
	creds := insecure.NewCredentials()
	if f.tls != nil {
		creds = credentials.NewTLS(f.tls.Clone())
	}
	conn, err := grpc.NewClient("passthrough:///"+f.host, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largest), grpc.MaxCallSendMsgSize(largest)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return caller{conn, f, api}
}

// context is that of a call of the person who is logged in; more are pairs of metadata.
func (c caller) context(t *testing.T, more ...string) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	return metadata.AppendToOutgoingContext(ctx, append([]string{"cookie", c.front.cookie, "x-cloakroom", "1"}, more...)...), cancel
}

func (c caller) unary(ctx context.Context, method string, in []byte, options ...grpc.CallOption) ([]byte, error) {
	out := new(wrapperspb.BytesValue)
	err := c.Invoke(ctx, service+method, wrapperspb.Bytes(in), out, options...)
	return out.Value, err
}

// TestGRPC calls grpc-go's server by grpc-go's client over every pair of protocols.
func TestGRPC(t *testing.T) {
	a := newAuthority(t)
	for _, k := range []kind{secure, plain} {
		for _, upstream := range []string{"h2c", "https"} {
			t.Run(fmt.Sprintf("%s to %s", k, upstream), func(t *testing.T) {
				api := newEcho()
				route := fmt.Sprintf("{path: %s, upstream: %q", service, api.serve(t, upstream, a))
				if upstream == "https" {
					route += fmt.Sprintf(", connection: {ca_file: %q}", a.caFile)
				}
				route += "}"
				c := dialGRPC(t, startFront(t, k, a, route), api)
				t.Run("unary", c.testUnary)
				t.Run("server stream", c.testServerStream)
				t.Run("client stream", c.testClientStream)
				t.Run("both streams", c.testBothStreams)
				t.Run("metadata", c.testMetadata)
				t.Run("error with details", c.testError)
				t.Run("deadline", c.testDeadline)
				t.Run("cancellation", c.testCancellation)
				t.Run("cancellation of a stream", c.testStreamCancellation)
				t.Run("without a session", c.testNoSession)
				t.Run("unknown method", c.testUnknown)
			})
		}
	}
}

func (c caller) testUnary(t *testing.T) {
	for _, size := range []int{0, 1, 70_000, 4 << 20} {
		ctx, cancel := c.context(t)
		defer cancel()
		in := noise(size)
		out, err := c.unary(ctx, "Unary", in)
		if err != nil || !bytes.Equal(in, out) {
			t.Errorf("%d bytes: %d came back, %v", size, len(out), err)
		}
	}
}

func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(b)
	return b
}

func (c caller) testServerStream(t *testing.T) {
	ctx, cancel := c.context(t)
	defer cancel()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, service+"Count")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SendMsg(wrapperspb.Int64(1000)), s.CloseSend()); err != nil {
		t.Fatal(err)
	}
	for want := range int64(1000) {
		n := new(wrapperspb.Int64Value)
		if err := s.RecvMsg(n); err != nil || n.Value != want {
			t.Fatalf("%d instead of %d, %v", n.Value, want, err)
		}
	}
	if err := s.RecvMsg(new(wrapperspb.Int64Value)); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	if got := s.Trailer().Get("end-text"); !slices.Equal(got, []string{"counted"}) {
		t.Errorf("trailer %q", got)
	}
}

func (c caller) testClientStream(t *testing.T) {
	ctx, cancel := c.context(t)
	defer cancel()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, service+"Sum")
	if err != nil {
		t.Fatal(err)
	}
	for n := range int64(1001) {
		if err := s.SendMsg(wrapperspb.Int64(n)); err != nil {
			t.Fatal(err)
		}
	}
	sum := new(wrapperspb.Int64Value)
	if err := errors.Join(s.CloseSend(), s.RecvMsg(sum)); err != nil || sum.Value != 500_500 {
		t.Errorf("%d, %v", sum.Value, err)
	}
}

// testBothStreams sends each message only after the one before has come back: nothing on the way may wait for more.
func (c caller) testBothStreams(t *testing.T) {
	ctx, cancel := c.context(t)
	defer cancel()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, service+"Talk")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		in, out := noise(i*i), new(wrapperspb.BytesValue)
		if err := errors.Join(s.SendMsg(wrapperspb.Bytes(in)), s.RecvMsg(out)); err != nil || !bytes.Equal(in, out.Value) {
			t.Fatalf("message %d: %d bytes instead of %d, %v", i, len(out.Value), len(in), err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(new(wrapperspb.BytesValue)); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	if got := s.Trailer().Get("end-text"); !slices.Equal(got, []string{"said all"}) {
		t.Errorf("trailer %q", got)
	}
}

// testMetadata: what the caller says arrives, the answer's comes back, the bearer is the person's, and no ticket gets through.
func (c caller) testMetadata(t *testing.T) {
	ctx, cancel := c.context(t, "ask-text", "one", "ask-text", "two", "ask-bin", "\x00\xff\x80", "authorization", "Bearer of my own")
	defer cancel()
	var header, trailer metadata.MD
	bearer, err := c.unary(ctx, "Metadata", nil, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil {
		t.Fatal(err)
	}
	if who, err := people.owner(string(bearer)); err != nil || who != "alice@demo.example" {
		t.Errorf("the bearer %.12q belongs to %q, %v", bearer, who, err)
	}
	text, bin := []string{"one", "two"}, []string{"\x00\xff\x80"}
	for name, got := range map[string][2][]string{
		"answer-text": {header["answer-text"], text}, "answer-bin": {header["answer-bin"], bin}, "seen-cookie": {header["seen-cookie"], nil},
		"end-text": {trailer["end-text"], text}, "end-bin": {trailer["end-bin"], bin},
	} {
		if !slices.Equal(got[0], got[1]) {
			t.Errorf("%s: %q instead of %q", name, got[0], got[1])
		}
	}
}

func (c caller) testError(t *testing.T) {
	ctx, cancel := c.context(t)
	defer cancel()
	var trailer metadata.MD
	_, err := c.unary(ctx, "Fail", nil, grpc.Trailer(&trailer))
	got, want := status.Convert(err), failure()
	if !proto.Equal(got.Proto(), want.Proto()) || len(got.Details()) != 2 {
		t.Errorf("%v instead of %v", got, want)
	}
	if got := trailer.Get("end-text"); !slices.Equal(got, []string{"after the error"}) {
		t.Errorf("trailer %q", got)
	}
}

// testDeadline gives the call more time until it gets to the server within it.
func (c caller) testDeadline(t *testing.T) {
	for deadline := time.Second; ; deadline *= 2 {
		ctx, cancel := c.context(t)
		defer cancel()
		ctx, cancel = context.WithTimeout(ctx, deadline)
		defer cancel()
		if _, err := c.unary(ctx, "Wait", nil); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("the caller got %v", err)
		}
		select {
		case got := <-c.api.begun:
			if got != "with a deadline" {
				t.Errorf("the server was called %s", got)
			}
			receive(t, "the deadline at the server", c.api.cancelled)
			return
		default:
			if deadline > patience {
				t.Fatal("no call got to the server")
			}
			t.Logf("the call did not get to the server within %s", deadline)
		}
	}
}

func (c caller) testCancellation(t *testing.T) {
	ctx, done := context.WithCancel(t.Context())
	ctx = metadata.AppendToOutgoingContext(ctx, "cookie", c.front.cookie, "x-cloakroom", "1")
	result := make(chan error, 1)
	go func() { _, err := c.unary(ctx, "Wait", nil); result <- err }()
	if got := receive(t, "the call", c.api.begun); got != "without a deadline" {
		t.Errorf("the server was called %s", got)
	}
	done()
	if err := receive(t, "the caller's error", result); status.Code(err) != codes.Canceled {
		t.Errorf("the caller got %v", err)
	}
	receive(t, "the cancellation at the server", c.api.cancelled)
}

func (c caller) testStreamCancellation(t *testing.T) {
	ctx, cancel := c.context(t)
	defer cancel()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, service+"Talk")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.SendMsg(wrapperspb.Bytes(nil)), s.RecvMsg(new(wrapperspb.BytesValue))); err != nil {
		t.Fatal(err)
	}
	cancel()
	receive(t, "the cancellation at the server", c.api.cancelled)
}

func (c caller) testNoSession(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := c.unary(metadata.AppendToOutgoingContext(ctx, "x-cloakroom", "1"), "Unary", nil)
	if status.Code(err) != codes.Unauthenticated || !strings.HasPrefix(status.Convert(err).Message(), "session_required: ") {
		t.Errorf("without a session: %v", err)
	}
	if _, err := c.unary(metadata.AppendToOutgoingContext(ctx, "cookie", c.front.cookie), "Unary", nil); status.Code(err) != codes.PermissionDenied {
		t.Errorf("without the header that no other site can send: %v", err)
	}
}

func (c caller) testUnknown(t *testing.T) {
	ctx, cancel := c.context(t)
	defer cancel()
	if _, err := c.unary(ctx, "Nothing", nil); status.Code(err) != codes.Unimplemented {
		t.Errorf("the server's own answer: %v", err)
	}
	err := c.Invoke(ctx, "/cloakroom.wire.Nobody/Call", wrapperspb.Bytes(nil), new(wrapperspb.BytesValue))
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("a service without a route: %v", err)
	}
}

// TestGRPCWeb posts a frame of gRPC-Web as a browser does. Its bytes, and those of the answer with its trailer frame, pass unchanged.
func TestGRPCWeb(t *testing.T) {
	frame := func(flag byte, b []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(b))), b...)
	}
	message := func(text string) []byte {
		b, err := proto.Marshal(wrapperspb.String(text))
		if err != nil {
			t.Fatal(err)
		}
		return frame(0, b)
	}
	for _, contentType := range []string{"application/grpc-web+proto", "application/grpc-web-text"} {
		t.Run(contentType, func(t *testing.T) {
			var got []byte
			answer := append(message("für dich"), frame(0x80, []byte("grpc-status: 0\r\ngrpc-message: \r\n"))...)
			api, _ := serveUpstream(t, "http", authority{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got, _ = io.ReadAll(r.Body)
				if r.Header.Get("Content-Type") != contentType || r.Header.Get("X-Grpc-Web") != "1" || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
					t.Errorf("headers %v", r.Header)
				}
				w.Header().Set("Content-Type", contentType)
				_, _ = w.Write(answer)
			}))
			f := startFront(t, plain, authority{}, fmt.Sprintf("{path: %s, upstream: %q}", service, api))
			client := f.client(false)
			defer client.CloseIdleConnections()
			sent := message("from me")
			req := f.request("POST", service+"Unary", bytes.NewReader(sent))
			req.Header.Set("Content-Type", contentType)
			req.Header.Set("X-Grpc-Web", "1")
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != 200 || res.Header.Get("Content-Type") != contentType {
				t.Errorf("%s %v %v", res.Status, res.Header, err)
			}
			if !bytes.Equal(got, sent) || !bytes.Equal(body, answer) {
				t.Errorf("the server got % x, the client % x", got, body)
			}
		})
	}
}
