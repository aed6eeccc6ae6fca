package lean_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/cloakroom/cloakroom/internal/lean"
)

// TestAnswers sends raw answers through both transports. Where the two differ, why says so: it is meant.
func TestAnswers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	long := strings.Repeat("x", 70<<10)
	for _, tc := range []struct {
		name   string
		method string // GET if empty
		raw    string
		closes bool // the upstream closes after the answer
		want   string
		reuse  bool   // the next request uses the same connection
		std    string // what net/http makes of it, if something else
		stdUse bool   // net/http uses the connection again, if that differs
		why    string
	}{
		{name: "length", raw: ok + "Content-Length: 5\r\n\r\nhello", want: `HTTP/1.1 200 OK 5 "hello" map[Content-Length:[5]]`, reuse: true},
		{name: "length zero", raw: ok + "Content-Length: 0\r\n\r\n", want: `HTTP/1.1 200 OK 0 "" map[Content-Length:[0]]`, reuse: true},
		{name: "length with zeros before", raw: ok + "Content-Length: 005\r\n\r\nhello", want: `HTTP/1.1 200 OK 5 "hello" map[Content-Length:[005]]`, reuse: true},
		{name: "chunks", raw: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: `HTTP/1.1 200 OK -1 "hello" [chunked]`, reuse: true},
		{name: "chunks in capitals", raw: ok + "transfer-encoding: Chunked\r\n\r\n1\r\nh\r\nA\r\n0123456789\r\n0\r\n\r\n", want: `HTTP/1.1 200 OK -1 "h0123456789" [chunked]`, reuse: true},
		{name: "chunks with extensions", raw: ok + "Transfer-Encoding: chunked\r\n\r\n5;a=\"b\";c\r\nhello\r\n0;x\r\n\r\n", want: `HTTP/1.1 200 OK -1 "hello" [chunked]`, reuse: true},
		{name: "chunks padded", raw: ok + "Transfer-Encoding: chunked\r\n\r\n5  \r\nhello\r\n0\r\n\r\n", want: `HTTP/1.1 200 OK -1 "hello" [chunked]`, reuse: true},
		{name: "no chunk", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: `HTTP/1.1 200 OK -1 "" [chunked]`, reuse: true},
		{name: "trailer announced", raw: ok + "Trailer: X-Sum, x-more\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\nx-more: 2\r\n\r\n", want: `HTTP/1.1 200 OK -1 "a" [chunked] trailer map[X-More:[2] X-Sum:[1]]`, reuse: true},
		{name: "trailer not announced", raw: ok + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n", want: `HTTP/1.1 200 OK -1 "a" [chunked] trailer map[X-Sum:[1 2]]`, reuse: true},
		{name: "trailer announced and missing", raw: ok + "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: `HTTP/1.1 200 OK -1 "" [chunked] trailer map[X-Sum:[]]`, reuse: true},
		{name: "HEAD", method: "HEAD", raw: ok + "Content-Length: 5\r\n\r\n", want: `HTTP/1.1 200 OK 5 "" map[Content-Length:[5]]`, reuse: true},
		{name: "HEAD without a length", method: "HEAD", raw: ok + "\r\n", want: `HTTP/1.1 200 OK -1 ""`, reuse: true},
		{name: "HEAD chunked", method: "HEAD", raw: ok + "Transfer-Encoding: chunked\r\n\r\n", want: `HTTP/1.1 200 OK -1 "" [chunked]`, reuse: true},
		{name: "204", raw: "HTTP/1.1 204 No Content\r\n\r\n", want: `HTTP/1.1 204 No Content 0 ""`, reuse: true},
		{name: "204 with a length", raw: "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", want: `HTTP/1.1 204 No Content 0 "" map[Content-Length:[5]]`, stdUse: true, why: "there may be a body all the same"},
		{name: "304", raw: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nEtag: \"a\"\r\n\r\n", want: `HTTP/1.1 304 Not Modified 0 "" map[Content-Length:[5] Etag:["a"]]`, reuse: true},
		{name: "until close", raw: ok + "\r\nhello", closes: true, want: `HTTP/1.1 200 OK -1 "hello" close`},
		{name: "Connection: close", raw: ok + "Connection: close\r\nContent-Length: 5\r\n\r\nhello", want: `HTTP/1.1 200 OK 5 "hello" map[Content-Length:[5]] close`},
		{name: "Connection: close in a list", raw: ok + "Connection: x, Close\r\nContent-Length: 0\r\n\r\n", want: `HTTP/1.1 200 OK 0 "" map[Content-Length:[0]] close`},
		{name: "Connection: almost close", raw: ok + "Connection: closed, clos\r\nContent-Length: 0\r\n\r\n", want: `HTTP/1.1 200 OK 0 "" map[Connection:[closed, clos] Content-Length:[0]]`, reuse: true},
		{name: "HTTP/1.0", raw: "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", want: `HTTP/1.0 200 OK 5 "hello" map[Content-Length:[5]] close`},
		{name: "HTTP/1.0 until close", raw: "HTTP/1.0 200 OK\r\n\r\nhello", closes: true, want: `HTTP/1.0 200 OK -1 "hello" close`},
		{name: "HTTP/1.0 keep-alive", raw: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", want: `HTTP/1.0 200 OK 5 "hello" map[Connection:[keep-alive] Content-Length:[5]]`, reuse: true},
		{name: "no reason", raw: "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", want: `HTTP/1.1 200 0 "" map[Content-Length:[0]]`, reuse: true},
		{name: "odd status", raw: "HTTP/1.1 999 Request Denied\r\nContent-Length: 0\r\n\r\n", want: `HTTP/1.1 999 Request Denied 0 "" map[Content-Length:[0]]`, reuse: true},
		{name: "interim answers", raw: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok + "Content-Length: 0\r\n\r\n", want: `HTTP/1.1 200 OK 0 "" map[Content-Length:[0]]`, reuse: true},
		{name: "a hundred interim answers", raw: strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100) + ok + "Content-Length: 0\r\n\r\n", want: `HTTP/1.1 200 OK 0 "" map[Content-Length:[0]]`, reuse: true},
		{name: "names in lower case", raw: ok + "content-type: a/b\r\nx-a-b: c\r\ncontent-length: 0\r\n\r\n", want: `HTTP/1.1 200 OK 0 "" map[Content-Length:[0] Content-Type:[a/b] X-A-B:[c]]`, reuse: true},
		{name: "values with spaces around", raw: ok + "A: \t b c \t\r\nB:\r\nContent-Length: 0\r\n\r\n", want: `HTTP/1.1 200 OK 0 "" map[A:[b c] B:[] Content-Length:[0]]`, reuse: true},
		{name: "several values", raw: ok + "Set-Cookie: a\r\nX: y\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", want: `HTTP/1.1 200 OK 0 "" map[Content-Length:[0] Set-Cookie:[a b] X:[y]]`, reuse: true},
		{name: "Pragma", raw: ok + "Pragma: no-cache\r\nContent-Length: 0\r\n\r\n", want: `HTTP/1.1 200 OK 0 "" map[Cache-Control:[no-cache] Content-Length:[0] Pragma:[no-cache]]`, reuse: true},
		{name: "long header", raw: ok + "A: " + long + "\r\nContent-Length: 5\r\n\r\nhello", want: `HTTP/1.1 200 OK 5 "hello" map[A:[` + long + `] Content-Length:[5]]`, reuse: true},

		{name: "cut off in the header", raw: ok + "Content-Le", closes: true, want: "refused"},
		{name: "cut off in the body", raw: ok + "Content-Length: 6\r\n\r\nhello", closes: true, want: `HTTP/1.1 200 OK 6 "hello" map[Content-Length:[6]] cut off`},
		{name: "cut off in a chunk", raw: ok + "Transfer-Encoding: chunked\r\n\r\n6\r\nhello", closes: true, want: `HTTP/1.1 200 OK -1 "hello" [chunked] cut off`},
		{name: "cut off before the last chunk", raw: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", closes: true, want: `HTTP/1.1 200 OK -1 "hello" [chunked] cut off`},
		{name: "cut off in the trailer", raw: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n", closes: true, want: `HTTP/1.1 200 OK -1 "hello" [chunked] cut off`},
		{name: "more than the length", raw: ok + "Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", want: `HTTP/1.1 200 OK 5 "hello" map[Content-Length:[5]]`},
		{name: "more than the last chunk", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nx", want: `HTTP/1.1 200 OK -1 "" [chunked]`},
		{name: "more than nothing", method: "HEAD", raw: ok + "Content-Length: 5\r\n\r\nhello", want: `HTTP/1.1 200 OK 5 "" map[Content-Length:[5]]`},

		{name: "no HTTP", raw: "SSH-2.0-OpenSSH\r\n\r\n", want: "refused"},
		{name: "HTTP/2", raw: "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", want: "refused", std: `HTTP/2.0 200 OK 0 "" map[Content-Length:[0]]`, stdUse: true, why: "spoken over HTTP/1.1 it is none"},
		{name: "HTTP/1.2", raw: "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", want: "refused", std: `HTTP/1.2 200 OK 0 "" map[Content-Length:[0]]`, stdUse: true, why: "unknown"},
		{name: "status of two digits", raw: "HTTP/1.1 20 OK\r\n\r\n", want: "refused"},
		{name: "status of four digits", raw: "HTTP/1.1 2000 OK\r\n\r\n", want: "refused"},
		{name: "status below 100", raw: "HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n", want: "refused", std: `HTTP/1.1 099 No 0 "" map[Content-Length:[0]]`, why: "ReverseProxy would panic"},
		{name: "status with a sign", raw: "HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n", want: "refused", std: `HTTP/1.1 +20 OK 0 "" map[Content-Length:[0]]`, why: "no status"},
		{name: "status after two spaces", raw: "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", want: "refused", std: `HTTP/1.1 200 OK 0 "" map[Content-Length:[0]]`, stdUse: true, why: "strict"},
		{name: "control character in the reason", raw: "HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n", want: "refused", std: "HTTP/1.1 200 O\x01K 0 \"\" map[Content-Length:[0]]", stdUse: true, why: "strict"},
		{name: "empty line first", raw: "\r\n" + ok + "\r\n", want: "refused"},
		{name: "line feed alone", raw: "HTTP/1.1 200 OK\nContent-Length: 0\n\n", want: "refused", std: `HTTP/1.1 200 OK 0 "" map[Content-Length:[0]]`, stdUse: true, why: "others see other lines"},
		{name: "line feed alone in a field", raw: ok + "A: b\nContent-Length: 0\r\n\r\n", want: "refused", std: `HTTP/1.1 200 OK 0 "" map[A:[b] Content-Length:[0]]`, stdUse: true, why: "as above"},
		{name: "carriage return in a value", raw: ok + "A: b\rc\r\nContent-Length: 0\r\n\r\n", want: "refused"},
		{name: "NUL in a value", raw: ok + "A: b\x00c\r\nContent-Length: 0\r\n\r\n", want: "refused"},
		{name: "continued line", raw: ok + "A: b\r\n c\r\nContent-Length: 0\r\n\r\n", want: "refused", std: `HTTP/1.1 200 OK 0 "" map[A:[b c] Content-Length:[0]]`, stdUse: true, why: "obsolete; others do not join it"},
		{name: "continued first line", raw: ok + " A: b\r\nContent-Length: 0\r\n\r\n", want: "refused"},
		{name: "space before the colon", raw: ok + "Content-Length : 0\r\n\r\n", want: "refused", std: `HTTP/1.1 200 OK -1 "" map[Content-Length :[0]] close cut off`, why: "others take it for the length"},
		{name: "no colon", raw: ok + "A\r\n\r\n", want: "refused"},
		{name: "no name", raw: ok + ": a\r\n\r\n", want: "refused"},
		{name: "two lengths", raw: ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", want: "refused"},
		{name: "the same length twice", raw: ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", want: "refused", std: `HTTP/1.1 200 OK 5 "hello" map[Content-Length:[5]]`, stdUse: true, why: "no server means to"},
		{name: "list of lengths", raw: ok + "Content-Length: 5, 5\r\n\r\nhello", want: "refused"},
		{name: "negative length", raw: ok + "Content-Length: -1\r\n\r\n", want: "refused"},
		{name: "length with a plus", raw: ok + "Content-Length: +5\r\n\r\nhello", want: "refused"},
		{name: "empty length", raw: ok + "Content-Length:\r\n\r\n", want: "refused"},
		{name: "length in hex", raw: ok + "Content-Length: 0x5\r\n\r\nhello", want: "refused"},
		{name: "length too large", raw: ok + "Content-Length: 9223372036854775808\r\n\r\n", want: "refused"},
		{name: "length and coding", raw: ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: "refused", std: `HTTP/1.1 200 OK -1 "" [chunked]`, stdUse: true, why: "the pattern of an attack"},
		{name: "coding over HTTP/1.0", raw: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", closes: true, want: "refused", std: `HTTP/1.0 200 OK -1 "0\r\n\r\n" close`, why: "RFC 9112, section 6.1"},
		{name: "unknown coding", raw: ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", want: "refused"},
		{name: "two codings", raw: ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: "refused"},
		{name: "coding with a Kelvin sign", raw: ok + "Transfer-Encoding: chun\u212aed\r\n\r\n0\r\n\r\n", want: "refused"},
		{name: "identity", raw: ok + "Transfer-Encoding: identity\r\n\r\n", want: "refused"},
		{name: "chunk of no size", raw: ok + "Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n", want: `HTTP/1.1 200 OK -1 "" [chunked] cut off`},
		{name: "chunk with a sign", raw: ok + "Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", want: `HTTP/1.1 200 OK -1 "" [chunked] cut off`},
		{name: "chunk with 0x", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", want: `HTTP/1.1 200 OK -1 "" [chunked] cut off`},
		{name: "chunk too large", raw: ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello", closes: true, want: `HTTP/1.1 200 OK -1 "" [chunked] cut off`, std: `HTTP/1.1 200 OK -1 "hello" [chunked] cut off`, why: "no such size"},
		{name: "chunk of too many digits", raw: ok + "Transfer-Encoding: chunked\r\n\r\n00000000000000005\r\nhello\r\n0\r\n\r\n", want: `HTTP/1.1 200 OK -1 "" [chunked] cut off`},
		{name: "chunk longer than its size", raw: ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n", want: `HTTP/1.1 200 OK -1 "hell" [chunked] cut off`},
		{name: "chunk line that ends with a line feed alone", raw: ok + "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", want: `HTTP/1.1 200 OK -1 "" [chunked] cut off`},
		{name: "carriage return in an extension", raw: ok + "Transfer-Encoding: chunked\r\n\r\n5;a\rb\r\nhello\r\n0\r\n\r\n", want: `HTTP/1.1 200 OK -1 "" [chunked] cut off`},
		{name: "long extension", raw: ok + "Transfer-Encoding: chunked\r\n\r\n5;" + long[:5000] + "\r\nhello\r\n0\r\n\r\n", want: `HTTP/1.1 200 OK -1 "" [chunked] cut off`},
		{name: "length in the trailer", raw: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n", want: `HTTP/1.1 200 OK -1 "" [chunked] cut off`, std: `HTTP/1.1 200 OK -1 "" [chunked] trailer map[Content-Length:[5]]`, stdUse: true, why: "RFC 9110, section 6.5.1"},
		{name: "length announced for the trailer", raw: ok + "Trailer: Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: "refused"},
		{name: "header too large", raw: ok + "A: " + strings.Repeat(long, 5) + "\r\n\r\n", want: "refused"},
		{
			name: "too many fields", raw: ok + strings.Repeat("A: b\r\n", 1001) + "Content-Length: 0\r\n\r\n", want: "refused",
			std: `HTTP/1.1 200 OK 0 "" map[A:[` + strings.TrimSpace(strings.Repeat("b ", 1001)) + `] Content-Length:[0]]`, stdUse: true, why: "each costs memory",
		},
		{name: "too many interim answers", raw: strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 9500) + ok + "Content-Length: 0\r\n\r\n", want: "refused"},
		{
			name: "protocols switched without being asked", raw: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", closes: true, want: "refused",
			std: `HTTP/1.1 101 Switching Protocols 0 "" map[Connection:[Upgrade] Upgrade:[x]]`, why: "ReverseProxy refuses it later",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			both(t, func(t *testing.T, k kit) {
				want, reuse := tc.want, tc.reuse
				if !k.lean() && tc.why != "" {
					reuse = tc.stdUse
					if tc.std != "" {
						want = tc.std
					}
				}
				if tc.why == "" && tc.std != "" {
					t.Fatal("a difference needs a reason")
				}
				up := newUpstream(t, answers(tc.raw, tc.closes))
				rt := k.make(up.address, lean.Options{MaxHeaderBytes: 256 << 10})
				m := tc.method
				if m == "" {
					m = http.MethodGet
				}
				if !k.lean() && strings.Contains(tc.name, "space before") {
					return // net/http waits for the end of the connection: there is nothing to compare
				}
				for i := range 2 {
					// net/http may take what is left of one answer for the next, if it is quick enough.
					if got := outcome(t, rt, m, up.address); got != want && (k.lean() || i == 0 || reuse) {
						t.Errorf("got  %.500s\nwant %.500s", got, want)
					}
				}
				if got := up.conns.Load() == 1; got != reuse && (k.lean() || reuse) {
					t.Errorf("used again: %v, want %v", got, reuse)
				}
			})
		})
	}
}

// TestRequests compares what both put on the wire.
func TestRequests(t *testing.T) {
	type mod = func(*http.Request)
	header := func(name string, values ...string) mod {
		return func(r *http.Request) { r.Header[name] = values }
	}
	unknown := func(r *http.Request) { r.ContentLength = -1 }
	for _, tc := range []struct {
		name, method, url, body string
		mod                     mod
		refused                 bool   // by both
		why                     string // only by this one, because
		inMemory                bool   // mod sets another body
	}{
		{name: "get", method: "GET", url: "/a/b?c=d"},
		{name: "no method", url: "/"},
		{name: "empty path", method: "GET", url: ""},
		{name: "escapes", method: "GET", url: "/a%2Fb%20c/%C3%A4?x=%20&y=a+b"},
		{name: "question mark alone", method: "GET", url: "/a?"},
		{name: "opaque", method: "GET", url: "/", mod: func(r *http.Request) { r.URL.Opaque = "/x/%2f" }},
		{name: "opaque with a host", method: "GET", url: "/", mod: func(r *http.Request) { r.URL.Opaque = "//x/y" }},
		{name: "asterisk", method: "OPTIONS", url: "/", mod: func(r *http.Request) { r.URL.Path = "*" }},
		{name: "host", method: "GET", url: "/", mod: func(r *http.Request) { r.Host = "app.example:8443" }},
		{name: "host with a zone", method: "GET", url: "/", mod: func(r *http.Request) { r.Host = "[fe80::1%25en0]:80" }},
		{name: "headers", method: "GET", url: "/", mod: func(r *http.Request) {
			for _, name := range []string{"B", "A", "X-Z", "Accept", "lower"} {
				r.Header[name] = []string{name, " spaces around\t", ""}
			}
		}},
		{name: "no user agent", method: "GET", url: "/", mod: header("User-Agent", "")},
		{name: "two user agents", method: "GET", url: "/", mod: header("User-Agent", "a", "b")},
		{name: "framing in the header", method: "GET", url: "/", mod: header("Content-Length", "5")},
		{name: "close", method: "GET", url: "/", mod: func(r *http.Request) { r.Close = true }},
		{name: "close in the header", method: "GET", url: "/", mod: func(r *http.Request) { r.Close = true; r.Header.Set("Connection", "Close") }},
		{name: "length", method: "POST", url: "/", body: "hello"},
		{name: "length with a close", method: "PUT", url: "/", body: "hello", mod: func(r *http.Request) { r.Close = true }},
		{name: "empty post", method: "POST", url: "/"},
		{name: "empty delete", method: "DELETE", url: "/"},
		{name: "chunks", method: "POST", url: "/", body: "hello", mod: unknown},
		{name: "chunks asked for", method: "POST", url: "/", body: "hello", mod: func(r *http.Request) { r.TransferEncoding = []string{"chunked"} }},
		{name: "get with chunks", method: "GET", url: "/", body: "hello", mod: unknown},
		{name: "get with an empty body of unknown length", method: "GET", url: "/", mod: func(r *http.Request) { r.Body = http.NoBody; r.ContentLength = -1 }},
		{name: "trailer", method: "POST", url: "/", body: "hello", mod: func(r *http.Request) {
			r.ContentLength, r.Trailer = -1, http.Header{"X-B": {"1", "2"}, "X-A": {"3"}}
		}},
		{name: "trailer without chunks", method: "POST", url: "/", body: "hello", mod: func(r *http.Request) { r.Trailer = http.Header{"A": {"b"}} }},
		{name: "expect", method: "POST", url: "/", body: "hello", mod: header("Expect", "100-continue")},

		{name: "bad name", method: "GET", url: "/", mod: header("A b", "c"), refused: true},
		{name: "empty name", method: "GET", url: "/", mod: header("", "c"), refused: true},
		{name: "line feed in a value", method: "GET", url: "/", mod: header("A", "b\nC: d"), refused: true},
		{name: "carriage return in a value", method: "GET", url: "/", mod: header("A", "b\rC: d"), refused: true},
		{name: "NUL in a value", method: "GET", url: "/", mod: header("A", "\x00"), refused: true},
		{name: "bad trailer", method: "POST", url: "/", body: "a", mod: func(r *http.Request) { r.Trailer = http.Header{"A b": nil} }, refused: true},
		{name: "length in the trailer", method: "POST", url: "/", body: "a", mod: func(r *http.Request) { r.ContentLength, r.Trailer = -1, http.Header{"Content-Length": nil} }, refused: true},
		{name: "bad method", method: "GET", url: "/", mod: func(r *http.Request) { r.Method = "GE T" }, refused: true},
		{name: "no header", method: "GET", url: "/", mod: func(r *http.Request) { r.Header = nil }, refused: true},
		{name: "no URL", method: "GET", url: "/", mod: func(r *http.Request) { r.URL = nil }, refused: true},
		{name: "no host", method: "GET", url: "/", mod: func(r *http.Request) { r.URL.Host, r.Host = "", "" }, refused: true},
		{name: "length without a body", method: "POST", url: "/", mod: func(r *http.Request) { r.ContentLength = 5 }, refused: true},
		{name: "body too short", method: "POST", url: "/", body: "hello", mod: func(r *http.Request) { r.ContentLength = 6 }, refused: true},
		{name: "control character in the query", method: "GET", url: "/", mod: func(r *http.Request) { r.URL.RawQuery = "a\r\nb" }, refused: true},

		{name: "body too long", method: "POST", url: "/", body: "hello", mod: func(r *http.Request) {
			r.ContentLength, r.Body = 4, io.NopCloser(strings.NewReader("hello")) // else the answer may come first
		}, refused: true, inMemory: true},
		{name: "space in the query", method: "GET", url: "/", mod: func(r *http.Request) { r.URL.RawQuery = "a b" }, why: "it would end the target"},
		{name: "second host", method: "GET", url: "/", mod: header("host", "evil"), why: "which one counts?"},
		{name: "second length", method: "POST", url: "/", body: "a", mod: header("content-length", "5"), why: "as above"},
		{name: "bad host", method: "GET", url: "/", mod: func(r *http.Request) { r.Host = "a/b" }, why: "net/http sends an empty one"},
		{name: "CONNECT", method: "CONNECT", url: "/", why: "not spoken"},
		{name: "unknown coding", method: "POST", url: "/", body: "a", mod: func(r *http.Request) { r.TransferEncoding = []string{"gzip"} }, why: "net/http drops it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var wire []string
			both(t, func(t *testing.T, k kit) {
				seen := make(chan string, 1)
				up := newUpstream(t, func(c net.Conn, br *bufio.Reader) { seen <- serveOnce(c, br) })
				u := "http://" + up.address + tc.url
				body := &closeCounter{Reader: strings.NewReader(tc.body)}
				req, err := http.NewRequestWithContext(within(t), tc.method, u, body)
				if err != nil {
					t.Fatal(err)
				}
				req.Method, req.Host, req.ContentLength = tc.method, "upstream.test", int64(len(tc.body))
				if tc.body == "" {
					req.Body = nil
				}
				if tc.mod != nil {
					tc.mod(req)
				}
				res, err := k.make(up.address, lean.Options{}).RoundTrip(req)
				if err == nil {
					res.Body.Close()
				}
				if refused := tc.refused || tc.why != ""; (err != nil) != refused && (tc.why == "" || k.lean()) {
					t.Fatalf("%v, refused: %v", err, refused)
				}
				if tc.body != "" && !tc.inMemory {
					eventually(t, "the body is closed", func() bool { return body.closed.Load() == 1 })
				}
				if err == nil {
					wire = append(wire, <-seen)
				}
			})
			if len(wire) == 2 && wire[0] != wire[1] {
				t.Errorf("net/http sends\n%q\nlean sends\n%q", wire[0], wire[1])
			}
		})
	}
}
