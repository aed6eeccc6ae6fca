package config

import "testing"

func TestParseOrigin(t *testing.T) {
	for _, good := range []string{
		"https://app.example.com", "https://app.example.com:8443", "https://xn--fr-hja.example", "https://10.0.0.5", "https://[2001:db8::1]:444",
		"http://localhost", "http://localhost:8080", "http://app.localhost:3000", "http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:8080", "https://my_app.example",
	} {
		if _, f := parseOrigin(good); f != nil {
			t.Errorf("%s %s", good, f.problem)
		}
	}
	for _, bad := range []string{
		"", "app.example.com", "//app.example.com", "https:", "https://", "https:app", "ws://app.example.com", "javascript:alert(1)", "null", "*",
		"http://app.example.com", "http://10.0.0.5", "http://localhost.example.com", "http://127.0.0.1.example.com", "http://notlocalhost", "http://0.0.0.0", "http://2130706433",
		"https://app.example.com/", "https://app.example.com?", "https://app.example.com#", "https://app.example.com/a?b#c",
		"https://u@app.example.com", "https://u:p@app.example.com", "https://APP.example.com", "HTTPS://app.example.com",
		"https://app.example.com:443", "http://localhost:80", "https://app.example.com:", "https://app.example.com:0", "https://app.example.com:08443", "https://app.example.com:65536",
		"https://app..example.com", "https://.example.com", "https://app.example.com.", "https://für.example", "https://a b.example", "https://*.example.com", "https://[fe80::1%25eth0]",
		"https://app.example.com\n", " https://app.example.com", "https://app.example.com\\@evil.example",
	} {
		if _, f := parseOrigin(bad); f == nil {
			t.Errorf("%q is no origin", bad)
		}
	}
}

func TestSameSite(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"https://app.example.com", "https://admin.example.com", true},
		{"https://app.example.com", "https://example.com", true},
		{"https://app.example.com", "https://app.example.com:8443", true},
		{"https://app.example.com", "https://app.example.org", false},
		{"https://app.example.com", "https://notexample.com", false},
		{"https://10.0.0.5", "https://10.0.0.5:8443", true},
		{"https://10.0.0.5", "https://11.0.0.5", false},
		{"https://a", "https://b", false},
		{"http://localhost:8080", "http://localhost:5173", true},
		{"http://localhost:8080", "https://localhost:5173", false},
		{"http://localhost:8080", "http://127.0.0.1:5173", true},
	} {
		a, fa := parseOrigin(c.a)
		b, fb := parseOrigin(c.b)
		if fa != nil || fb != nil {
			t.Fatal(c.a, c.b, fa, fb)
		}
		if a.sameSite(b) != c.want || b.sameSite(a) != c.want {
			t.Errorf("%s and %s: want %v", c.a, c.b, c.want)
		}
	}
}

func TestReaches(t *testing.T) {
	for _, c := range []struct {
		listen, host string
		port         int
		want         bool
	}{
		{":8080", "localhost", 8080, true},
		{":8080", "127.0.0.1", 8080, true},
		{":8080", "::1", 8080, true},
		{":8080", "0.0.0.0", 8080, true},
		{":8080", "api.internal", 8080, false},
		{":8080", "localhost", 3000, false},
		{"0.0.0.0:8080", "localhost", 8080, true},
		{"127.0.0.1:8080", "localhost", 8080, true},
		{"10.0.0.5:8080", "10.0.0.5", 8080, true},
		{"10.0.0.5:8080", "127.0.0.1", 8080, false},
		{"127.0.0.1:8080", "10.0.0.5", 8080, false},
		{"", "127.0.0.1", 8080, false},
	} {
		if got := reaches(c.listen, c.host, c.port); got != c.want {
			t.Errorf("listener %s, request to %s:%d: %v", c.listen, c.host, c.port, got)
		}
	}
}
