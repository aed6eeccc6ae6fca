package lean_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/lean"
)

// script is a connection that says what it is to say and keeps what is written to it.
type script struct {
	io.Reader
	wrote bytes.Buffer
}

func (s *script) Write(p []byte) (int, error)      { return s.wrote.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return nil }
func (s *script) RemoteAddr() net.Addr             { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

func scripted(s *script) *lean.Transport {
	return lean.New(lean.Options{ReadBuffer: 1024, MaxHeaderBytes: 4096, Dial: func(context.Context) (net.Conn, error) { return s, nil }})
}

// pieces comes in reads of at most so many bytes; 0: as many as there is room for.
type pieces struct {
	io.Reader
	most int
}

func (p pieces) Read(b []byte) (int, error) {
	if p.most > 0 {
		b = b[:min(p.most, len(b))]
	}
	return p.Reader.Read(b)
}

// FuzzAnswer: what is accepted is what net/http reads, too, and a connection is kept only if the answer ends where
// net/http says.
func FuzzAnswer(f *testing.F) {
	for _, raw := range []string{
		okHello,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nConnection: close, x\r\npragma: no-cache\r\n\r\nhello",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length : 5\r\n a: b\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 2000) + "\r\nContent-Length: 2000\r\n\r\n" + strings.Repeat("c", 2000),
	} {
		for _, piece := range []byte{0, 1, 7} {
			f.Add([]byte(raw), false, piece)
			f.Add([]byte(raw), true, piece)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, head bool, piece byte) {
		kept := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{PutIdleConn: func(err error) { kept = err == nil }})
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		req := request(ctx, t, method, "upstream", nil)
		source := bytes.NewReader(raw)
		res, err := scripted(&script{Reader: pieces{source, int(piece)}}).RoundTrip(req)
		if err != nil {
			return
		}
		body, bodyErr := io.ReadAll(res.Body)
		res.Body.Close()

		br := bufio.NewReader(bytes.NewReader(raw))
		std, err := http.ReadResponse(br, req)
		for err == nil && std.StatusCode < 200 {
			std, err = http.ReadResponse(br, req)
		}
		if err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		stdBody, err := io.ReadAll(std.Body)
		if bodyErr != nil {
			if !bytes.HasPrefix(stdBody, body) {
				t.Fatalf("net/http reads another body: %q, not %q", stdBody, body)
			}
			return
		}
		if err != nil || !bytes.Equal(body, stdBody) {
			t.Fatalf("net/http reads another body: %q, %v, not %q", stdBody, err, body)
		}
		res.Body, std.Body, res.TLS, std.TLS = nil, nil, nil, nil
		if !reflect.DeepEqual(res, std) {
			t.Fatalf("lean     %+v\nnet/http %+v", res, std)
		}
		// What is still in the socket is seen before it is used again (TestIdleConnections); a script has none.
		if rest, _ := io.ReadAll(br); kept && (len(rest) != source.Len() || std.Close) {
			t.Fatalf("the connection is kept, but of %q only %d bytes are unread", rest, source.Len())
		}
	})
}

// FuzzRequest: what is sent is what net/http's Request.Write sends.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "app.example:80", "/a b/%2f", "c=d&e", "Accept: x\nCookie: a\nCookie: b\nUser-Agent: y", "", false, "")
	f.Add("POST", "[fe80::1%en0]:80", "//x", "", "Content-Type: a/b\nlower: c", "hello", false, "")
	f.Add("PUT", "h", "*", "?", "Connection: close\nHost: evil\nX: \t y ", "hello", true, "X-Sum: 1\nA: ")
	f.Add("DELETE", "h", "", "a b", "Content-Length: 7\nTransfer-Encoding: x", "", true, "")
	f.Add("GET", "h", "/", "", "User-Agent:  ", "", false, "")
	f.Fuzz(func(t *testing.T, method, host, path, query, header, body string, chunks bool, trailer string) {
		build := func() *http.Request {
			req := (&http.Request{
				Method: method, Host: host, URL: &url.URL{Scheme: "http", Host: "upstream", Path: path, RawQuery: query},
				Header: fields(header), ContentLength: int64(len(body)),
			}).WithContext(t.Context())
			if body != "" {
				req.Body = io.NopCloser(strings.NewReader(body))
				if chunks {
					req.TransferEncoding, req.Trailer = []string{"chunked"}, fields(trailer)
				}
			}
			return req
		}
		written := make(chan struct{})
		s := &script{Reader: io.MultiReader(waits(written), strings.NewReader("HTTP/1.1 204 No Content\r\n\r\n"))}
		req := build()
		req = req.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			WroteRequest: func(httptrace.WroteRequestInfo) { close(written) },
		}))
		res, err := scripted(s).RoundTrip(req)
		if err != nil {
			return
		}
		res.Body.Close()
		var std bytes.Buffer
		if err := build().Write(&std); err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		if got := s.wrote.String(); got != std.String() {
			t.Fatalf("lean     %q\nnet/http %q", got, std.String())
		}
	})
}

// waits is read only when the request is written.
type waits chan struct{}

func (w waits) Read([]byte) (int, error) { <-w; return 0, io.EOF }

func fields(text string) http.Header {
	h := http.Header{}
	for line := range strings.SplitSeq(text, "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			h[name] = append(h[name], value)
		}
	}
	return h
}

// Errors tell what is wrong, and nothing of what was sent.
func TestErrorsKeepSecrets(t *testing.T) {
	const secret = "s3cr3t"
	for _, raw := range []string{
		"HTTP/1.1 200 OK\r\nSet-Cookie: " + secret + "\x00\r\n\r\n", "HTTP/1.1 200 OK\r\n" + secret + "\r\n\r\n", secret + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: " + secret + "\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + secret + "\r\n\r\n",
	} {
		_, err := scripted(&script{Reader: strings.NewReader(raw)}).RoundTrip(request(t.Context(), t, http.MethodGet, "upstream", nil))
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
			t.Errorf("%q: %v", raw, err)
		}
	}
	req := request(t.Context(), t, http.MethodGet, "upstream", nil)
	req.Header.Set("Authorization", secret+"\n")
	_, err := scripted(&script{Reader: strings.NewReader(okHello)}).RoundTrip(req)
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Error(err)
	}
}
