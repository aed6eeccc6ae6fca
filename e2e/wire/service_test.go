package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// service is the path of the gRPC service, and so the prefix of its route.
const service = "/cloakroom.wire.Echo/"

// largest is what both ends take as one message: 4 MiB and what is around it.
const largest = 5 << 20

// echo is the gRPC service of the tests. It needs no generated code: its messages are protobuf's well-known ones.
type echo struct {
	cancelled chan string // the method whose caller went away
	begun     chan string // the method that waits
	release   chan struct{}
}

func newEcho() *echo {
	return &echo{cancelled: make(chan string, 16), begun: make(chan string, 16), release: make(chan struct{})}
}

// bytesCall makes a unary method of f.
func bytesCall(name string, f func(*echo, context.Context, *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := new(wrapperspb.BytesValue)
		if err := decode(in); err != nil {
			return nil, err
		}
		return f(srv.(*echo), ctx, in)
	}}
}

var echoDesc = grpc.ServiceDesc{
	ServiceName: "cloakroom.wire.Echo",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		bytesCall("Unary", (*echo).unary),
		bytesCall("Metadata", (*echo).metadata),
		bytesCall("Fail", (*echo).fail),
		bytesCall("Wait", (*echo).wait),
		bytesCall("Hold", (*echo).hold),
	},
	Streams: []grpc.StreamDesc{
		{StreamName: "Count", ServerStreams: true, Handler: func(srv any, s grpc.ServerStream) error { return srv.(*echo).count(s) }},
		{StreamName: "Sum", ClientStreams: true, Handler: func(srv any, s grpc.ServerStream) error { return srv.(*echo).sum(s) }},
		{StreamName: "Talk", ServerStreams: true, ClientStreams: true, Handler: func(srv any, s grpc.ServerStream) error { return srv.(*echo).talk(s) }},
	},
}

func (e *echo) unary(_ context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	return in, nil
}

// metadata sends back what came as header and trailer, and as its answer what of it is the caller's identity.
func (e *echo) metadata(ctx context.Context, _ *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	in, _ := metadata.FromIncomingContext(ctx)
	if err := grpc.SendHeader(ctx, metadata.MD{"answer-text": in["ask-text"], "answer-bin": in["ask-bin"], "seen-cookie": in["cookie"]}); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, metadata.MD{"end-text": in["ask-text"], "end-bin": in["ask-bin"]}); err != nil {
		return nil, err
	}
	var bearer string
	if v := in["authorization"]; len(v) == 1 {
		bearer = v[0]
	}
	return wrapperspb.Bytes([]byte(bearer)), nil
}

// failure is the error of Fail: its text needs gRPC's percent-encoding, and it has a detail.
func failure() *status.Status {
	s, err := status.New(codes.FailedPrecondition, "zu groß: 100 % of 7\n").WithDetails(wrapperspb.String("größe"), wrapperspb.Int64(7))
	if err != nil {
		panic(err)
	}
	return s
}

func (e *echo) fail(ctx context.Context, _ *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	_ = grpc.SetTrailer(ctx, metadata.Pairs("end-text", "after the error"))
	return nil, failure().Err()
}

// wait ends when its caller is gone, or its deadline over.
func (e *echo) wait(ctx context.Context, _ *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	_, has := ctx.Deadline()
	e.begun <- map[bool]string{true: "with a deadline", false: "without a deadline"}[has]
	<-ctx.Done()
	e.cancelled <- ctx.Err().Error()
	return nil, status.FromContextError(ctx.Err()).Err()
}

// hold answers when it is released.
func (e *echo) hold(ctx context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	e.begun <- "hold"
	select {
	case <-e.release:
		return in, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

func (e *echo) count(s grpc.ServerStream) error {
	n := new(wrapperspb.Int64Value)
	if err := s.RecvMsg(n); err != nil {
		return err
	}
	for i := range n.Value {
		if err := s.SendMsg(wrapperspb.Int64(i)); err != nil {
			return err
		}
	}
	s.SetTrailer(metadata.Pairs("end-text", "counted"))
	return nil
}

func (e *echo) sum(s grpc.ServerStream) error {
	var sum int64
	for {
		n := new(wrapperspb.Int64Value)
		err := s.RecvMsg(n)
		if errors.Is(err, io.EOF) {
			return s.SendMsg(wrapperspb.Int64(sum))
		}
		if err != nil {
			return err
		}
		sum += n.Value
	}
}

func (e *echo) talk(s grpc.ServerStream) error {
	for {
		m := new(wrapperspb.BytesValue)
		err := s.RecvMsg(m)
		if errors.Is(err, io.EOF) {
			s.SetTrailer(metadata.Pairs("end-text", "said all"))
			return nil
		}
		if err != nil {
			e.cancelled <- "talk"
			return err
		}
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
}

// serve runs the service, and returns its address as an upstream is written: "h2c" or "https".
func (e *echo) serve(t *testing.T, scheme string, a authority) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(largest), grpc.MaxSendMsgSize(largest)}
	if scheme == "https" {
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(&a.cert)))
	}
	s := grpc.NewServer(options...)
	s.RegisterService(&echoDesc, e)
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	return scheme + "://" + ln.Addr().String()
}
