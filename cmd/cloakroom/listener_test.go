package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// tlsWorld is a world that is served over TLS, with an API of its own below /live/ that asks for no session.
func tlsWorld(t *testing.T, api http.Handler) (*process, string, *tls.Config) {
	t.Helper()
	port, dir := freePort(t), t.TempDir()
	pool := certificate(t, dir)
	url := "https://localhost:" + port
	w := newWorld(t, fmt.Sprintf("listen: 127.0.0.1:%s\ntls: {cert_file: %q, key_file: %q}", port, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")), url)
	up := httptest.NewServer(api)
	t.Cleanup(up.Close)
	text, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, string(text)+fmt.Sprintf("      - {path: /live/, upstream: %q, session: none, token: none}\n", up.URL))
	return serveProcess(t, "serve", "--config", w.file), url, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, ServerName: "localhost"}
}

// settings are what a server of HTTP/2 says first.
func settings(t *testing.T, conn net.Conn) map[http2.SettingID]uint32 {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	frame, err := f.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	said, ok := frame.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("%v", frame)
	}
	list := map[http2.SettingID]uint32{}
	_ = said.ForeachSetting(func(s http2.Setting) error { list[s.ID] = s.Val; return nil })
	return list
}

// TestProtocols asks the real command over TLS and without it what it speaks.
func TestProtocols(t *testing.T) {
	want := map[http2.SettingID]uint32{http2.SettingMaxConcurrentStreams: 1000, http2.SettingInitialWindowSize: 512 << 10, http2.SettingEnableConnectProtocol: 1}
	check := func(t *testing.T, got map[http2.SettingID]uint32) {
		t.Helper()
		for id, value := range want {
			if got[id] != value {
				t.Errorf("%v = %d, want %d", id, got[id], value)
			}
		}
	}
	t.Run("TLS", func(t *testing.T) {
		_, url, trust := tlsWorld(t, http.NotFoundHandler())
		address := strings.TrimPrefix(url, "https://")
		for offered, want := range map[string]string{"h2": "h2", "http/1.1": "http/1.1", "": ""} {
			c := trust.Clone()
			if offered != "" {
				c.NextProtos = []string{offered}
			}
			conn, err := tls.Dial("tcp", address, c)
			if err != nil {
				t.Fatal(err)
			}
			if got := conn.ConnectionState().NegotiatedProtocol; got != want {
				t.Errorf("offered %q: %q", offered, got)
			}
			if offered == "h2" {
				check(t, settings(t, conn))
			}
			conn.Close()
		}
	})
	t.Run("plain", func(t *testing.T) {
		port := freePort(t)
		w := newWorld(t, "listen: 127.0.0.1:"+port, "http://127.0.0.1:"+port)
		serveProcess(t, "serve", "--config", w.file)
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		check(t, settings(t, conn))
		only := new(http.Protocols)
		only.SetUnencryptedHTTP2(true)
		client := &http.Client{Transport: &http.Transport{Protocols: only}}
		if status := call(t, client, w.url, login(t, client, w.url)); status != 200 {
			t.Errorf("h2c: %d", status)
		}
		if status := call(t, http.DefaultClient, w.url, login(t, http.DefaultClient, w.url)); status != 200 {
			t.Errorf("HTTP/1.1: %d", status)
		}
	})
}

// TestStalledUploads: seven uploads that an API does not take hold up no other request on their connection.
func TestStalledUploads(t *testing.T) {
	const stalled, size = 7, 8 << 20
	begun, release := make(chan struct{}, stalled), make(chan struct{})
	server := httptest.NewUnstartedServer(nil)
	server.Config = newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stalled" {
			_, _ = io.ReadFull(r.Body, make([]byte, 1<<10))
			begun <- struct{}{}
			<-release
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}), slog.New(slog.DiscardHandler))
	server.Start()
	t.Cleanup(server.Close)
	only := new(http.Protocols)
	only.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: only}}
	put := func(ctx context.Context, path string) error {
		req, err := http.NewRequestWithContext(ctx, "PUT", server.URL+path, bytes.NewReader(make([]byte, size)))
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err == nil {
			res.Body.Close()
		}
		return err
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := range stalled {
		all.Go(func() { _ = put(t.Context(), "/stalled") })
		select {
		case <-begun:
		case <-ctx.Done():
			t.Fatalf("%d stalled uploads hold up another", i)
		}
	}
	if err := put(ctx, "/other"); err != nil {
		t.Error(err)
	}
}

// TestDrain: at SIGTERM a WebSocket and an event stream end at once, a running answer ends well, HTTP/2 clients are told
// to go, and whoever asks whether the process is ready hears that it is not.
func TestDrain(t *testing.T) {
	release := make(chan struct{})
	p, url, trust := tlsWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/live/slow":
			_, _ = io.WriteString(w, "half ")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
			_, _ = io.WriteString(w, "whole")
		case "/live/events":
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		default:
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn)
		}
	}))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: true}}
	get := func(path string) *http.Response {
		res, err := client.Get(url + path)
		if err != nil || res.ProtoMajor != 2 {
			t.Fatal(res, err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	slow, events := get("/live/slow"), get("/live/events")
	socket, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), trust)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	fmt.Fprintf(socket, "GET /live/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", strings.TrimPrefix(url, "https://"))
	inner := bufio.NewReader(socket)
	if res, err := http.ReadResponse(inner, nil); err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, inner); err != nil {
		t.Logf("the WebSocket: %v", err) // reset or closed: it is over
	}
	if _, err := io.Copy(io.Discard, events.Body); err == nil {
		t.Error("the event stream ended as if it were complete")
	}
	p.mu.Lock()
	admin := p.addr["admin"]
	p.mu.Unlock()
	res, err := http.Get("http://" + admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != 503 || !strings.Contains(string(body), `"draining"`) {
		t.Errorf("/readyz: %d %s", res.StatusCode, body)
	}
	close(release)
	if body, err := io.ReadAll(slow.Body); err != nil || string(body) != "half whole" {
		t.Errorf("%q %v", body, err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("%v %s", err, p.output())
	}
	if !strings.Contains(p.output(), `"msg":"draining","streams_cut":2`) || strings.Contains(p.output(), "requests were cut") {
		t.Error(p.output())
	}
}

// h2Stream is one stream of a raw HTTP/2 connection.
type h2Stream struct {
	*http2.Framer
	t    *testing.T
	id   uint32
	over bool
}

// connect opens a stream with these headers and returns it with the status of its answer.
func connect(t *testing.T, address string, trust *tls.Config, fields ...string) (*h2Stream, map[string]string) {
	t.Helper()
	c := trust.Clone()
	c.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	s := &h2Stream{Framer: http2.NewFramer(conn, conn), t: t, id: 1}
	s.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := s.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	if err := s.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := s.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			head := map[string]string{}
			for _, x := range f.Fields {
				head[x.Name] = x.Value
			}
			s.over = f.StreamEnded()
			return s, head
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			t.Fatal(f)
		}
	}
}

// read returns the next data; "" at the stream's end.
func (s *h2Stream) read() string {
	s.t.Helper()
	for !s.over {
		frame, err := s.ReadFrame()
		if err != nil {
			s.t.Fatal(err)
		}
		switch f := frame.(type) {
		case *http2.DataFrame:
			s.over = f.StreamEnded()
			if len(f.Data()) > 0 {
				return string(f.Data())
			}
		case *http2.RSTStreamFrame:
			s.over = true
		}
	}
	return ""
}

// TestWebSocketOverHTTP2 opens WebSockets with CONNECT (RFC 8441) through the real command.
func TestWebSocketOverHTTP2(t *testing.T) {
	sum := func(key string) string {
		h := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		return base64.StdEncoding.EncodeToString(h[:])
	}
	p, url, trust := tlsWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("Sec-WebSocket-Key")
		if raw, err := base64.StdEncoding.DecodeString(key); r.Method != "GET" || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-WebSocket-Version") != "13" ||
			err != nil || len(raw) != 16 || r.Header.Get("X-Mine") != "yes" {
			w.WriteHeader(418)
			return
		}
		accept := sum(key)
		switch r.URL.Path {
		case "/live/no":
			w.WriteHeader(403)
			return
		case "/live/page":
			_, _ = io.WriteString(w, "a page")
			return
		case "/live/wrong":
			accept = sum("x")
		}
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: chat\r\n\r\n", accept)
		for {
			line, err := buf.ReadString('\n')
			if err != nil {
				fmt.Fprint(conn, "bye\n") // after the client's half has ended
				return
			}
			fmt.Fprint(conn, "echo "+line)
		}
	}))
	address := strings.TrimPrefix(url, "https://")
	open := func(path string, more ...string) (*h2Stream, map[string]string) {
		t.Helper()
		return connect(t, address, trust, append([]string{
			":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", address, ":path", path,
			"sec-websocket-version", "13", "sec-websocket-protocol", "chat", "origin", url, "x-mine", "yes",
		}, more...)...)
	}
	s, head := open("/live/ws")
	if head[":status"] != "200" || head["sec-websocket-protocol"] != "chat" || head["sec-websocket-accept"] != "" || head["upgrade"] != "" || head["connection"] != "" {
		t.Fatalf("%v", head)
	}
	for _, text := range []string{"one\n", "two\n"} {
		_ = s.WriteData(s.id, false, []byte(text))
		if got := s.read(); got != "echo "+text {
			t.Errorf("%q", got)
		}
	}
	_ = s.WriteData(s.id, true, nil)
	if got := s.read(); got != "bye\n" || s.read() != "" {
		t.Errorf("after the client's end: %q", got)
	}
	for path, want := range map[string]string{
		"/live/no": "403", "/live/page": "502", "/live/wrong": "502", "/none": "404", "/auth/session": "405", "/live/../x": "400", "/api/x": "401",
	} {
		if _, head := open(path); head[":status"] != want {
			t.Errorf("%s: %v, want %s", path, head, want)
		}
	}
	if _, head := open("/api/x", "cookie", "__Host-Http-cloakroom="+strings.Repeat("a", 43), "origin", "https://evil.example"); head[":status"] != "403" {
		t.Errorf("two origins: %v", head)
	}
	if _, head := connect(t, address, trust, ":method", "CONNECT", ":protocol", "connect-udp", ":scheme", "https", ":authority", address, ":path", "/live/ws"); head[":status"] != "405" {
		t.Errorf("another protocol: %v", head)
	}
	if _, head := connect(t, address, trust, ":method", "GET", ":protocol", "websocket", ":scheme", "https", ":authority", address, ":path", "/live/ws"); head[":status"] != "405" {
		t.Errorf("a GET with a protocol: %v", head)
	}
	s, _ = open("/live/ws")
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if got := s.read(); got != "" {
		t.Errorf("at the drain: %q", got)
	}
	if err := p.Wait(); err != nil || !strings.Contains(p.output(), `"streams_cut":1`) {
		t.Errorf("%v %s", err, p.output())
	}
}
