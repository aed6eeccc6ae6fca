package cloakroom_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

// rude is an upstream that answers a request to /raw with the same bytes each time, whatever they are, and hangs up.
type rude struct {
	net.Listener
	mu  sync.Mutex
	raw []byte
}

func newRude(t testing.TB) *rude {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	u := &rude{Listener: ln}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go u.serve(c)
		}
	}()
	return u
}

func (u *rude) serve(c net.Conn) {
	defer c.Close()
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	if !strings.HasSuffix(req.URL.Path, "/raw") {
		head, _ := strings.CutSuffix(plainAnswer, "ok")
		_, _ = io.WriteString(c, head)
		if req.Method != http.MethodHead {
			_, _ = io.WriteString(c, "ok")
		}
		return
	}
	u.mu.Lock()
	raw := u.raw
	u.mu.Unlock()
	_, _ = c.Write(raw)
}

func (u *rude) answers(raw []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.raw = raw
}

// FuzzUpstreamAnswer: whatever an upstream answers, a client gets through the lean transport what it gets through Go's
// own, or a 502, or less of the body; and nothing of it is taken for the answer to the next request.
func FuzzUpstreamAnswer(f *testing.F) {
	for _, raw := range []string{
		plainAnswer, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nto the end",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A, B\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntoo short",
		"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nSet-Cookie: a=b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nLink: b\r\n\r\nok", "HTTP/1.1 100 Continue\r\n\r\n" + plainAnswer,
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nSet-Cookie: cloakroom-8080=x; Path=/\r\nSet-Cookie: theirs=1\r\nContent-Length: 2\r\n\r\nok" + plainAnswer, "HTTP/1.1 200 OK\r\nConnection: X-A, close\r\nX-A: b\r\nKeep-Alive: 5\r\nProxy-Authenticate: x\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nAccess-Control-Allow-Origin: *\r\nStrict-Transport-Security: max-age=0\r\n\r\ndata: 1\n\n", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "HTTP/1.1 200 OK\r\n folded\r\nA : b\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer error=\"invalid_token\"\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200\r\nX-\x00: \x01\r\nContent-Length: 0\r\n\r\n", "\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;\x00\r\n0", "HTTP/1.0 100 \r\nA: b\r\n\r\nHTTP/0.0 000\n\r\n", "HTTP/1.0 100 \r\n\r\nHTTP/0.0 100\n\n",
	} {
		f.Add([]byte(raw), false)
		f.Add([]byte(raw), true)
	}
	log.SetOutput(io.Discard) // net/http says what it finds on idle connections
	f.Cleanup(func() { log.SetOutput(os.Stderr) })
	up := newRude(f)
	address := "http://" + up.Addr().String()
	fz := newFuzzer(f,
		config.Route{Path: "/lean/", Upstream: address, Session: "none", Connection: &config.Connection{Transport: "lean"}},
		config.Route{Path: "/standard/", Upstream: address, Session: "none", Connection: &config.Connection{Transport: "standard"}})
	f.Fuzz(func(t *testing.T, raw []byte, head bool) {
		up.answers(raw)
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		ours := fz.through(t, method, "lean")
		begun, stricter := strings.CutSuffix(ours, "cut") // what is wrong may stand in the middle of the body, or behind interim answers
		if before, after, ok := strings.Cut(ours, "HTTP/1.1 502 Bad Gateway\r\nCache-Control: no-store\r\n"); ok && strings.Contains(after, "\r\nContent-Type: application/problem+json\r\n") {
			begun, stricter = before, true
		}
		standard := ""
		for range 5 { // it may take what is left over from the last answer for the next one
			if standard = fz.through(t, method, "standard"); ours == standard || stricter && strings.HasPrefix(standard, begun) {
				return
			}
		}
		t.Fatalf("lean     %q\nstandard %q", ours, standard)
	})
}

// changing is what differs between two answers to the same request.
var changing = regexp.MustCompile(`(?m)^Date: .*\r\n|^X-Request-Id: .*\r\n|"request_id":"[^"]*"`)

// through returns the bytes of an answer to a client, without what changes from one to the next. They end with "cut" if
// it breaks off. On a connection that lives on, the next answer must be that to the next request.
func (f *fuzzer) through(t *testing.T, method, route string) string {
	client, end := net.Pipe()
	defer client.Close()
	if err := f.pipes.Hand(t.Context(), &pipe{Conn: end, done: make(chan struct{})}); err != nil {
		t.Fatal(err)
	}
	_ = client.SetDeadline(time.Now().Add(30 * time.Second))
	var seen bytes.Buffer
	in := bufio.NewReader(io.TeeReader(client, &seen))
	ask := func(path string) (*http.Response, string, error) {
		if _, err := io.WriteString(client, method+" /"+route+path+" HTTP/1.1\r\nHost: "+f.host+"\r\n\r\n"); err != nil {
			return nil, "", err
		}
		for {
			res, err := http.ReadResponse(in, &http.Request{Method: method})
			if err != nil {
				return nil, "", err
			}
			body, err := io.ReadAll(res.Body)
			if res.StatusCode >= 200 || err != nil {
				return res, string(body), err
			}
		}
	}
	res, _, err := ask("/raw")
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%s: no answer", route)
	}
	answer := changing.ReplaceAllString(seen.String(), "")
	switch {
	case err != nil:
		return answer + "cut"
	case in.Buffered() > 0:
		t.Fatalf("%s: more than one answer: %q", route, seen.Bytes())
	case !res.Close && route == "lean": // net/http may take a connection before it sees what is left over on it
		if next, body, err := ask("/next"); err != nil || next.StatusCode != http.StatusOK || body != "ok" && method != http.MethodHead {
			t.Fatalf("%s: %q, then %v %q %v", route, answer, next, body, err)
		}
	}
	return answer
}
