package proxy

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

// deadlines counts the deadlines that are set.
type deadlines struct {
	http.ResponseWriter
	set int
}

func (d *deadlines) SetWriteDeadline(time.Time) error { d.set++; return nil }

func TestMovingAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		writes []time.Duration
		close  bool
		cut    bool
	}{
		"quick":                  {[]time.Duration{0, 0}, true, false},
		"slow, but moving":       {[]time.Duration{time.Minute, time.Minute, 119 * time.Second}, true, false},
		"stalled":                {[]time.Duration{time.Second, 121 * time.Second}, true, true},
		"closed, then long idle": {[]time.Duration{0}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &deadlines{ResponseWriter: httptest.NewRecorder()}
				m := newMoving(io.NopCloser(strings.NewReader(strings.Repeat("x", 100))), w, stallTime)
				for _, d := range tc.writes {
					_, _ = m.Read(make([]byte, 10))
					time.Sleep(d)
				}
				_ = m.Close()
				time.Sleep(time.Hour)
				if tc.cut != (w.set > 0) {
					t.Errorf("%d deadlines", w.set)
				}
			})
		})
	}
}

// TestSilentStreamIsNotStalled: an upstream that says nothing for an hour is not a client that takes nothing.
func TestSilentStreamIsNotStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &deadlines{ResponseWriter: httptest.NewRecorder()}
		r, in := io.Pipe()
		m := newMoving(r, w, stallTime)
		go func() { time.Sleep(time.Hour); _, _ = in.Write([]byte("x")) }()
		_, _ = m.Read(make([]byte, 10))
		_ = m.Close()
		if w.set > 0 {
			t.Error("the stream was cut")
		}
	})
}

// TestClientThatReadsNothing: its connection and its request at the upstream end.
func TestClientThatReadsNothing(t *testing.T) {
	gone := make(chan struct{})
	s := newSetup(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}, nil)
	s.proxy.stall = 100 * time.Millisecond
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.front.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /api/ HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Error("the upstream still writes")
	}
}

// TestClientThatReadsNoFile: nor what is said on a WebSocket.
func TestClientThatReadsNoFile(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"index.html": 1, "large": 64 << 20} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gone := make(chan struct{}, 1)
	talks := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		for err == nil {
			_, err = conn.Write(make([]byte, 64<<10))
		}
		_ = conn.Close()
	}
	for path, change := range map[string]func(*config.Route){
		"/api/large": func(r *config.Route) { r.Upstream, r.Token, r.Files = "", "", dir },
		"/api/talk":  nil,
	} {
		t.Run(path, func(t *testing.T) {
			s := newSetup(t, talks, change)
			s.proxy.stall = 100 * time.Millisecond
			served := s.front.Config.Handler
			s.front.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() { gone <- struct{}{} }()
				served.ServeHTTP(w, r)
			})
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.front.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			select {
			case <-gone:
			case <-time.After(time.Minute):
				t.Error("it is still served")
			}
		})
	}
}

// TestClientThatSendsNothing: of a body whose length it has said. Its connection and the upstream's request end.
func TestClientThatSendsNothing(t *testing.T) {
	gone := make(chan struct{})
	s := newSetup(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(gone)
	}, nil)
	s.proxy.stall = 100 * time.Millisecond
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.front.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(conn, "POST /api/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
	if _, err := io.ReadAll(conn); err != nil {
		t.Error(err) // it is closed, with an answer or without
	}
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Error("the upstream still waits")
	}
}
