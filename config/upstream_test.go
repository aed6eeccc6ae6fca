package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseUpstream(t *testing.T) {
	for address, want := range map[string]UpstreamURL{
		"http://127.0.0.1:3000":      {Network: "tcp", Address: "127.0.0.1:3000", Host: "127.0.0.1:3000"},
		"http://API.example.com":     {Network: "tcp", Address: "api.example.com:80", Host: "API.example.com"},
		"https://api.example.com/v1": {Network: "tcp", Address: "api.example.com:443", Host: "api.example.com", Path: "/v1", TLS: true},
		"https://[::1]/a%20b/":       {Network: "tcp", Address: "[::1]:443", Host: "[::1]", Path: "/a%20b", TLS: true},
		"http://[::1]:8080/":         {Network: "tcp", Address: "[::1]:8080", Host: "[::1]:8080"},
		"h2c://127.0.0.1:50051":      {Network: "tcp", Address: "127.0.0.1:50051", Host: "127.0.0.1:50051", HTTP2: true},
		"unix:/run/api.sock":         {Network: "unix", Address: "/run/api.sock", Host: "localhost"},
		"unix:///run/api.sock":       {Network: "unix", Address: "/run/api.sock", Host: "localhost"},
		"unix+h2c:/run/api.sock":     {Network: "unix", Address: "/run/api.sock", Host: "localhost", HTTP2: true},
	} {
		got, err := ParseUpstream(address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", address, diff)
		}
	}
	for _, address := range []string{"", "/", "127.0.0.1:3000", "localhost:3000", "h2://x", "unix:", "unix:/", "unix:api.sock", "unix://host/api.sock", "http://", "http://a:0", "http://a?", "http://u@a"} {
		if got, err := ParseUpstream(address); err == nil {
			t.Errorf("%q: %+v", address, got)
		}
	}
}

func TestHostname(t *testing.T) {
	for address, want := range map[string]string{"http://[::1]:80": "::1", "https://a.example": "a.example", "unix:/x": "localhost"} {
		if u, err := ParseUpstream(address); err != nil || u.Hostname() != want {
			t.Errorf("%s: %q, %v", address, u.Hostname(), err)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		in   Route
		want []string
	}{
		{Route{Upstream: "a"}, []string{"a"}},
		{Route{Upstreams: []string{"a", "b"}}, []string{"a", "b"}},
		{Route{Files: "f"}, nil},
	} {
		if diff := cmp.Diff(c.want, c.in.Addresses()); diff != "" {
			t.Error(diff)
		}
		if got := c.in.withDefaults(); (got.Connection != nil) != (c.want != nil) {
			t.Errorf("%+v: connection %v", c.in, got.Connection)
		}
	}
}

// What names files that must be right.
func TestConnectionFiles(t *testing.T) {
	dir := t.TempDir()
	file := filesIn(t, dir)
	cert, key := certificate(t)
	good := Connection{CAFile: file("ca", cert), CertFile: file("cert", cert), KeyFile: file("key", key), ServerName: "api.example.com"}
	c := embedded()
	c.Frontends[0].Routes[0].Upstream, c.Frontends[0].Routes[0].Connection = "https://127.0.0.1:8443", &good
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	want := `frontends[0].routes[0].connection.key_file: key_file cannot be read, name a PEM file that this user may read`
	good.KeyFile = filepath.Join(dir, "none")
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Error(err)
	}
	_, other := certificate(t)
	good.KeyFile = file("other", other)
	if c.Validate() == nil {
		t.Error("a key of another certificate passes")
	}
}

// Paths in a connection are relative to the file, and a zero response time-out is none.
func TestConnectionInFile(t *testing.T) {
	dir := t.TempDir()
	cert, _ := certificate(t)
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), []byte(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	text := `frontends:
  - url: https://app.example.com
    providers:
      - {issuer: "https://op.example.com/", client_id: app, client_secret: hunter2}
    routes:
      - {path: /, upstream: "https://api.example.com", connection: {ca_file: ca.pem, response_timeout: 0s, max_idle: "${env:IDLE}"}}
`
	c, err := Parse(filepath.Join(dir, "c.yaml"), []byte(text), Lookup{Env: func(string) (string, bool) { return "7", true }})
	if err != nil {
		t.Fatal(err)
	}
	got := c.Frontends[0].Routes[0].Connection
	if got.CAFile != filepath.Join(dir, "ca.pem") || *got.ResponseTimeout != 0 || got.MaxIdle != 7 || got.IdleTimeout.String() != "90s" {
		t.Errorf("%+v", got)
	}
}
