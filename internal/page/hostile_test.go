package page

import (
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

var hostile = []string{
	`"><script>alert(1)</script>`,
	`'><img src=x onerror=alert(1)>`,
	`" onfocus="alert(1)" autofocus x="`,
	"` onfocus=alert(1) x=`",
	`</title></head><body onload=alert(1)>`,
	`--><svg onload=alert(1)>`,
	`{{.}}{{template "layout"}}`,
	`&lt;b&gt;&#60;b&#62;&quot;`,
	`javascript:alert(1)`,
	"a\r\nSet-Cookie: x=1\r\n\r\n<b>",
	"\u202e\u2066evil",
}

// Whatever the data is, the page has the elements and attributes that it has with tame data.
func TestHostileDataChangesNoStructure(t *testing.T) {
	tame := map[string]string{}
	for name, show := range states("ann", "/auth/x") {
		_, all := read(t, show)
		tame[name] = skeleton(all)
	}
	check := func(fatalf func(string, ...any), s string) {
		for name, show := range states(s, s) {
			_, all := read(t, show)
			if got := skeleton(all); got != tame[name] {
				fatalf("%s with %q:\n%s\nwant\n%s", name, s, got, tame[name])
			}
		}
	}
	for _, s := range hostile {
		check(t.Fatalf, s)
	}
	plain := rapid.StringOfN(rapid.RuneFrom([]rune(`"'<>&=/`+"`"), unicode.L, unicode.P, unicode.S, unicode.N, unicode.Zs), 1, 40, -1)
	piece := rapid.OneOf(rapid.SampledFrom(hostile), plain)
	rapid.Check(t, func(rt *rapid.T) {
		check(rt.Fatalf, strings.Join(rapid.SliceOfN(piece, 1, 4).Draw(rt, "pieces"), ""))
	})
}

// Escaping must not change what arrives, either: a user name with quotes comes back as it was typed.
func TestTextArrives(t *testing.T) {
	for _, s := range hostile {
		s = strings.ReplaceAll(s, "\r\n", "") // an XML reader joins them to one
		_, login := read(t, states(s, "/x")["login wrong"])
		if got := byID(login, "username").attrs["value"]; got != s {
			t.Errorf("user name %q, want %q", got, s)
		}
		_, confirm := read(t, states(s, "/x")["confirm"])
		for _, in := range find(confirm, "input") {
			if in.attrs["value"] != s {
				t.Errorf("token %q, want %q", in.attrs["value"], s)
			}
		}
	}
}

// An address that would run as a script, or leave through another scheme, leads nowhere.
func TestHostileAddresses(t *testing.T) {
	bad := []string{
		"javascript:alert(1)", "JavaScript:alert(1)", "java\tscript:alert(1)", " javascript:alert(1)",
		"\x01javascript:alert(1)", "data:text/html,<script>alert(1)</script>", "vbscript:x", "blob:x", "javascript&colon;alert(1)",
	}
	for _, u := range bad {
		for name, show := range states("ann", u) {
			_, all := read(t, show)
			for _, e := range all {
				for _, attr := range []string{"href", "action", "src", "formaction", "content"} {
					harmless(t, name, attr, e.attrs[attr])
				}
			}
		}
	}
}

func harmless(t *testing.T, page, attr, value string) {
	t.Helper()
	if attr == "content" {
		var ok bool
		if _, value, ok = strings.Cut(value, "url="); !ok {
			return
		}
	}
	clean := strings.Map(func(r rune) rune { // what a URL parser skips
		if r <= ' ' || r == unicode.ReplacementChar {
			return -1
		}
		return unicode.ToLower(r)
	}, value)
	for _, scheme := range []string{"javascript:", "data:", "vbscript:", "blob:"} {
		if strings.HasPrefix(clean, scheme) {
			t.Errorf("%s: %s=%q", page, attr, value)
		}
	}
}

// The address of a refresh must stay one address: quotes and separators are where its parser stops or starts.
func TestLeaveAddress(t *testing.T) {
	for in, want := range map[string]string{
		"/auth/logout/continue?t=a&b=c":  "0; url=/auth/logout/continue?t=a&b=c",
		"https://id.example.com/end?x=y": "0; url=https://id.example.com/end?x=y",
		"javascript:alert(1)":            "0; url=#ZgotmplZ",
		`'javascript:alert(1)'`:          "0; url=#ZgotmplZ",
		`"/x"; url=https://evil.example`: "0; url=%22/x%22;%20url=https://evil.example",
		"/it's fine":                     "0; url=/it%27s%20fine",
	} {
		_, all := read(t, states("ann", in)["leave"])
		for _, e := range find(all, "meta") {
			if e.attrs["http-equiv"] == "refresh" && e.attrs["content"] != want {
				t.Errorf("%q: %q, want %q", in, e.attrs["content"], want)
			}
		}
	}
}
