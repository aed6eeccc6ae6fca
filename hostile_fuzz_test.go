package cloakroom_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/testserver"
)

type pipeAddr struct{}

func (pipeAddr) Network() string { return "tcp" }
func (pipeAddr) String() string  { return "192.0.2.1:1000" }

// pipe is the server's end. It tells when the first request is answered.
type pipe struct {
	net.Conn
	done chan struct{}
	once sync.Once
}

func (p *pipe) RemoteAddr() net.Addr { return pipeAddr{} }
func (p *pipe) LocalAddr() net.Addr  { return pipeAddr{} }

// fuzzer sends bytes through the whole Handler and holds what comes out on the other side against them.
type fuzzer struct {
	*hostileRig
	pipes *testserver.Memory
	mu    sync.Mutex
	uris  []string // of the last requests that the handler saw
}

func newFuzzer(t testing.TB, more ...config.Route) *fuzzer {
	f := &fuzzer{hostileRig: newHostileRig(t, "lean", more...), pipes: testserver.NewMemory()}
	server := hostileServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.uris = append(f.uris[max(0, len(f.uris)-100):], r.RequestURI)
		f.mu.Unlock()
		f.h.ServeHTTP(w, r)
	}))
	server.ConnState = func(c net.Conn, s http.ConnState) {
		if p, ok := c.(*pipe); ok && (s == http.StateIdle || s == http.StateClosed || s == http.StateHijacked) {
			p.once.Do(func() { close(p.done) })
		}
	}
	go server.Serve(f.pipes)
	t.Cleanup(func() { server.Close(); f.pipes.Close() })
	return f
}

// send writes the bytes and returns what was answered. A request that is not whole gets no answer.
func (f *fuzzer) send(raw []byte) (answer []byte, err error) {
	client, end := net.Pipe()
	p := &pipe{Conn: end, done: make(chan struct{})}
	if err := f.pipes.Hand(context.Background(), p); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	read := make(chan struct{})
	go func() { defer close(read); _, _ = io.Copy(&out, client) }()
	written := make(chan struct{})
	go func() { defer close(written); _, _ = client.Write(raw) }()
	if whole(raw) {
		select {
		case <-p.done:
		case <-time.After(30 * time.Second):
			err = errors.New("no answer in 30 s")
		}
	} else {
		select {
		case <-written:
		case <-p.done:
		}
	}
	client.Close()
	<-read
	<-written
	return out.Bytes(), err
}

// whole reports whether the first request in raw has an end.
func whole(raw []byte) bool {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil
}

// plainName spells a header's name as CGI does.
func plainName(name string) string {
	return strings.Map(func(c rune) rune {
		if '0' <= c && c <= '9' || 'a' <= c && c <= 'z' {
			return c
		}
		return '-'
	}, strings.ToLower(name))
}

var identityNames = func() map[string]bool {
	names := map[string]bool{"transfer-encoding": false}
	for _, name := range identity {
		if plain := plainName(name); plain != "authorization" && plain != "dpop" { // the client's own on a route without a session
			names[plain] = true
		}
	}
	return names
}()

// check says what is wrong with a request that reached the upstream.
func (f *fuzzer) check(raw string) error {
	head, _, _ := strings.Cut(raw, "\r\n\r\n")
	first, rest, _ := strings.Cut(head, "\r\n")
	target := strings.Split(first, " ")[1]
	f.mu.Lock()
	seen := slices.ContainsFunc(f.uris, func(uri string) bool {
		if !strings.HasPrefix(uri, "/") {
			_, uri, _ = strings.Cut(uri, "://")
			if i := strings.IndexByte(uri, '/'); i >= 0 {
				uri = uri[i:]
			}
		}
		return uri == target
	})
	f.mu.Unlock()
	if !seen {
		return fmt.Errorf("the upstream saw a target that nobody sent: %q", target)
	}
	authorized := false
	counts := map[string]int{}
	ours := map[string]string{
		"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Host": f.host, "X-Forwarded-Proto": "http", "Forwarded": `for=192.0.2.1;host="` + f.host + `";proto=http`,
	}
	for line := range strings.SplitSeq(rest, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		plain := plainName(name)
		counts[plain]++
		if want, ok := ours[name]; ok && (value != want || counts[plain] > 1) {
			return fmt.Errorf("%q", line)
		} else if !ok && identityNames[plain] {
			return fmt.Errorf("%q", line)
		}
		switch {
		case name == "Authorization":
			authorized = strings.HasPrefix(value, "Bearer access-canary-")
		case (plain == "transfer-encoding" || plain == "content-length") && strings.Contains(name, "_"):
			return fmt.Errorf("%q", line)
		case name == "Cookie":
			for piece := range strings.FieldsFuncSeq(value, func(c rune) bool { return c == ';' || c == ',' }) {
				if strings.HasPrefix(strings.ToLower(strings.TrimLeft(piece, "= \t\"")), "cloakroom-") {
					return fmt.Errorf("our cookie: %q", value)
				}
			}
		}
	}
	if behind(target) && !authorized {
		return fmt.Errorf("%q passed its guard", target)
	}
	return nil
}

// FuzzForward sends bytes as a client's connection. HOST and TICKET stand for the frontend's host and the cookie of
// somebody who is logged in. The upstream must see well-formed requests only, with targets byte for byte as they were
// sent and matched, nothing behind a guard without the session's token, and nothing in our headers but our own words.
func FuzzForward(f *testing.F) {
	const tail = " HTTP/1.1\r\nHost: HOST\r\n"
	for i, p := range hostilePaths() {
		if i%50 == 0 && len(p) < 1000 {
			f.Add([]byte("GET " + p + tail + "\r\n"))
			f.Add([]byte("GET http://HOST" + p + tail + "\r\n"))
		}
	}
	for i, name := range identity {
		for j, line := range spellings(name) {
			if (i+j)%29 == 0 && len(line) < 100 {
				f.Add([]byte("GET /public/x" + tail + line + "\r\n\r\n"))
				f.Add([]byte("GET /admin/x" + tail + "Cookie: TICKET; a=1\r\nSec-Fetch-Site: same-origin\r\n" + line + "\r\n\r\n"))
			}
		}
	}
	for _, raw := range []string{
		"GET /admin/x" + tail + "Cookie: TICKET\r\nSec-Fetch-Site: same-origin\r\n\r\n", "POST /public/x" + tail + "Content-Length: 4\r\n\r\nabcd", "POST /public/x" + tail + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST /public/x" + tail + "Transfer-Encoding: chunked\r\nTrailer: X-Forwarded-For\r\n\r\n4;x=y\r\nabcd\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n", "GET /public/x" + tail + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET /public/x" + tail + "\r\nGET /admin/x" + tail + "\r\n", "OPTIONS *" + tail + "\r\n", "CONNECT HOST" + tail + "\r\n", "GET /b%c3%bcro/x" + tail + "\r\n", "GET /büro/x" + tail + "\r\n", "GET /exact;x" + tail + "\r\n",
		"POST /auth/login" + tail + "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", "GET /auth/login?return_to=/\\evil.example" + tail + "\r\n", "GET /public/x" + tail + "Cookie: a=1; TICKET\r\nCookie: \"TICKET, b=2\r\n\r\n",
		"POST /public/x" + tail + "Expect: 100-continue\r\nContent-Length: 4\r\n\r\nabcd", "GET /public/x HTTP/1.0\r\nHost: HOST\r\n\r\n", "PATCH /admin/x" + tail + "TE: trailers, x\r\nConnection: te, X-Real-IP\r\nX-Real-IP: 6.6.6.6\r\n\r\n",
	} {
		f.Add([]byte(raw))
	}
	fz := newFuzzer(f)
	replace := strings.NewReplacer("HOST", fz.host, "TICKET", fz.ticket)
	f.Fuzz(func(t *testing.T, data []byte) {
		raw := []byte(replace.Replace(string(data)))
		answer, err := fz.send(raw)
		got, bad := fz.up.take()
		if err != nil || len(bad) > 0 {
			t.Fatalf("%v, the upstream was sent what is no request: %q", err, bad)
		}
		for _, one := range got {
			if err := fz.check(one); err != nil {
				t.Fatalf("%v: %q", err, one)
			}
		}
		if res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil); err == nil && res.StatusCode >= 500 && res.StatusCode != 501 && res.StatusCode != 505 && whole(raw) {
			body, _ := io.ReadAll(res.Body)
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		fz.log.mu.Lock()
		defer fz.log.mu.Unlock()
		if bytes.Contains(fz.log.b.Bytes(), []byte("panic")) {
			t.Fatalf("%s", fz.log.b.Bytes())
		}
		fz.log.b.Reset()
	})
}
