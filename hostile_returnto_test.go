package cloakroom_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/cloakroom/cloakroom/internal/web"
)

// hostilePlaces is the return_to corpus of GO-PEERS.md section 4.2, and what its ideas make when they are combined.
func hostilePlaces() []string {
	leads := []string{
		"", "/", "//", "///", "////", `/\`, `\\`, `\/`, `/\/`, `//\`, "/\t/", "/\n/", "/\r\n/", "/\v/", "/\f/", "\t//", " //", "\x00//", "/./", "/.//", `/./\`, "/../", "/..//", `/../\`, "/;//", "/a/..//", "/%2e//", "/%2e%2e//",
		"/%09/", "/%0a/", "/%0d%0a/", "/%00/", "/%5c", "/%5c/", "/%2f", "/%2f%2f", "/%252f", "/%255c", "/%20/", "/?//", "/#//", "/a?", "/a#", "/\u2028/", "/\u00a0/", "/\u3000/", "\u2028//", "\ufeff//", "\uff0f\uff0f", "/\uff0f", "\u2215/", "/\u202e/",
		"https://", "https:", "https:/", "https:///", "HTTPS://", "http:", "//user@", "https://ok.example@", `https://ok.example\@`, "https://ok.example:80%40", "https://:@", "javascript:", "javascript://%0a", "java\tscript:", " javascript:", "\x01javascript:",
		"data:text/html,", "vbscript:", "blob:", "file:///", "mailto:", "view-source:", "about:", "/javascript:", "x:", ":", "@", ".", "..", "?", "#", "*", "&", ";",
	}
	hosts := []string{
		"evil.example", "evil.example/", "evil.example/%2e%2e", "evil.example\\", "evil.example?x", "evil.example#x", "evil.example:443", "evil\u3002example", "evil\uff0eexample", "ev\u0131l.example", "xn--evl-6la.example", "evil.example.",
		"0xd8.0x3a.0xd6.0xce", "3627734734", "0330.072.0326.0316", "[::ffff:216.58.214.206]", "[::1]", "a:b@evil.example", "@evil.example", "ok.example@evil.example", "ok.example.evil.example", "evil.example\r\nSet-Cookie: x=y", "evil.example\x00", "evil.example%00",
		"alert(1)", ";@evil.example", `\;@evil.example`, "%40evil.example", "evil.example/" + strings.Repeat("a", 3000),
	}
	var all []string
	for _, lead := range leads {
		for _, host := range hosts {
			all = append(all, lead+host)
		}
	}
	return append(all, "", "/"+strings.Repeat("a", 64<<10), "/"+strings.Repeat("../", 600), "/%", "/%2", "/%zz", "/\xff", "/\xc0\xaf/evil.example", "/a/b?next=//evil.example", "/a?x=\\\\evil.example", "/#\\\\evil.example")
}

// stays reports whether a browser at the origin that is sent to location stays there, by the rules of the URL standard:
// spaces and control characters at the ends and tabs and line breaks anywhere are nothing, a backslash is a slash.
func stays(location string) bool {
	s := strings.TrimFunc(location, func(c rune) bool { return c <= 0x20 })
	s = strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(s)
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i]
	}
	s = strings.ReplaceAll(s, `\`, "/")
	return strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//")
}

func TestHostilePlacesStayOnTheOrigin(t *testing.T) {
	var taken []string
	places := hostilePlaces()
	for _, s := range places {
		to, ok := web.ReturnTo(s)
		if !ok {
			continue
		}
		taken = append(taken, to)
		if !stays(to) || strings.ContainsAny(to, "\r\n\t\x00") {
			t.Errorf("%q leads to %q", s, to)
		}
	}
	if len(places) < 2000 || len(taken) < 50 {
		t.Errorf("%d places, %d taken: this tests nothing", len(places), len(taken))
	}
	t.Logf("%d places, %d taken", len(places), len(taken))
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("skipped: needs node, whose URL is a browser's")
	}
	in, err := json.Marshal(taken)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "-e", `const all = JSON.parse(require('fs').readFileSync(0));
		console.log(JSON.stringify(all.filter((s) => { try { return new URL(s, 'https://app.example/auth/login').origin !== 'https://app.example'; } catch { return false; } })))`)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil || strings.TrimSpace(string(out)) != "[]" {
		t.Errorf("node: %v, these leave the origin: %s", err, out)
	}
}

// TestHostilePlacesAtEveryDoor takes a part of them to each address that knows a return_to.
func TestHostilePlacesAtEveryDoor(t *testing.T) {
	r := newRig(t, nil)
	b := r.browser()
	places := hostilePlaces()
	form := []string{"Content-Type", "application/x-www-form-urlencoded", "Origin", r.url, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Accept", "text/html"}
	check := func(a answer, door, place string) {
		t.Helper()
		to := a.Header.Get("Location")
		if a.StatusCode >= 500 || strings.Contains(to, "evil") && !stays(to) && !strings.HasPrefix(to, r.op.URL+"/") || len(a.Header["X-Injected"]) > 0 || a.Header.Get("Set-Cookie") == "x=y" {
			t.Errorf("%s with %q: %d %q %.200s", door, place, a.StatusCode, to, a.body)
		}
	}
	for i, place := range places {
		if len(place) > 8000 {
			continue
		}
		query := url.Values{"return_to": {place}}.Encode()
		if i%10 == 0 {
			check(b.navigate("/auth/login?"+query), "the login page", place)
			a := b.navigate("/auth/login/redirect?" + query)
			check(a, "the redirect", place)
			if _, ok := web.ReturnTo(place); ok != (a.StatusCode == 302) && place != "" {
				t.Errorf("the redirect with %q: %d %s", place, a.StatusCode, a.Header.Get("Location"))
			}
		}
		if i%40 == 0 {
			fields := url.Values{"username": {"alice"}, "password": {password}, "return_to": {place}}
			a := b.do(b.request("POST", "/auth/login", strings.NewReader(fields.Encode()), form...))
			check(a, "the form", place)
			if to := a.Header.Get("Location"); a.StatusCode != 303 || !stays(to) {
				t.Errorf("the form with %q: %d %q %.300s", place, a.StatusCode, to, a.body)
			}
			a = b.do(b.request("POST", "/auth/logout", strings.NewReader(query), form...))
			check(a, "the logout", place)
			if to := a.Header.Get("Location"); a.StatusCode != 303 || !stays(to) && !strings.HasPrefix(to, r.op.URL+"/") {
				t.Errorf("the logout with %q: %d %q %.300s", place, a.StatusCode, to, a.body)
			}
		}
	}
}
