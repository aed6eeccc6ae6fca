package web

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"testing"
)

func TestInfoBelievesTrustedProxiesOnly(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, tc := range []struct {
		name, remote, client, scheme, host string
		header                             http.Header
		tls                                bool
	}{
		{name: "direct", remote: "203.0.113.7:1", client: "203.0.113.7", scheme: "http", host: "app.example"},
		{name: "direct tls", remote: "203.0.113.7:1", client: "203.0.113.7", scheme: "https", host: "app.example", tls: true},
		{
			name: "untrusted peer lies", remote: "203.0.113.7:1", client: "203.0.113.7", scheme: "http", host: "app.example",
			header: http.Header{"X-Forwarded-For": {"1.1.1.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"evil"}, "Forwarded": {"for=1.1.1.1;proto=https"}},
		},
		{
			name: "one hop", remote: "10.1.1.1:1", client: "203.0.113.9", scheme: "https", host: "app.example",
			header: http.Header{"X-Forwarded-For": {"203.0.113.9"}, "X-Forwarded-Proto": {"https"}},
		},
		{
			name: "client's own entries are left of the true one", remote: "10.1.1.1:1", client: "203.0.113.9", scheme: "http", host: "app.example",
			header: http.Header{"X-Forwarded-For": {"6.6.6.6, 203.0.113.9, 10.2.2.2"}},
		},
		{
			name: "two header lines", remote: "10.1.1.1:1", client: "203.0.113.9", scheme: "http", host: "app.example",
			header: http.Header{"X-Forwarded-For": {"6.6.6.6", "203.0.113.9"}},
		},
		{
			name: "nonsense stops the walk", remote: "10.1.1.1:1", client: "10.1.1.1", scheme: "http", host: "app.example",
			header: http.Header{"X-Forwarded-For": {"203.0.113.9, unknown"}, "X-Forwarded-Proto": {"evil"}},
		},
		{
			name: "proto of the nearest proxy", remote: "10.1.1.1:1", client: "10.1.1.1", scheme: "https", host: "b.example",
			header: http.Header{"X-Forwarded-Proto": {"http, https"}, "X-Forwarded-Host": {"a.example, B.example"}},
		},
		{
			name: "RFC 7239", remote: "[::1]:1", client: "2001:db8::1", scheme: "https", host: "app2.example",
			header: http.Header{"Forwarded": {`for="[2001:db8::1]:4711";proto=https;host=app2.example`}},
		},
		{name: "host is lower case", remote: "203.0.113.7:1", client: "203.0.113.7", scheme: "http", host: "app.example"},
	} {
		r := &http.Request{RemoteAddr: tc.remote, Host: "App.Example", Header: tc.header}
		if tc.header == nil {
			r.Header = http.Header{}
		}
		if tc.tls {
			r.TLS = &tls.ConnectionState{}
		}
		got := NewInfo(r, trusted)
		if got.Client.String() != tc.client || got.Scheme != tc.scheme || got.Host != tc.host {
			t.Errorf("%s: %v %s %s, want %s %s %s", tc.name, got.Client, got.Scheme, got.Host, tc.client, tc.scheme, tc.host)
		}
	}
}
