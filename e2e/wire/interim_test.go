package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// told is a body that tells when the first of it is read.
type told struct {
	io.Reader
	began atomic.Bool
}

func (b *told) Read(p []byte) (int, error) { b.began.Store(true); return b.Reader.Read(p) }

// TestEachWay: what is more than a request and its answer, over each pair of protocols.
func TestEachWay(t *testing.T) {
	a := newAuthority(t)
	left := make(chan string, 1) // whose client has gone
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/x/take":
			b, err := io.ReadAll(r.Body)
			fmt.Fprint(w, len(b), err)
		case "/x/refuse":
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		case "/x/hint":
			w.Header().Set("Link", "</app.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			if r.URL.Query().Get("body") != "" {
				_, _ = io.Copy(io.Discard, r.Body)
			}
			fmt.Fprint(w, "hinted")
		case "/x/range":
			http.ServeContent(w, r, "", time.Unix(1000, 0), strings.NewReader("0123456789"))
		case "/x/wait", "/x/half":
			if r.URL.Path == "/x/half" {
				_, _ = io.WriteString(w, "half")
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
			left <- r.URL.Path
		}
	})
	for _, upstream := range []string{"http", "standard", "h2c", "https"} {
		address, connection := serveUpstream(t, upstream, a, api)
		for _, k := range []kind{plain, secure} {
			f := startFront(t, k, a, fmt.Sprintf("{path: /x/, upstream: %q%s}", address, connection))
			for _, h2 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s h2=%t to %s", k, h2, upstream), func(t *testing.T) {
					client := f.client(h2)
					client.Transport.(*http.Transport).ExpectContinueTimeout = patience
					defer client.CloseIdleConnections()
					testContinue(t, f, client, h2)
					testHints(t, f, client)
					testRanges(t, f, client)
					for _, path := range []string{"/x/wait", "/x/half"} {
						ctx, leave := context.WithCancel(t.Context())
						gone := make(chan error, 1)
						go func() {
							res, err := client.Do(f.request("GET", path, nil).WithContext(ctx))
							if err == nil {
								_, err = io.ReadAll(res.Body)
								res.Body.Close()
							}
							gone <- err
						}()
						time.AfterFunc(50*time.Millisecond, leave)
						if err := receive(t, "the client's end", gone); !errors.Is(err, context.Canceled) {
							t.Errorf("%s: %v", path, err)
						}
						if got := receive(t, "the upstream hears that the client has gone", left); got != path {
							t.Errorf("%s was left, not %s", got, path)
						}
					}
				})
			}
		}
	}
}

// testContinue: a body that waits for a yes is sent once the upstream wants it, and over HTTP/1.1 never when it is refused.
func testContinue(t *testing.T, f *front, client *http.Client, h2 bool) {
	t.Helper()
	for path, want := range map[string]string{"/x/take": "200 5 <nil>", "/x/refuse": "413 "} {
		body := &told{Reader: strings.NewReader("hello")}
		req := f.request("POST", path, body)
		req.ContentLength = 5
		req.Header.Set("Expect", "100-continue")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if got := fmt.Sprint(res.StatusCode, " ", string(b)); got != want || err != nil {
			t.Errorf("%s: %q, %v", path, got, err)
		}
		if path == "/x/refuse" && !h2 && body.began.Load() { // over HTTP/2 net/http does not tell that it is waited for
			t.Errorf("a body was sent that was refused")
		}
	}
}

// testHints: early hints come before the answer, without and with a body on its way.
func testHints(t *testing.T, f *front, client *http.Client) {
	t.Helper()
	for _, method := range []string{"GET", "POST"} {
		var hints []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, h["Link"]))
			return nil
		}}
		var body io.Reader
		if method == "POST" {
			body = strings.NewReader("hello")
		}
		req := f.request(method, "/x/hint", body)
		res, err := client.Do(req.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(b) != "hinted" || len(res.Header["Link"]) > 0 || fmt.Sprint(hints) != "[103 [</app.css>; rel=preload]]" {
			t.Errorf("%s: %q, %v, %v, hints %q", method, b, err, res.Header, hints)
		}
	}
}

func testRanges(t *testing.T, f *front, client *http.Client) {
	t.Helper()
	for asked, want := range map[string]string{
		"bytes=2-4": "206 bytes 2-4/10 3 234", "bytes=-1": "206 bytes 9-9/10 1 9", "bytes=99-": "416 bytes */10 33 invalid range: failed to overlap\n", "": "200  10 0123456789",
	} {
		req := f.request("GET", "/x/range", nil)
		req.Header.Set("Range", asked)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if got := fmt.Sprint(res.StatusCode, " ", res.Header.Get("Content-Range"), " ", res.ContentLength, " ", string(b)); got != want || err != nil {
			t.Errorf("%q: %q, %v", asked, got, err)
		}
	}
}
