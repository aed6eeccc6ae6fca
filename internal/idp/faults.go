package idp

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault is something that goes wrong on purpose.
type Fault struct {
	Act         string        `json:"act"`          // as in the log; "" = any
	Status      int           `json:"status"`       // 0 = the usual answer, after the delay
	Body        string        `json:"body"`         // "" = a short page, as a proxy in between writes it
	ContentType string        `json:"content_type"` // "" = by the body's first byte
	Delay       time.Duration `json:"-"`            // real time, whatever the provider's clock says
	Times       int           `json:"times"`        // how often; 0 = once, negative = until ClearFaults
	RetryAfter  int           `json:"retry_after"`  // seconds; 0 = not said
	Drop        bool          `json:"drop"`         // do the work, then close the connection without an answer
}

// faults are those that are planned, in order.
type faults struct {
	mu   sync.Mutex
	list []Fault
}

// mostFaults bounds them.
const mostFaults = 1000

// Fail plans a fault. The first that fits a request is played.
func (p *Provider) Fail(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	if len(p.faults.list) < mostFaults {
		p.faults.list = append(p.faults.list, f)
	}
}

// ClearFaults forgets what is planned.
func (p *Provider) ClearFaults() {
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	p.faults.list = nil
}

func (s *faults) all() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// take finds the fault for an act and counts it.
func (s *faults) take(act string) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.list {
		if f.Act != "" && f.Act != act {
			continue
		}
		if s.list[i].Times--; s.list[i].Times == 0 {
			s.list = append(s.list[:i], s.list[i+1:]...)
		}
		return f, true
	}
	return Fault{}, false
}

// play waits and answers. It reports whether the work is still to be done.
func (f Fault) play(c *call) bool {
	if f.Delay > 0 {
		late := time.NewTimer(f.Delay)
		defer late.Stop()
		select {
		case <-late.C:
		case <-c.r.Context().Done():
		}
	}
	if f.Drop {
		c.w = watched{discarded{http.Header{}}, &c.status}
		return true
	}
	if f.Status == 0 {
		return true
	}
	h := c.w.Header()
	h.Set("Content-Type", f.contentType())
	if f.RetryAfter > 0 {
		h.Set("Retry-After", seconds(time.Duration(f.RetryAfter)*time.Second))
	}
	c.w.WriteHeader(f.Status)
	body := f.Body
	if body == "" {
		body = "<html><body><h1>" + http.StatusText(f.Status) + "</h1></body></html>\n"
	}
	_, _ = io.WriteString(c.w, body)
	return false
}

func (f Fault) contentType() string {
	switch {
	case f.ContentType != "":
		return f.ContentType
	case strings.HasPrefix(f.Body, "{"):
		return "application/json"
	}
	return "text/html"
}

// discarded is an answer that nobody gets.
type discarded struct{ header http.Header }

func (d discarded) Header() http.Header         { return d.header }
func (d discarded) Write(b []byte) (int, error) { return len(b), nil }
func (d discarded) WriteHeader(int)             {}
