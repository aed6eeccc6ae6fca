package proxy

import (
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// stallTime is how long a client may take nothing of an answer that is there for it. A stream may be silent for as
	// long as it likes: there is no time-out for writing, only for a write that does not move.
	stallTime = 2 * time.Minute
	// smallAnswer fits into the socket's buffers, so that writing it does not wait for the client.
	smallAnswer = 64 << 10
)

// moving is the body of an answer that is copied to a client: from the end of one read to the beginning of the next it
// is being written. A write that takes too long is ended, and with it the request at the upstream.
type moving struct {
	io.ReadCloser
	stall time.Duration
	timer *time.Timer

	mu     sync.Mutex
	closed bool
}

func newMoving(body io.ReadCloser, w http.ResponseWriter, stall time.Duration) *moving {
	m := &moving{ReadCloser: body, stall: stall}
	m.timer = time.AfterFunc(stall, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.closed { // afterwards the handler is over, and w is nobody's
			_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
		}
	})
	m.timer.Stop()
	return m
}

func (m *moving) Read(p []byte) (int, error) {
	m.timer.Stop()
	n, err := m.ReadCloser.Read(p)
	m.timer.Reset(m.stall)
	return n, err
}

func (m *moving) Close() error {
	m.timer.Stop()
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	return m.ReadCloser.Close()
}
