package proxy

import (
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
)

// hints is what interim answers need.
type hints struct {
	trace httptrace.ClientTrace
	mu    sync.Mutex
	final bool // the answer is here: no interim one any more

	header, kept http.Header // with ReverseProxy: what is set for the final answer, and where it goes
}

// interim passes an interim answer (103 Early Hints) on: what it may say of itself, without the headers that are set for
// the final answer.
func (s *sending) interim(code int, header textproto.MIMEHeader) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final {
		return nil
	}
	without(http.Header(header), ours, hintless)
	h := s.w.Header()
	kept := maps.Clone(h)
	clear(h)
	maps.Copy(h, header)
	s.w.WriteHeader(code)
	clear(h)
	maps.Copy(h, kept)
	return nil
}

// answered says that the final answer is here, or none will come.
func (s *sending) answered() {
	s.mu.Lock()
	s.final = true
	s.mu.Unlock()
}

// hinted is for ReverseProxy, whose interim answers need the rules of ours.
type hinted struct{ next http.RoundTripper }

func (t hinted) RoundTrip(r *http.Request) (*http.Response, error) {
	watchHints(r)
	return t.next.RoundTrip(r)
}

// keep takes the headers that are set for the final answer out of w until it is known: ReverseProxy sends what it
// finds there with every interim answer (103 Early Hints), and then forgets it.
func (s *sending) keep(w http.ResponseWriter) {
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
