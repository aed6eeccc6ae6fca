package proxy

import (
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
)

// keep takes the headers that are set for the final answer out of w until it is known: ReverseProxy sends what it
// finds there with every interim answer (103 Early Hints), and then forgets it.
func (s *sending) keep(w http.ResponseWriter) {
	s.w = w
	if h := w.Header(); len(h) > 0 {
		s.kept, s.header = maps.Clone(h), h
		clear(h)
	}
}

// giveBack puts in again what keep took out.
func (s *sending) giveBack() {
	if s != nil && s.kept != nil {
		maps.Copy(s.header, s.kept)
		s.kept = nil
	}
}

// watchHints makes interim answers obey the rules of final ones. ReverseProxy's own trace passes them on; ours goes
// before it, without the cost of chaining two traces.
func watchHints(r *http.Request) {
	trace := httptrace.ContextClientTrace(r.Context())
	if trace == nil || trace.Got1xxResponse == nil {
		return
	}
	pass := trace.Got1xxResponse
	trace.Got1xxResponse = func(code int, header textproto.MIMEHeader) error {
		without(http.Header(header), ours, hintless)
		return pass(code, header)
	}
}

// hintless are what no interim answer may say beside ours: it comes before it is known who may set what.
var hintless = setOf(
	"Set-Cookie", "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Transfer-Encoding", "Upgrade", "Trailer", "Te",
	"Content-Length",
)
