package main

import (
	"context"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestListenSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "verify.sock")
	listen := func() net.Listener {
		t.Helper()
		ln, err := listenOn(t.Context(), "unix:"+path)
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	ln := listen()
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeSocket || info.Mode().Perm() != 0o660 {
		t.Errorf("%v %v", info, err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("beside it: %v %v", files, err)
	}
	if _, err := listenOn(t.Context(), "unix:"+path); err == nil || !strings.Contains(err.Error(), "somebody listens") {
		t.Errorf("twice: %v", err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("after the second try: %v", err)
	}
	_ = conn.Close()

	_ = ln.(*socket).Listener.Close() // killed: the file stays
	second := listen()
	if err := ln.Close(); err == nil {
		t.Error("it was closed before")
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the first one's end took the second one's file: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the file is left: %v", err)
	}

	if err := os.WriteFile(path, []byte("a letter"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenOn(t.Context(), "unix:"+path); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file: %v", err)
	}
	if text, err := os.ReadFile(path); string(text) != "a letter" || err != nil {
		t.Errorf("the file is %q %v", text, err)
	}
}

// The verify listener of a running server, on a socket file beside the configuration.
func TestServeVerify(t *testing.T) {
	port := freePort(t)
	url := "http://127.0.0.1:" + port
	w := newWorld(t, "listen: \"127.0.0.1:"+port+"\"\nverify: {listen: \"unix:verify.sock\"}", url)
	text, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, string(text)+"      - {path: /orders/, forward_auth: true}\n")
	p := serveProcess(t, "serve", "--config", w.file)
	path := filepath.Join(w.dir, "verify.sock")
	for end := time.Now().Add(20 * time.Second); ; <-time.After(10 * time.Millisecond) {
		if _, err := os.Lstat(path); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no socket:\n%s", p.output())
		}
	}
	cookie := login(t, http.DefaultClient, url)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	ask := func(cookie string) *http.Response {
		t.Helper()
		req, err := http.NewRequest("GET", "http://verify/verify/nginx", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "127.0.0.1:" + port
		for name, value := range map[string]string{
			"X-Original-Method": "GET", "X-Original-URI": "/orders/", "X-Forwarded-Proto": "http", "Cookie": cookie, "Sec-Fetch-Site": "same-origin",
		} {
			req.Header.Set(name, value)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res
	}
	if res := ask(cookie); res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Authorization"), "Bearer at_") {
		t.Errorf("%d %v\n%s", res.StatusCode, res.Header, p.output())
	}
	if res := ask("other=1"); res.StatusCode != 401 || res.Header.Get("Authorization") != "" {
		t.Errorf("without a session: %d %v", res.StatusCode, res.Header)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_, _ = p.Process.Wait()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}
