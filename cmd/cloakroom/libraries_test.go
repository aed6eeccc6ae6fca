package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestLibraryLines: what an upstream sends without being asked, net/http would quote in a line of its own.
func TestLibraryLines(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	answered := make(chan struct{}) // the connection is idle now
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				<-answered
				_, _ = io.WriteString(c, "canary-of-somebody")
				_, _ = c.Read(make([]byte, 1))
			}()
		}
	}()
	port := freePort(t)
	w := newWorld(t, "listen: 127.0.0.1:"+port, "http://127.0.0.1:"+port)
	w.write(t, fmt.Sprintf(`
listen: 127.0.0.1:%s
admin: {listen: "127.0.0.1:0"}
store: file:sessions.db
frontends:
  - url: %s
    providers:
      - {issuer: %q, client_id: app, client_secret: s}
    routes:
      - {path: /api/, session: none, upstream: "http://%s", connection: {transport: standard}}
`, port, w.url, w.issuer, ln.Addr()))
	p := serveProcess(t, "serve", "--config", w.file)
	if status := call(t, http.DefaultClient, w.url, ""); status != 200 {
		t.Fatal(status)
	}
	close(answered)
	tick, end := time.NewTicker(10*time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for !strings.Contains(p.output(), "a library complains") && !strings.Contains(p.output(), "canary") {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal(p.output())
		}
	}
	if out := p.output(); strings.Contains(out, "canary") || !strings.Contains(out, "Unsolicited response") {
		t.Error(out)
	}
}
