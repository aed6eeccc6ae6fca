package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// ambiguous is the path corpus of GO-PEERS.md section 4.2: each can be read in two ways.
var ambiguous = []string{
	"/public/../admin", "/user/%2e%2e/admin", "/user/%2E%2e/admin", "/%2e%2e%2fadmin", "/%252e%252e/admin", "/a/..;/admin", "/a/;x=y/b",
	"/a/.;x/b", `/a/..\admin`, "/a/%5cadmin", "/a%5Cb", "//admin", "/a//b", "/admin%00", "/admin%20%0d", "/admin%2F", "/admin%2fx", "/./a", "/a/.",
	"/a/..", "/%61pi/x", "/api%2e/x", "/a%7fb", "/a%", "/a%2", "/a%zz", "/\x00", "/a\tb", "/ü", "/%255c", "/%25", "/a/%2e", "", "a", "*",
	"/a/..%3B/admin", "/a/.%3bx/b", "/%3B/admin", "/a/%3bx=y/b", "/a/%c0%ae%c0%ae/admin", "/a%c0%afadmin", "/a%e0%80%afb", "/a%f0%80%80%afb", "/%fc", "/%ff",
	"/a%c3", "/a%c3x", "/a%c3%28", "/a%ed%a0%80", "/a%f4%90%80%80", "/a%c2%85b", "/a%c2%9f",
	"/a/.../b", "/a/..%20/b", "/a/%20/b", "/%20", "/a/%20.%20;x",
}

func TestAmbiguousPathsAreRefused(t *testing.T) {
	for _, path := range ambiguous {
		if pathFault(path) == "" {
			t.Errorf("%q was taken", path)
		}
	}
}

func TestPlainPathsAreTaken(t *testing.T) {
	for _, path := range []string{
		"/", "/api/", "/api/orders", "/a%20b", "/%C3%BC/x", "/a;v=1/b", "/a:b@c", "/a.b/..c/c..", "/a%20/b.", "/~x/(1)/*+,=$&'!", "/a/b/", "/.well-known/x", "/a%3Fb", "/a%23b", "/a%3B", "/a%3b/b",
	} {
		if fault := pathFault(path); fault != "" {
			t.Errorf("%q: %s", path, fault)
		}
	}
}

func TestPathFaultDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { pathFault("/api/orders/17;v=1/%C3%BC") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestRawTargets sends request targets over a raw connection, as no client library would.
func TestRawTargets(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, problem := CanonicalPath(r)
		if problem != nil {
			problem.Write(w, r)
			return
		}
		fmt.Fprint(w, path)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for _, tc := range []struct {
		target string
		status int
		path   string
	}{
		{"/api/x", 200, "/api/x"},
		{"/api/x?y=/../z", 200, "/api/x"},
		{"/api/%C3%BC?q=%2f", 200, "/api/%C3%BC"},
		{"http://" + host + "/api/x", 200, "/api/x"},
		{"http://u@" + host + "/api/x", 400, ""},
		{"http://" + host + "/api/|%2fx", 400, ""}, // net/url would make it /api/%7C/x
		{"http://" + host + "/api/|x", 200, "/api/|x"},
		{"HTTP://" + host + "/api/x?y://z/w", 200, "/api/x"},
		{"http://" + host + "?/api/x", 400, ""},
		{"http://" + host, 400, ""},
		{"/api/../admin", 400, ""},
		{"/api/%2e%2e/admin", 400, ""},
		{`/api/..\admin`, 400, ""},
		{"//evil.example/x", 400, ""},
		{"/api/x#/admin", 400, ""},
	} {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", tc.target, host)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(tc.target, err)
		}
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != tc.status || tc.status == 200 && string(body) != tc.path {
			t.Errorf("%s: %d %s, want %d %s", tc.target, res.StatusCode, body, tc.status, tc.path)
		}
		conn.Close()
	}
}

func FuzzCanonicalPath(f *testing.F) {
	for _, path := range ambiguous {
		f.Add(path)
	}
	f.Add("/api/%C3%BC;v=1/x")
	f.Fuzz(func(t *testing.T, path string) {
		if pathFault(path) != "" {
			return
		}
		plain, err := url.PathUnescape(path)
		if err != nil {
			t.Fatalf("%q was taken and cannot be decoded", path)
		}
		for seg := range strings.SplitSeq(plain[1:], "/") {
			name, _, _ := strings.Cut(seg, ";")
			if name == "." || name == ".." || strings.ContainsAny(seg, "\\\x00\r\n\x7f") {
				t.Fatalf("%q was taken, and is %q", path, plain)
			}
		}
		if strings.Count(plain, "/") != strings.Count(path, "/") || strings.Contains(plain, "//") {
			t.Fatalf("%q hides a separator: %q", path, plain)
		}
		u := &url.URL{Scheme: "http", Host: "up"}
		setPath(u, path)
		if got := u.RequestURI(); got != path {
			t.Fatalf("matched %q, forwarded %q", path, got)
		}
	})
}
