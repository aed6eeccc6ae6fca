package web

import (
	"net/http"
	"strings"
	"testing"
)

func TestDeviceOf(t *testing.T) {
	for _, tc := range []struct{ agent, brands, want string }{
		{"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "", "Firefox on Linux"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36", "", "Chrome on Windows"},
		{
			"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36",
			`"Brave";v="150", "Chromium";v="150", "Not;A=Brand";v="24"`, "Brave on Windows",
		},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36 Edg/150.0.0.0", "", "Edge on Windows"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15", "", "Safari on macOS"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1", "", "Safari on iPhone"},
		{"curl/8.0.1", "", "curl"},
		{"", "", ""},
		{strings.Repeat("x", 5000), "", ""},
		{"<script>alert(1)</script>\u202e", "", "<script>alert"},
	} {
		r := &http.Request{Header: http.Header{}}
		r.Header.Set("User-Agent", tc.agent)
		r.Header.Set("Sec-CH-UA", tc.brands)
		if got := DeviceOf(r); got != tc.want && (tc.want != "<script>alert" || len(got) > 60 || strings.Contains(got, "\u202e")) {
			t.Errorf("%q: %q, want %q", tc.agent, got, tc.want)
		}
	}
}
