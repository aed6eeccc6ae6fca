package lean_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/lean"
)

// behind puts a ReverseProxy with the transport of a kit in front of a handler.
func behind(t *testing.T, k kit, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	target, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: k.make(srv.Listener.Addr().String(), lean.Options{ExpectContinueTimeout: time.Minute}),
		ErrorLog:  log.New(io.Discard, "", 0),
	})
	t.Cleanup(proxy.Close)
	return proxy
}

// What ReverseProxy can do over net/http's Transport, it can over this one.
func TestReverseProxy(t *testing.T) {
	both(t, func(t *testing.T, k kit) {
		proxy := behind(t, k, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/hints":
				w.Header().Set("Link", "</style.css>; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
				w.Header().Set("Content-Type", "text/plain")
			case "/trailer":
				w.Header().Set("Trailer", "X-Sum")
				defer func() { w.Header().Set("X-Sum", "1"); w.Header().Set(http.TrailerPrefix+"X-More", "2") }()
			case "/refuse":
				w.Header().Set("Connection", "close")
				http.Error(w, "too large", http.StatusRequestEntityTooLarge)
				return
			}
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s", r.Method, body)
		})
		client := proxy.Client()
		var hint string
		for _, tc := range []struct{ method, path, body, expect, want string }{
			{"GET", "/", "", "", `200 OK "GET "`},
			{"POST", "/", "hello", "", `200 OK "POST hello"`},
			{"POST", "/", "hello", "100-continue", `200 OK "POST hello"`},
			{"GET", "/hints", "", "", `200 OK "GET " </style.css>; rel=preload`},
			{"POST", "/trailer", "x", "", `200 OK "POST x" map[X-More:[2] X-Sum:[1]]`},
			{"POST", "/refuse", "x", "100-continue", `413 Request Entity Too Large "too large\n"`},
		} {
			hint = ""
			ctx := httptrace.WithClientTrace(within(t), &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
				hint = " " + h.Get("Link")
				return nil
			}})
			req, err := http.NewRequestWithContext(ctx, tc.method, proxy.URL+tc.path, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if tc.expect != "" {
				req.Header.Set("Expect", tc.expect)
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(tc, err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			got := fmt.Sprintf("%s %q", res.Status, body) + strings.TrimSpace(hint)
			if hint = strings.TrimSpace(hint); hint != "" {
				got = fmt.Sprintf("%s %q %s", res.Status, body, hint)
			}
			if len(res.Trailer) > 0 {
				got += fmt.Sprint(" ", res.Trailer)
			}
			if got != tc.want || err != nil {
				t.Errorf("%s %s: %s, want %s; %v", tc.method, tc.path, got, tc.want, err)
			}
		}
	})
}

// A stream reaches the client as it comes, and the upstream hears of a client that goes away.
func TestReverseProxyStream(t *testing.T) {
	both(t, func(t *testing.T, k kit) {
		left := make(chan struct{})
		proxy := behind(t, k, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			close(left)
		})
		ctx, cancel := context.WithCancel(within(t))
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, proxy.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := proxy.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		got := make([]byte, len("data: 1\n\n"))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != "data: 1\n\n" {
			t.Errorf("%q, %v", got, err)
		}
		cancel()
		<-left
	})
}

func TestReverseProxyUpgrade(t *testing.T) {
	both(t, func(t *testing.T, k kit) {
		proxy := behind(t, k, func(w http.ResponseWriter, r *http.Request) {
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi ")
			_ = rw.Flush()
			_, _ = io.Copy(c, rw)
		})
		c, err := new(net.Dialer).DialContext(within(t), "tcp", proxy.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		br := bufio.NewReader(c)
		head, err := readHead(br)
		if err != nil || !strings.HasPrefix(head, "HTTP/1.1 101 ") {
			t.Fatal(head, err)
		}
		_, _ = io.WriteString(c, "you")
		got := make([]byte, len("hi you"))
		if _, err := io.ReadFull(br, got); err != nil || string(got) != "hi you" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// Many requests at once, some of them cancelled, each get their own answer.
func TestManyAtOnce(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Echo", r.Header.Get("X-Number"))
		if len(body)%3 == 0 {
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = w.Write(body)
	}))
	defer srv.Close()
	address := srv.Listener.Addr().String()
	both(t, func(t *testing.T, k kit) {
		rt := k.make(address, lean.Options{MaxConns: 8, ResponseHeaderTimeout: time.Minute})
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				for j := range 30 {
					ctx, cancel := context.WithCancel(within(t))
					if j%10 == 9 {
						time.AfterFunc(time.Duration(i)*20*time.Microsecond, cancel)
					}
					number := fmt.Sprint(i, ".", j, strings.Repeat("z", i*j*20))
					var body io.Reader = strings.NewReader(number)
					if j%2 == 1 {
						body = &closeCounter{Reader: body}
					}
					req := request(ctx, t, http.MethodPost, address, body)
					req.Header.Set("X-Number", number[:3])
					res, err := rt.RoundTrip(req)
					if err == nil {
						var got []byte
						got, err = io.ReadAll(res.Body)
						res.Body.Close()
						if err == nil && (string(got) != number || res.Header.Get("X-Echo") != number[:3]) {
							t.Errorf("got %.20q for %.20q", got, number)
						}
					}
					if err != nil && ctx.Err() == nil {
						t.Error(err)
					}
					cancel()
				}
			})
		}
		wg.Wait()
	})
}
