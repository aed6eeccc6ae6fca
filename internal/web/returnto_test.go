package web

import (
	"net/url"
	"strings"
	"testing"
)

// hostile is the corpus of GO-PEERS.md section 4.2 and what follows from it: each tries to leave the origin, or to
// be read in two ways.
var hostile = []string{
	"", "evil.example", "//evil.example", "///evil.example", "////evil.example/", `/\evil.example`, `\\evil.example`,
	`/\/evil.example`, `///\;@evil.example`, "/%09/evil.example", "/%0a/evil.example", "/%0d%0a/evil.example",
	"/\t/evil.example", "/\n/evil.example", "/\v/evil.example", "/\f/evil.example", `/./\evil.example`,
	`/../\evil.example`, "/.//evil.example", "/%5cevil.example", "/%2f%2fevil.example", "/%252fevil.example",
	"/%2e%2e/x", "/a/../b", "/a/./b", "/a/..;/b", "https:///evil.example/%2e%2e", "https:evil.example",
	"http:a@0xd8.0x3a.0xd6.0xce", "https://ok.example@evil.example", `https://:@evil.example\@ok.example`,
	"https://ok.example.evil.example", "https://evilok.example", "https://ok.example:80%40evil.example/",
	"https://www.ok.example@evil/%2f..", "javascript:alert(1)", "javascript://%0aalert(1)", "//%5cjavascript:alert(1)",
	"data:text/html,x", "/\x00", "/%00", "/a\r\nSet-Cookie: x=y", "/a//b", "/%ff/%2F", "/x%", "/" + strings.Repeat("a", 64<<10),
	"/%7f", " /x", "/\u202e\\x", "?x", "#x", ".", "..", "*",
}

func TestReturnToRefusesTheCorpus(t *testing.T) {
	for _, s := range hostile {
		if got, ok := ReturnTo(s); ok {
			t.Errorf("ReturnTo(%q) = %q, want it refused", s, got)
		}
	}
}

func TestReturnToKeepsPlaces(t *testing.T) {
	for _, s := range []string{
		"/", "/orders", "/orders/17?tab=2&next=//x", "/#/orders/1", "/a%20b", "/%C3%BC", "/a?x=%2F%2Fevil", "/a;v=1/b", "/a:b@c",
		"/~x/(1)/*", "/search?q=a+b",
	} {
		got, ok := ReturnTo(s)
		if !ok || got != s {
			t.Errorf("ReturnTo(%q) = %q, %v, want it unchanged", s, got, ok)
		}
	}
}

func FuzzReturnTo(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Add("/orders?x=1#y")
	base, err := url.Parse("https://app.example")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ReturnTo(s)
		if !ok {
			return
		}
		u, err := base.Parse(got)
		if err != nil || u.Host != base.Host || u.Scheme != base.Scheme || u.User != nil {
			t.Fatalf("ReturnTo(%q) = %q leads to %v (%v)", s, got, u, err)
		}
		if got[0] != '/' || len(got) > 1 && (got[1] == '/' || got[1] == '\\') || strings.ContainsAny(got, "\r\n\t\x00\\") {
			t.Fatalf("ReturnTo(%q) = %q", s, got)
		}
		if again, ok := ReturnTo(got); !ok || again != got {
			t.Fatalf("ReturnTo is not stable: %q -> %q -> %q, %v", s, got, again, ok)
		}
	})
}
