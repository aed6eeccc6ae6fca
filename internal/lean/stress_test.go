package lean_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/lean"
)

// Many clients, some of which go away at any moment, and an upstream that does what it should not at any moment: nobody
// gets the answer of another, the upstream gets whole requests, nobody waits for ever, and nothing is left behind.
// STRESS=60s in the environment makes it longer.
func TestStress(t *testing.T) {
	lasts := 200 * time.Millisecond
	if s := os.Getenv("STRESS"); s != "" {
		var err error
		if lasts, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, network := range []string{"tcp", "unix", "tls"} {
		for _, most := range []int{0, 12} {
			t.Run(fmt.Sprintf("%s at most %d", network, most), func(t *testing.T) {
				u := &unruly{t: t}
				o, _ := listen(t, network, u.serve)
				o.MaxConns, o.MaxIdle, o.ReadBuffer = most, 20, 1<<10
				o.ResponseHeaderTimeout, o.ExpectContinueTimeout = 100*time.Millisecond, 5*time.Millisecond
				rt := lean.New(o)
				end := time.Now().Add(lasts)
				var good, bad atomic.Int64
				var wg sync.WaitGroup
				for range 64 {
					wg.Go(func() {
						for time.Now().Before(end) {
							if err := fickle(t, rt); err == nil {
								good.Add(1)
							} else {
								bad.Add(1)
							}
						}
					})
				}
				wg.Wait()
				t.Logf("%d answers, %d failures", good.Load(), bad.Load())
				if good.Load() == 0 {
					t.Error("no request was answered")
				}
				rt.CloseIdleConnections()
				eventually(t, "all connections are closed", func() bool {
					open, waiting := rt.Open()
					return open == 0 && waiting == 0 && u.open.Load() == 0
				})
			})
		}
	}
}

var lastID atomic.Int64

// content is what belongs to an ID: it is of any length, and of no other ID.
func content(id string, n int) []byte {
	return bytes.Repeat([]byte(id+" "), n/(len(id)+1)+1)[:n]
}

// errFickle is why a client went away.
var errFickle = errors.New("fickle")

// fickle makes a request as a client that may go away.
func fickle(t *testing.T, rt http.RoundTripper) error {
	id := strconv.FormatInt(lastID.Add(1), 36)
	ctx, cancel := context.WithCancelCause(within(t))
	defer cancel(nil)
	if rand.N(4) == 0 {
		defer time.AfterFunc(time.Duration(rand.Int64N(int64(3*time.Millisecond))), func() { cancel(errFickle) }).Stop()
	}
	method, body, length := http.MethodGet, io.Reader(nil), int64(0)
	if rand.N(2) == 0 {
		method = http.MethodPost
		sent := content(id, rand.N(1<<rand.N(18)))
		length = int64(len(sent))
		body = bytes.NewReader(sent)
		switch rand.N(3) {
		case 0:
			body = &closeCounter{Reader: body}
		case 1:
			body, length = &closeCounter{Reader: body}, -1
		}
	}
	req := request(ctx, t, method, "upstream", body)
	req.Header.Set("X-Id", id)
	if body != nil {
		req.ContentLength = length
		if rand.N(6) == 0 {
			req.Header.Set("Expect", "100-continue")
		}
	}
	res, err := rt.RoundTrip(req)
	if err == nil {
		err = digest(t, id, res)
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		t.Errorf("%s waited for ever", id)
	}
	return err
}

// digest reads an answer, or not.
func digest(t *testing.T, id string, res *http.Response) error {
	defer res.Body.Close()
	if got := res.Header.Get("X-Id"); got != id {
		t.Errorf("%s got the answer of %q: %v", id, got, res)
	}
	switch rand.N(8) {
	case 0:
		return errFickle
	case 1:
		stop := make(chan struct{})
		defer func() { <-stop }()
		time.AfterFunc(time.Duration(rand.Int64N(int64(time.Millisecond))), func() { res.Body.Close(); close(stop) })
	}
	got, err := io.ReadAll(res.Body)
	if !bytes.Equal(got, content(id, len(got))) {
		t.Errorf("%s got the body of another: %.50q", id, got)
	}
	if n := res.Header.Get("X-Length"); err == nil && n != "" && n != strconv.Itoa(len(got)) {
		t.Errorf("%s got %d bytes of %s, and no error", id, len(got), n)
	}
	return err
}

// unruly is the upstream.
type unruly struct {
	t    *testing.T
	open atomic.Int32
}

func (u *unruly) serve(c net.Conn) {
	u.open.Add(1)
	defer u.open.Add(-1)
	defer c.Close()
	br := bufio.NewReader(c)
	for u.one(c, br) {
	}
}

// one answers a request and says whether the connection goes on.
func (u *unruly) one(c net.Conn, br *bufio.Reader) bool {
	if rand.N(100) == 0 { // just when the next one may come
		return false
	}
	req, err := http.ReadRequest(br)
	if err != nil {
		_, broke := errors.AsType[net.Error](err)
		if !broke && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) {
			u.t.Errorf("the upstream got no request: %v", err)
		}
		return false
	}
	id := req.Header.Get("X-Id")
	switch rand.N(40) {
	case 0:
		return false
	case 1:
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Id: "+id)
		return false
	case 2:
		_ = c.SetReadDeadline(time.Now().Add(150 * time.Millisecond)) // says nothing
		_, _ = io.Copy(io.Discard, br)
		return false
	case 3:
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		return false
	case 4:
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nX-Id: "+id+"\r\nContent-Length: 0\r\n\r\n")
		return false
	case 5: // an early answer on a connection that goes on
		_, _ = io.WriteString(c, "HTTP/1.1 202 Early\r\nX-Id: "+id+"\r\nContent-Length: 0\r\n\r\n")
		return u.swallow(id, req)
	}
	if req.Header.Get("Expect") != "" && rand.N(2) == 0 {
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	if !u.swallow(id, req) {
		return false
	}
	text, whole := answerTo(id)
	switch {
	case !whole: // ends with the connection
	case rand.N(30) == 0:
		text, whole = text[:rand.N(len(text))], false
	case rand.N(30) == 0:
		text, whole = text+"HTTP/1.1 200 OK\r\nX-Id: nobody\r\nContent-Length: 0\r\n\r\n", false
	}
	step := len(text)
	if rand.N(20) == 0 {
		step = 1 + rand.N(700)
	}
	for text != "" {
		n := min(step, len(text))
		if _, err := io.WriteString(c, text[:n]); err != nil {
			return false
		}
		text = text[n:]
	}
	if !whole && rand.N(2) == 0 { // not at once
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = c.Read(make([]byte, 1))
	}
	return whole && rand.N(30) > 0
}

// swallow reads the request's body and says whether it was whole.
func (u *unruly) swallow(id string, req *http.Request) bool {
	got, err := io.ReadAll(req.Body)
	if !bytes.Equal(got, content(id, len(got))) {
		u.t.Errorf("the upstream got another body for %s: %.50q", id, got)
	}
	return err == nil
}

// answerTo makes an answer, and says whether another one may follow.
func answerTo(id string) (text string, more bool) {
	body := string(content(id, rand.N(1<<rand.N(18))))
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\n", id)
	if rand.N(8) == 0 {
		head = "HTTP/1.1 103 Early Hints\r\nX-Id: hint\r\n\r\n" + head
	}
	length := fmt.Sprintf("X-Length: %d\r\n", len(body))
	switch rand.N(4) {
	case 0:
		var chunks strings.Builder
		for rest := body; rest != ""; {
			n := 1 + rand.N(len(rest))
			fmt.Fprintf(&chunks, "%x;a=b\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		return head + length + "Transfer-Encoding: chunked\r\n\r\n" + chunks.String() + "0\r\nX-Sum: 1\r\n\r\n", true
	case 1:
		if rand.N(4) == 0 {
			return head + "Connection: close\r\n\r\n" + body, false
		}
	}
	return head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body), true
}
