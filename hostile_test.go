package cloakroom_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

// The hostile rig: the whole Handler behind a server with the limits of `cloakroom serve`, written to byte by byte, in
// front of an upstream that keeps the exact bytes it was sent.

// wire is that upstream.
type wire struct {
	net.Listener
	mu     sync.Mutex
	got    []string // whole requests
	bad    []string // what is no request
	answer string
}

const plainAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func newWire(t testing.TB) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: ln, answer: plainAnswer}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() { defer c.Close(); w.serve(c) })
		}
	})
	return w
}

func (w *wire) serve(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		raw, err := readStrict(r)
		w.mu.Lock()
		answer := w.answer
		switch {
		case err == nil:
			w.got = append(w.got, raw)
		case !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset"):
			w.bad = append(w.bad, fmt.Sprintf("%v: %q", err, raw))
		}
		w.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, answer); err != nil || strings.Contains(answer, "Connection: close") {
			return
		}
	}
}

// take returns what came since it was last asked, and what was no request at all.
func (w *wire) take() (got, bad []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	got, bad = w.got, w.bad
	w.got, w.bad = nil, nil
	return got, bad
}

func (w *wire) answers(raw string) { w.mu.Lock(); defer w.mu.Unlock(); w.answer = raw }

// readStrict reads one request as the strictest server would, and says what is wrong with it.
func readStrict(r *bufio.Reader) (string, error) {
	var raw strings.Builder
	line := func() (string, error) {
		s, err := r.ReadString('\n')
		raw.WriteString(s)
		if err != nil {
			return "", err
		}
		text, ok := strings.CutSuffix(s, "\r\n")
		if !ok || strings.ContainsAny(text, "\r\n\x00") {
			return "", errors.New("a bare CR, LF or NUL")
		}
		return text, nil
	}
	first, err := line()
	if err != nil {
		return raw.String(), err
	}
	method, rest, _ := strings.Cut(first, " ")
	target, version, ok := strings.Cut(rest, " ")
	if !ok || version != "HTTP/1.1" || method == "" || strings.ContainsFunc(method, func(c rune) bool { return !isTokenRune(c) }) ||
		!strings.HasPrefix(target, "/") || strings.ContainsFunc(target, func(c rune) bool { return c <= 0x20 || c == 0x7f || c == '#' }) {
		return raw.String(), errors.New("no request line")
	}
	length, chunked, seen := 0, false, map[string]int{}
	for {
		field, err := line()
		if err != nil {
			return raw.String(), errors.Join(err, errors.New("in a header"))
		}
		if field == "" {
			break
		}
		name, value, ok := strings.Cut(field, ":")
		if !ok || name == "" || strings.ContainsFunc(name, func(c rune) bool { return !isTokenRune(c) }) {
			return raw.String(), fmt.Errorf("the field %q", field)
		}
		name, value = strings.ToLower(name), strings.TrimSpace(value)
		seen[name]++
		switch name {
		case "content-length":
			if length, err = strconv.Atoi(value); err != nil || strings.HasPrefix(value, "+") {
				return raw.String(), errors.New("Content-Length " + value)
			}
		case "transfer-encoding":
			if chunked = value == "chunked"; !chunked {
				return raw.String(), errors.New("Transfer-Encoding " + value)
			}
		}
	}
	if seen["host"] != 1 || seen["content-length"]+seen["transfer-encoding"] > 1 {
		return raw.String(), errors.New("two hosts or lengths, or no host")
	}
	if !chunked {
		if _, err := io.CopyN(&raw, r, int64(length)); err != nil {
			return raw.String(), io.EOF // cut off with its client
		}
		return raw.String(), nil
	}
	for {
		size, err := line()
		if err != nil {
			return raw.String(), io.EOF
		}
		n, err := strconv.ParseUint(size, 16, 31)
		if err != nil {
			return raw.String(), errors.New("chunk size " + size)
		}
		if n == 0 {
			break
		}
		if _, err := io.CopyN(&raw, r, int64(n)); err != nil {
			return raw.String(), io.EOF
		}
		if end, err := line(); err != nil || end != "" {
			return raw.String(), errors.New("no end of a chunk")
		}
	}
	trailer, err := line()
	if err != nil {
		return raw.String(), io.EOF
	}
	if trailer != "" {
		return raw.String(), errors.New("the trailer " + trailer)
	}
	return raw.String(), nil
}

func isTokenRune(c rune) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' && c < 0x80 || strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}

// hostileRig has a logged-in person, and routes that make a bypass visible.
type hostileRig struct {
	*rig
	up        *wire
	transport string
	addr      string // of the server with the real limits
	host      string // that the frontend has
	ticket    string // "name=value"
	server    *http.Server
}

// hostileServer has the limits of cmd/cloakroom/serve.go.
func hostileServer(h http.Handler) *http.Server {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		Protocols: protocols, ErrorLog: log.New(io.Discard, "", 0),
	}
}

// transports are the ways to an upstream that the corpora go.
var transports = []string{"lean", "standard"}

// eachTransport runs a test for each.
func eachTransport(t *testing.T, test func(t *testing.T, h *hostileRig)) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) { test(t, newHostileRig(t, transport)) })
	}
}

// newHostileRig sends by a transport, except where one of more says otherwise.
func newHostileRig(t testing.TB, transport string, more ...config.Route) *hostileRig {
	t.Helper()
	up := newWire(t)
	address := "http://" + up.Addr().String()
	r := newRig(t, func(c *config.Config) {
		f := &c.Frontends[0]
		f.Routes = []config.Route{
			{Path: "/public/", Upstream: address, Session: "none"},
			{Path: "/admin/", Upstream: address},
			{Path: "/büro/", Upstream: address},
			{Path: "/exact", Upstream: address},
			{Path: "/pages/", Upstream: f.Routes[0].Upstream, Pages: true},
			{Path: "/", Upstream: address, Session: "none"},
		}
		for i := range f.Routes {
			f.Routes[i].Connection = &config.Connection{Transport: transport}
		}
		f.Routes = slices.Concat(more, f.Routes)
	})
	b := r.browser()
	b.login()
	u, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	h := &hostileRig{rig: r, up: up, transport: transport, host: u.Host, ticket: "cloakroom-" + u.Port() + "=" + b.ticket()}
	h.server = hostileServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.h.ServeHTTP(w, req) }))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = ln.Addr().String()
	go h.server.Serve(ln)
	t.Cleanup(func() { h.server.Close() })
	return h
}

// talker writes requests over one connection while that lasts.
type talker struct {
	*hostileRig
	conn net.Conn
	r    *bufio.Reader
}

func (h *hostileRig) talker() *talker {
	k := &talker{hostileRig: h}
	h.t.Cleanup(k.close)
	return k
}

func (k *talker) close() {
	if k.conn != nil {
		k.conn.Close()
		k.conn = nil
	}
}

// say writes bytes and reads one answer; a refusal may close the connection, and an answer may be cut by that.
func (k *talker) say(raw string) (*http.Response, string) {
	k.t.Helper()
	for try := 0; ; try++ {
		fresh := k.conn == nil
		if fresh {
			c, err := net.Dial("tcp", k.addr)
			if err != nil {
				k.t.Fatal(err)
			}
			k.conn, k.r = c, bufio.NewReader(c)
		}
		_ = k.conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = io.WriteString(k.conn, raw) // the server may answer and close before it has read all
		method, _, _ := strings.Cut(raw, " ")
		res, err := http.ReadResponse(k.r, &http.Request{Method: method})
		if err != nil {
			k.close()
			if !fresh && try == 0 {
				continue
			}
			return nil, ""
		}
		body, _ := io.ReadAll(res.Body)
		if res.Close || res.StatusCode == 400 {
			k.close()
		}
		return res, string(body)
	}
}

// lenient gives the ways in which the most careless of servers could read a path.
func lenient(target string) []string {
	p, _, _ := strings.Cut(target, "?")
	p, _, _ = strings.Cut(p, "#")
	var out []string
	for range 3 {
		for _, s := range []string{p, strings.ReplaceAll(p, `\`, "/")} {
			var segments []string
			for seg := range strings.SplitSeq(s, "/") {
				seg, _, _ = strings.Cut(seg, ";")
				seg, _, _ = strings.Cut(seg, "\x00")
				if seg != "." && seg != ".." {
					seg = strings.TrimRight(seg, ". \t\r\n")
				}
				segments = append(segments, seg)
			}
			out = append(out, strings.ToLower(path.Clean("/"+strings.Join(segments, "/"))))
		}
		for _, over := range []struct{ raw, char string }{{"%c0%ae", "."}, {"%c0%af", "/"}, {"%e0%80%ae", "."}, {"%e0%80%af", "/"}, {"%c1%9c", `\`}} {
			p = strings.ReplaceAll(strings.ReplaceAll(p, over.raw, over.char), strings.ToUpper(over.raw), over.char)
		}
		var b strings.Builder
		for i := 0; i < len(p); i++ {
			if i+2 < len(p) && p[i] == '%' {
				if c, err := strconv.ParseUint(p[i+1:i+3], 16, 8); err == nil {
					b.WriteByte(byte(c))
					i += 2
					continue
				}
			}
			b.WriteByte(p[i])
		}
		p = b.String()
	}
	return out
}

// behind reports whether a careless server would take the target for one behind a guarded route.
func behind(target string) bool {
	return slices.ContainsFunc(lenient(target), func(p string) bool {
		for _, guarded := range []string{"/admin", "/büro", "/exact"} {
			if p == guarded || guarded != "/exact" && strings.HasPrefix(p, guarded+"/") {
				return true
			}
		}
		return false
	})
}

// hostilePaths is the path corpus and what its ideas make when they are combined.
func hostilePaths() []string {
	seps := []string{"/", "//", `\`, "%2f", "%2F", "%5c", "%252f", "%c0%af", "%e0%80%af", "/./", "/;/", "/;x=y/", "%00/", "%0d%0a/", "/%20/", "/%3b/", "%3f/", "%23/"}
	ups := []string{
		"..", "%2e%2e", ".%2e", "%2E.", "%252e%252e", "..;", "..;x=1", "..%3b", "..%3Bx", "%c0%ae%c0%ae", "%e0%80%ae.", "..%00", "..%20", "...", ".", "%uff0e%uff0e",
	}
	names := []string{
		"admin", "ADMIN", "Admin", "%61dmin", "adm%69n", "admin;x=y", "admin;", "admin%3bx", "admin%3B", "admin.", "admin%20", "admin%00", "admin%09", "admin%0a", "admin%0d%0aX: y",
		"b%C3%BCro", "b%c3%bcro", "B%C3%9Cro", "bu%CC%88ro", "b%FCro", "büro", "b%C3%BCro;x", "exact", "EXACT", "exact/", "exact;x", "exact%20", "exact%3b", "%65xact",
	}
	var all []string
	for _, sep := range seps {
		for _, name := range names {
			all = append(all, "/"+name+sep+"secret", "/"+name+sep, "/public"+sep+name+"/secret", sep+name+"/secret")
			for _, up := range ups {
				all = append(all, "/public"+sep+up+sep+name+"/secret")
			}
		}
		for _, up := range ups {
			all = append(all, "/"+up+sep+"admin/secret", "/public/x"+sep+up+"/"+up+"/admin/x", "/admin"+sep+up+sep+"public/x")
		}
	}
	return append(all,
		"/", "/public/", "/admin", "/admin/", "/exact", "/admin?x=/public", "/public/?/../admin", "/public/#/admin", "/public/%23/../admin", "/public%23/../admin", "/public/?a b", "/public/?a#b",
		"/public/?\x01", "/public/?\x7f", "/public/?%00%0d%0a", "/public/?ü", "*", "", "?", "admin", "http:", "http://", "//", "///", "/\x00", "/\xff", "/%", "/%2", "/%zz", "/public/%ff",
		"http:.evil.example/", "http:/admin/x", "javascript:alert(1)", "evil.example:443", "/public/"+strings.Repeat("a", 20<<10), "/public/"+strings.Repeat("a", 64<<10),
		"/public/"+strings.Repeat("../", 3000), "/"+strings.Repeat("%2e%2e/", 3000)+"admin/", "/public/|^`{}\"<>", "/public/[x]", "/public/a:b@c", "/public/a%21", "/public/a!",
	)
}

// refusals are what may be answered to what is not forwarded.
var refusals = []int{400, 401, 403, 404, 405, 414, 421, 431}

func TestHostilePaths(t *testing.T) {
	eachTransport(t, func(t *testing.T, h *hostileRig) {
		forwarded, refused, guarded := 0, 0, 0
		for _, loggedIn := range []bool{false, true} {
			k := h.talker()
			for i, p := range hostilePaths() {
				if h.transport != "lean" && i%5 > 0 {
					continue // the decision is made long before
				}
				for form, target := range []string{p, "http://" + h.host + p, "http://evil.example" + p} {
					if form > 0 && i%7 != 0 {
						continue // the form of the target has nothing to do with most of the path
					}
					head := "GET " + target + " HTTP/1.1\r\nHost: " + h.host + "\r\n"
					if loggedIn {
						head += "Cookie: " + h.ticket + "\r\nSec-Fetch-Site: same-origin\r\n"
					}
					res, body := k.say(head + "\r\n")
					got, bad := h.up.take()
					if len(bad) > 0 {
						t.Errorf("%q: the upstream was sent what is no request: %q", target, bad)
					}
					if res == nil {
						t.Errorf("%q: no answer", target)
						continue
					}
					switch {
					case len(got) == 0:
						refused++
						if !slices.Contains(refusals, res.StatusCode) {
							t.Errorf("%q: %d %s", target, res.StatusCode, body)
						}
						continue
					case len(got) > 1 || res.StatusCode != 200:
						t.Errorf("%q: %d, and %d requests reached the upstream", target, res.StatusCode, len(got))
					case form == 2:
						t.Errorf("%q was served as ours", target)
					}
					forwarded++
					_, rest, _ := strings.Cut(got[0], " ")
					seen, _, _ := strings.Cut(rest, " ")
					if seen != p {
						t.Errorf("%q was sent, %q reached the upstream", target, seen)
					}
					if behind(seen) {
						guarded++
						if !loggedIn {
							t.Errorf("%q reached the upstream without a session", target)
						} else if !strings.Contains(got[0], "\r\nAuthorization: Bearer access-canary-") {
							t.Errorf("%q reached the upstream without passing its guard", target)
						}
					}
				}
			}
		}
		if forwarded < 50 || guarded < 2 || refused < 5000 {
			t.Errorf("%d forwarded (%d behind a guard), %d refused: this tests nothing", forwarded, guarded, refused)
		}
		t.Logf("%d forwarded (%d behind a guard), %d refused", forwarded, guarded, refused)
		if strings.Contains(h.log.String(), "panic") {
			t.Error("something panicked")
		}
	})
}
