package wire

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestDrain tells the process to stop while a call, a download and a WebSocket are under way: the WebSocket is cut, which
// would not end by itself, the others finish, and the process ends well.
func TestDrain(t *testing.T) {
	a := newAuthority(t)
	for _, k := range []kind{secure, plain} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, download over h2=%t", k, h2), func(t *testing.T) { testDrain(t, k, a, h2) })
		}
	}
}

func testDrain(t *testing.T, k kind, a authority, h2 bool) {
	const size = 32 << 20
	api, ws := newEcho(), newSockets()
	sent, release := make(chan struct{}), make(chan struct{})
	files, _ := serveUpstream(t, "http", a, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		s := newStream(size)
		buf := make([]byte, 1<<20)
		n, _ := s.Read(buf)
		_, _ = w.Write(buf[:n])
		_ = http.NewResponseController(w).Flush()
		close(sent)
		<-release
		for n, err := s.Read(buf); err == nil; n, err = s.Read(buf) {
			_, _ = w.Write(buf[:n])
		}
	}))
	socketsAt, _ := serveUpstream(t, "http", a, ws)
	f := startFront(t, k, a,
		fmt.Sprintf("{path: %s, upstream: %q}", service, api.serve(t, "h2c", a)),
		fmt.Sprintf("{path: /ws/, upstream: %q}", socketsAt),
		fmt.Sprintf("{path: /download, upstream: %q}", files))
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()

	c, err := f.dialWS(ctx, f.client(false), "/ws/idle")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	cut := c.CloseRead(ctx).Done()
	receive(t, "the WebSocket", ws.begun)

	called := make(chan error, 1)
	caller := dialGRPC(t, f, api)
	callContext, done := caller.context(t)
	defer done()
	go func() {
		out, err := caller.unary(callContext, "Hold", []byte("still here"))
		if err == nil && string(out) != "still here" {
			err = fmt.Errorf("the answer is %q", out)
		}
		called <- err
	}()
	receive(t, "the call", api.begun)

	res, err := f.client(h2).Do(f.request("GET", "/download", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	receive(t, "the download", sent)

	begun := time.Now()
	if err := f.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	receive(t, "the end of the WebSocket", cut) // so it is draining
	waitClosed(t, f)
	close(release)
	checkDownload(t, res, size)
	close(api.release)
	if err := receive(t, "the call's answer", called); err != nil {
		t.Errorf("the call: %v", err)
	}
	receive(t, "the end of the process", f.exited)
	took := time.Since(begun)
	if f.err != nil || took > 25*time.Second {
		t.Errorf("it ended after %s: %v", took, f.err)
	}
	t.Logf("it ended %s after the signal", took.Round(time.Millisecond))
}

// waitClosed waits until the front takes no new connection.
func waitClosed(t *testing.T, f *front) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", f.host)
		if err != nil {
			return
		}
		c.Close()
	}
	t.Error("it still takes connections")
}
