package web

import (
	"net/http"
	"strconv"
	"strings"
)

// IsGRPC reports whether a request is a call of gRPC. Its clients look at no status of HTTP but 200. gRPC-Web and
// Connect are not meant: theirs do.
func IsGRPC(r *http.Request) bool {
	if r.ProtoMajor != 2 || r.Method != http.MethodPost {
		return false
	}
	kind, ok := strings.CutPrefix(r.Header.Get("Content-Type"), "application/grpc")
	return ok && (kind == "" || kind[0] == '+' || kind[0] == ';')
}

// The codes of gRPC that problems become.
const (
	GRPCCancelled         = 1
	GRPCDeadlineExceeded  = 4
	GRPCResourceExhausted = 8
	GRPCInternal          = 13
	GRPCUnavailable       = 14

	grpcUnknown          = 2
	grpcInvalidArgument  = 3
	grpcPermissionDenied = 7
	grpcUnimplemented    = 12
	grpcUnauthenticated  = 16
)

var grpcCodes = map[int]int{
	http.StatusBadRequest: grpcInvalidArgument, http.StatusUnsupportedMediaType: grpcInvalidArgument,
	http.StatusUnauthorized: grpcUnauthenticated, http.StatusForbidden: grpcPermissionDenied,
	http.StatusNotFound: grpcUnimplemented, http.StatusMethodNotAllowed: grpcUnimplemented,
	http.StatusRequestEntityTooLarge: GRPCResourceExhausted, http.StatusTooManyRequests: GRPCResourceExhausted,
	http.StatusInternalServerError: GRPCInternal,
	http.StatusBadGateway:          GRPCUnavailable, http.StatusServiceUnavailable: GRPCUnavailable, http.StatusGatewayTimeout: GRPCUnavailable,
}

// WriteGRPC answers a call of gRPC with the problem: headers only, which are its trailers, too.
func (p *Problem) WriteGRPC(w http.ResponseWriter, r *http.Request) {
	p.Headers(w, r)
	code, ok := p.GRPC, p.GRPC != 0
	if !ok {
		code, ok = grpcCodes[p.Status]
	}
	if !ok {
		code = grpcUnknown
	}
	detail := p.Detail
	if detail == "" {
		detail = p.Title + "."
	}
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", strconv.Itoa(code))
	h.Set("Grpc-Message", grpcMessage(p.Code+": "+detail))
	w.WriteHeader(http.StatusOK)
}

// grpcMessage encodes what is not visible ASCII, and "%".
func grpcMessage(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
