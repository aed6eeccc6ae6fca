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
}

// interim passes an interim answer (103 Early Hints) on: what it may say of itself, without the headers that are set for
// the final answer.
func (s *sending) interim(code int, header textproto.MIMEHeader) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.final {
		return nil
	}
	without(http.Header(header), ours, hopByHop, hintless)
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

// hinted is for ReverseProxy: it would send what is set for the final answer with each interim one, and then forget it.
// So these go our way.
type hinted struct{ next http.RoundTripper }

func (t hinted) RoundTrip(r *http.Request) (*http.Response, error) {
	s := sendingOf(r.Context())
	httptrace.ContextClientTrace(r.Context()).Got1xxResponse = s.interim
	defer s.answered()
	return t.next.RoundTrip(r)
}

// hintless are what no interim answer may say beside ours: it comes before it is known who may set what.
var hintless = setOf("Set-Cookie", "Content-Length")
