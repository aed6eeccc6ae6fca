package proxy

import (
	"errors"
	"net/http"

	"github.com/cloakroom/cloakroom/internal/web"
)

// streamError is net/http's error for an HTTP/2 stream that the upstream reset. That one has no name outside, but turns
// into any struct with these fields.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "stream reset" }

// The error codes of HTTP/2 (RFC 9113 section 7) that mean something of their own to gRPC.
const (
	refusedStream   = 0x7
	cancelled       = 0x8
	enhanceYourCalm = 0xb
)

// resetCode is the code of gRPC for a call whose stream the upstream reset, 0 for other errors. A server that ends a
// call at its deadline resets the stream, too, and may come before the client's own clock: for the client it must not
// look like an upstream that is not there, since that is what clients try again. Only a refused stream has done nothing.
func resetCode(r *http.Request, err error) int {
	reset, ok := errors.AsType[streamError](err)
	switch {
	case !ok || !web.IsGRPC(r):
		return 0
	case reset.Code == cancelled && r.Header.Get("Grpc-Timeout") != "":
		return web.GRPCDeadlineExceeded
	case reset.Code == cancelled:
		return web.GRPCCancelled
	case reset.Code == refusedStream:
		return web.GRPCUnavailable
	case reset.Code == enhanceYourCalm:
		return web.GRPCResourceExhausted
	}
	return web.GRPCInternal
}
