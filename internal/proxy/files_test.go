package proxy

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The names that bundlers make, and names that only look like one.
func TestHashedNames(t *testing.T) {
	for name, want := range map[string]bool{
		// Vite, Rollup
		"index-DiwrgTda.js": true, "assets/index-B1x2y3z4.css": true, "assets/logo-BqzNf1uD.svg": true, "assets/vendor-C8w3Uy-2.js": true,
		"assets/inter-latin-400-normal-C38fXH4l.woff2": true, "assets/react-CHdo91hT.svg": true,
		// webpack, Create React App, Vue CLI
		"main.8d2b1e77.css": true, "static/js/main.8d2b1e77.js": true, "static/js/787.28cb0dcd.chunk.js": true,
		"static/media/logo.6ce24c58023cc2f8fd88fe9d219db6c6.svg": true, "js/chunk-vendors.4f9a21c0.js": true, "img/logo.82b9c7a5.png": true,
		"app-4f9a21c0.js": true, "8d2b1e77a0b1c2d3e4f5.js": true,
		// Angular and esbuild
		"main-5QVTDKF5.js": true, "chunk-QRSTUVWX.js": true, "polyfills-FFHMD2TL.js": true, "styles-5INURTSO.css": true, "media/inter-XYZ23ABC.woff2": true,
		// Next
		"_next/static/chunks/1234-abcdef0123456789.js": true, "_next/static/chunks/main-app-4f9a21c0aabbccdd.js": true,
		"_next/static/media/c9a5bc6a7c948fb0-s.p.woff2": true, "_next/static/Xk2o1fTq/_buildManifest.js": true,
		// Astro, SvelteKit, Nuxt, Parcel, Gatsby, Rails, Django, Hugo
		"_astro/hoisted.B1x2y3z4.js": true, "_astro/hero.B1x2y3z4_Z1kq2W.webp": true, "_app/immutable/chunks/entry.js": true, "_nuxt/B7aRwx3K.js": true,
		"index.4f9a21c0.js": true, "component---src-pages-index-js-0d1f0c8e4b5a6f7a8b9c.js": true,
		"application-27e20196a850d41d8cd98f00b204e9800998ecf8427e0011223344556677.js": true, "base.27e20196a850.css": true, "main.min.27e20196a85027e20196a85027e20196.css": true,

		"jquery-3.7.1.min.js": false, "my-component.js": false, "bootstrap-icons.css": false, "2024-11-report.pdf": false, "index.html": false,
		"app.js": false, "photo-20241115.jpg": false, "report-12345678.js": false, "book-CHAPTER2.svg": false, "logo-VERTICAL.svg": false, "lib-MINIFIED.js": false,
		"views-MainPage.js": false, "views-UserList.js": false, "views-HttpPost.js": false, "views-AppShell.js": false, "icon-TextArea.svg": false, "x-Settings.js": false,
		"views-Children.js": false, "views-LineItem.js": false, "x-CardGrid.css": false, "x-userList.js": false, "assets/icon-Web3Card.svg": false, "lib-i18nText.js": false,
		"lib-oauth2ui.js": false, "three-r160.min.js": false, "d3.v7.min.js": false, "bootstrap.bundle.min.js": false, "font-awesome-6.5.1.css": false, "es2015-polyfills.js": false,
		"inter-latin-400-normal.woff2": false, "Roboto-Regular.woff2": false, "Roboto-BoldItal.woff2": false, "OpenSans-SemiBold.ttf": false, "favicon-32x32.png": false, "icon-192x192.png": false, "icon-1024x512.png": false,
		"img/f47ac10b-58cc-4372-a567-0e02b2c3d479.png": false, "user-f47ac10b-58cc-4372-a567-0e02b2c3d479.png": false, "d41d8cd98f00b204e9800998ecf8427e.png": false,
		"data.8d2b1e77.json": false, "page-8d2b1e77.html": false, "main.8d2b1e77.js.map": false, "assets/index-DiwrgTda.js.map": false,
		"a-v1-Beta2.js": false, "x-mp3-Song1.png": false,
		"sw.js": false, "service-worker.js": false, "sw-4f9a21c0.js": false, "ngsw-worker.js": false, "service-worker.4f9a21c0.js": false, "firebase-messaging-sw.js": false,
		".well-known/a-4f9a21c0.js": false, "canvaskit.wasm": false, "_nuxt/builds/latest.json": false,
	} {
		if got := immutable(name); got != want {
			t.Errorf("%s: immutable %t, want %t", name, got, want)
		}
	}
}

func TestTypes(t *testing.T) {
	for name, want := range map[string]string{
		"a.js": "text/javascript; charset=utf-8", "a.MJS": "text/javascript; charset=utf-8", "a.wasm": "application/wasm", "manifest.webmanifest": "application/manifest+json",
		"a.avif": "image/avif", "a.webp": "image/webp", "a.woff2": "font/woff2", "a.js.map": "application/json", "a.svg": "image/svg+xml", "a": "application/octet-stream",
		"apple-app-site-association": "application/octet-stream", "a.html": "text/html; charset=utf-8", "favicon.ico": "image/x-icon",
	} {
		if got := typeOf(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	for name, kind := range types {
		if _, _, err := mime.ParseMediaType(kind); err != nil || name != strings.ToLower(name) || name[0] != '.' {
			t.Errorf("%s: %s %v", name, kind, err)
		}
	}
}

func TestAcceptEncoding(t *testing.T) {
	all := []representation{{encoding: "", size: 100}, {encoding: "zstd", size: 31}, {encoding: "br", size: 30}, {encoding: "gzip", size: 40}}
	for _, tc := range []struct{ header, want string }{
		{"", ""},
		{"gzip, deflate, br, zstd", "br"},
		{"gzip", "gzip"},
		{"x-gzip", "gzip"},
		{"GZIP", "gzip"},
		{"br;q=0.5, gzip", "gzip"},
		{"br;q=0.5,gzip;q=0.501", "gzip"},
		{"gzip;q=0", ""},
		{"gzip;q=0.000", ""},
		{"gzip ; q=1.000", "gzip"},
		{"gzip;Q=0.1", "gzip"},
		{"*", "br"},
		{"*;q=0.1", "br"},
		{"*, br;q=0", "zstd"},
		{"*;q=0", ""},
		{"*;q=0, gzip;q=0.1", "gzip"},
		{"identity", ""},
		{"identity, gzip;q=0.9", ""},
		{"identity;q=0.5, gzip;q=0.5", "gzip"},
		{"identity;q=0, gzip;q=0.001", "gzip"},
		{"identity;q=0", ""},
		{"identity;q=0.1, *;q=0.2", "br"},
		{"deflate", ""},
		{"gzip;q=2", ""},
		{"gzip;q=1.001", ""},
		{"gzip;q=0.0001", ""},
		{"gzip;q=-1", ""},
		{"gzip;q=a", ""},
		{"gzip;level=9", ""},
		{"gzip;q=.5", ""},
		{", ,gzip,", "gzip"},
		{";q=1", ""},
		{"br;q=1.5, gzip;q=0.2", "gzip"},
		{"bro, gzipp", ""},
		{"gzip;q=1.", "gzip"},
		{"identity;q=1, *;q=0", ""},
	} {
		if got := accepted([]string{tc.header}).best(all); got.encoding != tc.want {
			t.Errorf("%q: %q, want %q", tc.header, got.encoding, tc.want)
		}
	}
	if got := accepted([]string{"gzip;q=0.3", "zstd"}).best(all); got.encoding != "zstd" {
		t.Errorf("two lines: %q", got.encoding)
	}
	if got := accepted(nil).best(all); got.encoding != "" {
		t.Errorf("no header: %q", got.encoding)
	}
	if n := testing.AllocsPerRun(100, func() { accepted([]string{"gzip, deflate, br;q=0.9, zstd"}).best(all) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// site is a folder of files for a test.
type site struct {
	t   testing.TB
	dir string
	*files
}

func newSite(t testing.TB, content map[string]string) *site {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "app")
	fill(t, dir, content)
	f, err := newFiles(dir, "", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	return &site{t, dir, f}
}

func fill(t testing.TB, dir string, content map[string]string) {
	t.Helper()
	for name, body := range content {
		put(t, filepath.Join(dir, name), body)
	}
}

func put(t testing.TB, name, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

// get asks for a target with headers in pairs.
func (s *site) get(target string, headers ...string) *httptest.ResponseRecorder {
	return s.ask("GET", target, headers...)
}

func (s *site) ask(method, target string, headers ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	path, problem := CanonicalPath(r)
	if problem != nil {
		s.t.Fatal(problem)
	}
	w := httptest.NewRecorder()
	s.serve(w, r, path, 0)
	return w
}

// What gets the app, what gets a file, and what gets 404.
func TestFallback(t *testing.T) {
	s := newSite(t, map[string]string{
		"index.html": "app", "a.js": "js", "docs/index.html": "docs", "docs/x.txt": "x", "empty/x.txt": "x", "data": "data",
		".well-known/security.txt": "security", ".git/config": "secret", "sub/.env": "secret", "sub/.well-known/x.txt": "secret",
	})
	navigation := []string{"Sec-Fetch-Dest", "document", "Sec-Fetch-Mode", "navigate", "Accept", "text/html,*/*;q=0.8"}
	old := []string{"Accept", "text/html,application/xhtml+xml,*/*;q=0.8"}
	script := []string{"Sec-Fetch-Dest", "script", "Accept", "*/*"}
	fetch := []string{"Sec-Fetch-Dest", "empty", "Accept", "*/*"}
	curl := []string{"Accept", "*/*"}
	json := []string{"Accept", "application/json"}
	for _, tc := range []struct {
		path    string
		headers []string
		status  int
		body    string
	}{
		{"/", navigation, 200, "app"},
		{"/", curl, 200, "app"},
		{"/", fetch, 200, "app"},
		{"/index.html", script, 200, "app"},
		{"/a.js", navigation, 200, "js"},
		{"/a.js", script, 200, "js"},
		{"/data", fetch, 200, "data"},
		{"/users/7", navigation, 200, "app"},
		{"/users/7", old, 200, "app"},
		{"/users/7", curl, 200, "app"},
		{"/users/7", nil, 200, "app"},
		{"/users/7", script, 404, ""},
		{"/users/7", fetch, 404, ""},
		{"/users/7", json, 404, ""},
		{"/users/7/", navigation, 200, "app"},
		{"/users/7", []string{"Sec-Fetch-Dest", "empty", "Accept", "text/html"}, 200, "app"},
		{"/users/7", []string{"Sec-Fetch-Dest", "iframe"}, 200, "app"},
		{"/users/7", []string{"Sec-Fetch-Dest", "style"}, 404, ""},
		{"/users/7", []string{"Sec-Fetch-Dest", "image"}, 404, ""},
		{"/users/7", []string{"Sec-Fetch-Dest", "font"}, 404, ""},
		{"/users/7", []string{"Sec-Fetch-Dest", "worker"}, 404, ""},
		{"/users/7", []string{"Sec-Fetch-Dest", "serviceworker"}, 404, ""},
		{"/users/7", []string{"Sec-Fetch-Dest", "manifest"}, 404, ""},
		{"/users/jane.doe", navigation, 200, "app"},
		{"/users/jane.doe", old, 200, "app"},
		{"/users/jane.doe", script, 404, ""},
		{"/users/jane.doe", curl, 404, ""},
		{"/v1.2", navigation, 200, "app"},
		{"/assets/x.js", navigation, 404, ""},
		{"/assets/x.js", script, 404, ""},
		{"/img/x.png", old, 404, ""},
		{"/x.JSON", navigation, 404, ""},
		{"/x.html", navigation, 404, ""},
		{"/data.json", fetch, 404, ""},
		{"/users/index.html", navigation, 404, ""},
		{"/a.js/", navigation, 404, ""},
		{"/a.js/b", navigation, 200, "app"},
		{"/docs/", navigation, 200, "docs"},
		{"/docs", navigation, 308, ""},
		{"/docs", script, 308, ""},
		{"/empty", navigation, 200, "app"},
		{"/empty/", navigation, 200, "app"},
		{"/empty", fetch, 404, ""},
		{"/.well-known/security.txt", curl, 200, "security"},
		{"/.well-known/change-password", navigation, 404, ""},
		{"/.well-known", navigation, 200, "app"},
		{"/.git/config", navigation, 404, ""},
		{"/.git", navigation, 404, ""},
		{"/.env", curl, 404, ""},
		{"/sub/.env", navigation, 404, ""},
		{"/sub/.well-known/x.txt", navigation, 404, ""},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			res := s.ask(method, tc.path, tc.headers...)
			want := tc.body
			if method == "HEAD" {
				want = ""
			}
			if res.Code != tc.status || tc.status == 200 && (res.Body.String() != want || res.Header().Get("Content-Length") != fmt.Sprint(len(tc.body))) {
				t.Errorf("%s %s %v: %d %q, want %d %q", method, tc.path, tc.headers, res.Code, res.Body, tc.status, tc.body)
			}
			if tc.status == 404 && strings.Contains(res.Header().Get("Content-Type"), "html") {
				t.Errorf("%s: HTML", tc.path)
			}
		}
	}
	if res := s.get("/docs?a=1&b=//x", "Accept", "text/html"); res.Header().Get("Location") != "/docs/?a=1&b=//x" || !strings.Contains(res.Header().Get("Cache-Control"), "no-store") {
		t.Errorf("%v", res.Header())
	}
	if res := s.ask("POST", "/"); res.Code != 405 || res.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d", res.Code)
	}
	put(t, filepath.Join(s.dir, "404.html"), "no such page")
	res := s.get("/x.png", old...)
	if res.Code != 404 || res.Body.String() != "no such page" || res.Header().Get("Etag") != "" || res.Header().Get("Content-Security-Policy") == "" || res.Header().Get("Cache-Control") != "no-cache, no-store" {
		t.Errorf("404.html: %d %q %v", res.Code, res.Body, res.Header())
	}
	if res := s.get("/x.png", "Accept", "text/html", "If-None-Match", "*", "Range", "bytes=0-1"); res.Code != 404 || res.Body.String() != "no such page" {
		t.Errorf("404.html under a condition: %d %q", res.Code, res.Body)
	}
	if res := s.get("/x.png", script...); res.Code != 404 || strings.Contains(res.Body.String(), "such page") {
		t.Errorf("a script gets 404.html: %d %q", res.Code, res.Body)
	}
}

// The route's prefix is no part of the name, but of the redirect.
func TestPrefix(t *testing.T) {
	s := newSite(t, map[string]string{"index.html": "app", "docs/index.html": "docs"})
	r := httptest.NewRequest("GET", "/app/docs", nil)
	w := httptest.NewRecorder()
	s.serve(w, r, "/app/docs", len("/app"))
	if w.Code != 308 || w.Header().Get("Location") != "/app/docs/" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestVariants(t *testing.T) {
	text := strings.Repeat("text ", 1000)
	s := newSite(t, map[string]string{
		"index.html": "app", "a.js": text, "a.js.br": "br", "a.js.zst": "zstd", "a.js.gz": "gzip", "b.js": text, "b.js.br": "br", "c.js": text, "small.js": "small",
		"large.css": "x", "large.css.gz": "larger than the file", "old.js": text, "old.js.br": "old", "p.png": text,
	})
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(s.dir, "old.js.br"), past, past); err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{}
	for _, tc := range []struct{ path, accept, encoding, body, vary string }{
		{"/a.js", "gzip, br, zstd", "br", "br", "Accept-Encoding"},
		{"/a.js", "gzip, zstd", "zstd", "zstd", "Accept-Encoding"},
		{"/a.js", "gzip", "gzip", "gzip", "Accept-Encoding"},
		{"/a.js", "", "", text, "Accept-Encoding"},
		{"/b.js", "br, gzip", "br", "br", "Accept-Encoding"},
		{"/c.js", "br", "", text, "Accept-Encoding"},
		{"/small.js", "gzip", "", "small", ""},
		{"/large.css", "gzip", "", "x", ""},
		{"/old.js", "br", "", text, "Accept-Encoding"},
		{"/p.png", "gzip", "", text, ""},
		{"/a.js.gz", "gzip", "", "gzip", ""},
	} {
		res := s.get(tc.path, "Accept-Encoding", tc.accept)
		h := res.Header()
		if res.Code != 200 || h.Get("Content-Encoding") != tc.encoding || res.Body.String() != tc.body || h.Get("Vary") != tc.vary || h.Get("Content-Length") != fmt.Sprint(len(tc.body)) {
			t.Errorf("%s %q: %d %.20q %v", tc.path, tc.accept, res.Code, res.Body, h)
		}
		tag := h.Get("Etag")
		if other, ok := tags[tag]; ok && other != tc.body || !strings.HasPrefix(tag, `"`) {
			t.Errorf("%s %q: the tag %s is weak or of another", tc.path, tc.accept, tag)
		}
		tags[tag] = tc.body
		if again := s.get(tc.path, "Accept-Encoding", tc.accept, "If-None-Match", tag); again.Code != 304 || again.Header().Get("Vary") != tc.vary || again.Header().Get("Etag") != tag {
			t.Errorf("%s: %d", tc.path, again.Code)
		}
	}
	for _, path := range []string{"/c.js", "/b.js"} { // compressed by us, once
		res := s.get(path, "Accept-Encoding", "gzip")
		z, err := gzip.NewReader(res.Body)
		if err != nil || res.Header().Get("Content-Encoding") != "gzip" || res.Header().Get("Content-Length") == "" {
			t.Fatalf("%s: %v %v", path, err, res.Header())
		}
		if body, err := io.ReadAll(z); err != nil || string(body) != text {
			t.Errorf("%s: %v", path, err)
		}
		if other := s.get(path); other.Header().Get("Etag") == res.Header().Get("Etag") {
			t.Errorf("%s: one tag for two", path)
		}
	}
	s.folder.packing.Store("c.js", true) // as if another request was at it: nobody waits
	s.folder.contents.InvalidateAll()
	if res := s.get("/c.js", "Accept-Encoding", "gzip"); res.Header().Get("Content-Encoding") != "" || res.Body.String() != text {
		t.Errorf("%v", res.Header())
	}
}

func TestConditionsAndRanges(t *testing.T) {
	huge := strings.Repeat("0123456789", maxHeld/10+1)
	s := newSite(t, map[string]string{"index.html": "app", "a.txt": "0123456789", "a.txt.br": "abcdef", "huge.bin": huge, "empty.txt": ""})
	tag, brTag := s.get("/a.txt").Header().Get("Etag"), s.get("/a.txt", "Accept-Encoding", "br").Header().Get("Etag")
	for _, tc := range []struct {
		headers []string
		status  int
		body    string
		ranged  string
	}{
		{[]string{"If-None-Match", tag}, 304, "", ""},
		{[]string{"If-None-Match", "W/" + tag}, 304, "", ""},
		{[]string{"If-None-Match", `"x", ` + tag}, 304, "", ""},
		{[]string{"If-None-Match", "*"}, 304, "", ""},
		{[]string{"If-None-Match", `"x"`}, 200, "0123456789", ""},
		{[]string{"If-None-Match", brTag}, 200, "0123456789", ""},
		{[]string{"If-None-Match", brTag, "Accept-Encoding", "br"}, 304, "", ""},
		{[]string{"If-None-Match", `"x"`, "Accept-Encoding", "br"}, 200, "abcdef", ""},
		{[]string{"If-Match", tag}, 200, "0123456789", ""},
		{[]string{"If-Match", "*"}, 200, "0123456789", ""},
		{[]string{"If-Match", `"x"`}, 412, "", ""},
		{[]string{"If-Match", "W/" + tag}, 412, "", ""},
		{[]string{"If-Match", `"x"`, "Accept-Encoding", "br"}, 412, "", ""},
		{[]string{"If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"}, 200, "0123456789", ""},
		{[]string{"If-Unmodified-Since", "Fri, 01 Jan 1999 00:00:00 GMT"}, 200, "0123456789", ""},
		{[]string{"Range", "bytes=2-4"}, 206, "234", "bytes 2-4/10"},
		{[]string{"Range", "bytes=-3"}, 206, "789", "bytes 7-9/10"},
		{[]string{"Range", "bytes=8-"}, 206, "89", "bytes 8-9/10"},
		{[]string{"Range", "bytes=2-4", "Accept-Encoding", "br"}, 206, "cde", "bytes 2-4/6"},
		{[]string{"Range", "bytes=20-"}, 416, "", "bytes */10"},
		{[]string{"Range", "bytes=20-", "Accept-Encoding", "br"}, 416, "", "bytes */6"},
		{[]string{"Range", "lines=1-2"}, 416, "", ""},
		{[]string{"Range", "bytes=2-4", "If-Range", tag}, 206, "234", "bytes 2-4/10"},
		{[]string{"Range", "bytes=2-4", "If-Range", brTag}, 200, "0123456789", ""},
		{[]string{"Range", "bytes=2-4", "If-Range", brTag, "Accept-Encoding", "br"}, 206, "cde", "bytes 2-4/6"},
		{[]string{"Range", "bytes=2-4", "If-Range", "Fri, 01 Jan 2100 00:00:00 GMT"}, 200, "0123456789", ""},
		{[]string{"Range", "bytes=2-4", "If-Range", "W/" + tag}, 200, "0123456789", ""},
		{[]string{"Range", "bytes=2-4", "If-None-Match", tag}, 304, "", ""},
	} {
		res := s.get("/a.txt", tc.headers...)
		if res.Code != tc.status || res.Code < 300 && res.Body.String() != tc.body || res.Header().Get("Content-Range") != tc.ranged {
			t.Errorf("%v: %d %q %v", tc.headers, res.Code, res.Body, res.Header())
		}
		if n := res.Header().Get("Content-Length"); res.Code < 300 && n != fmt.Sprint(len(tc.body)) || res.Code == 412 && n != "0" {
			t.Errorf("%v: length %q", tc.headers, n)
		}
	}
	for path, body := range map[string]string{"/a.txt": "0123456789", "/huge.bin": huge} {
		res := s.get(path, "Range", "bytes=1-2,5-6")
		kind, params, err := mime.ParseMediaType(res.Header().Get("Content-Type"))
		if res.Code != 206 && path == "/huge.bin" || err != nil {
			t.Fatalf("%s: %d %v", path, res.Code, err)
		}
		if kind == "multipart/byteranges" {
			m := multipart.NewReader(res.Body, params["boundary"])
			for _, want := range []string{body[1:3], body[5:7]} {
				part, err := m.NextPart()
				if err != nil {
					t.Fatal(err)
				}
				if got, _ := io.ReadAll(part); string(got) != want {
					t.Errorf("%s: %q", path, got)
				}
			}
		}
		if res := s.get(path, "Range", "bytes=5-7"); res.Body.String() != body[5:8] {
			t.Errorf("%s: %q", path, res.Body)
		}
		if res := s.get(path); res.Body.String() != body || res.Header().Get("Content-Length") != fmt.Sprint(len(body)) || res.Header().Get("Accept-Ranges") != "bytes" {
			t.Errorf("%s: %d %v", path, res.Body.Len(), res.Header())
		}
		if res := s.ask("HEAD", path); res.Body.Len() != 0 || res.Header().Get("Content-Length") != fmt.Sprint(len(body)) {
			t.Errorf("HEAD %s: %d %v", path, res.Body.Len(), res.Header())
		}
		if res := s.ask("HEAD", path, "Range", "bytes=1-2"); res.Body.Len() != 0 {
			t.Errorf("HEAD %s of a part: %d", path, res.Body.Len())
		}
	}
	if res := s.get("/empty.txt"); res.Code != 200 || res.Body.Len() != 0 || res.Header().Get("Content-Length") != "0" {
		t.Errorf("empty: %d %v", res.Code, res.Header())
	}
}

func TestFileHeaders(t *testing.T) {
	for _, tc := range []struct{ override, policy, frame string }{
		{"", "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; frame-src 'self' https://op.example; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'", "DENY"},
		{"default-src 'self'", "default-src 'self'; frame-ancestors 'none'", "DENY"},
		{"default-src 'self' ; ", "default-src 'self'; frame-ancestors 'none'", "DENY"},
		{"frame-ancestors 'none'", "frame-ancestors 'none'", "DENY"},
		{"img-src *; Frame-Ancestors 'SELF'", "img-src *; Frame-Ancestors 'SELF'", "SAMEORIGIN"},
		{"frame-ancestors 'self' https://a.example", "frame-ancestors 'self' https://a.example", ""},
		{"frame-ancestors", "frame-ancestors", "DENY"},
	} {
		if policy, frame := policies(tc.override, []string{"https://op.example"}); policy != tc.policy || frame != tc.frame {
			t.Errorf("%q: %q %q", tc.override, policy, frame)
		}
	}
	s := newSite(t, map[string]string{"index.html": "app", "a.svg": "<svg/>", "a.js": "js", "a-4f9a21c0.js": "js", "sw.js": "sw"})
	for path, document := range map[string]bool{"/": true, "/a.svg": true, "/a.js": false} {
		h := s.get(path).Header()
		if (h.Get("Content-Security-Policy") != "") != document || (h.Get("X-Frame-Options") == "DENY") != document || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("Referrer-Policy") != "same-origin" || h.Get("Cross-Origin-Resource-Policy") != "same-origin" || h.Get("Last-Modified") != "" {
			t.Errorf("%s: %v", path, h)
		}
	}
	for _, private := range []bool{false, true} { // what needs a session is nothing for shared caches
		s.private = private
		for path, want := range map[string][2]string{
			"/":              {"no-cache, no-store", "no-cache, no-store"},
			"/a.js":          {"no-cache", "private, no-cache"},
			"/sw.js":         {"no-cache", "private, no-cache"},
			"/a-4f9a21c0.js": {"public, max-age=31536000, immutable", "private, max-age=31536000, immutable"},
		} {
			i := 0
			if private {
				i = 1
			}
			if got := s.get(path).Header().Get("Cache-Control"); got != want[i] {
				t.Errorf("%s private %t: %q", path, private, got)
			}
		}
	}
}

// Links that lead out, and what is no file, are not there; links inside are.
func TestOddFiles(t *testing.T) {
	s := newSite(t, map[string]string{"index.html": "app", "real.txt": "real", "dir.txt/x": "x"})
	outside := t.TempDir()
	put(t, filepath.Join(outside, "secret.txt"), "secret")
	for name, to := range map[string]string{"out.txt": filepath.Join(outside, "secret.txt"), "up.txt": "../../../../../../etc/hostname", "outdir": outside, "in.txt": "real.txt", "loop.txt": "loop.txt"} {
		if err := os.Symlink(to, filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	fifo(t, filepath.Join(s.dir, "fifo.txt"))
	for path, want := range map[string]int{
		"/out.txt": 404, "/up.txt": 404, "/outdir/secret.txt": 404, "/loop.txt": 404, "/fifo.txt": 404, "/dir.txt": 404, "/in.txt": 200, "/real.txt": 200, "/real.txt/x.txt": 404,
	} {
		if res := s.get(path); res.Code != want || strings.Contains(res.Body.String(), "secret") {
			t.Errorf("%s: %d %q", path, res.Code, res.Body)
		}
	}
	if _, err := newFiles(outside, "", nil, false); err == nil {
		t.Error("a folder without index.html was taken")
	}
	if _, err := newFiles(filepath.Join(outside, "none"), "", nil, false); err == nil {
		t.Error("a folder that is not there was taken")
	}
}

// A deployment puts another folder in the place of this one, by rename or by link: a second later it is served. One
// that is not whole yet is not.
func TestFolderSwap(t *testing.T) {
	for _, by := range []string{"rename", "link"} {
		t.Run(by, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := t.TempDir()
				dir := filepath.Join(base, "current")
				one, two := filepath.Join(base, "one"), filepath.Join(base, "two")
				fill(t, one, map[string]string{"index.html": "one", "a.js": "one", "gone.js": "one"})
				fill(t, two, map[string]string{"a.js": "two", "new.js": "two"})
				swap := func(to string) {
					if by == "link" {
						if err := os.Symlink(to, dir+".new"); err != nil {
							t.Fatal(err)
						}
						if err := os.Rename(dir+".new", dir); err != nil {
							t.Fatal(err)
						}
						return
					}
					_ = os.Rename(dir, dir+".old")
					if err := os.Rename(to, dir); err != nil {
						t.Fatal(err)
					}
				}
				swap(one)
				f, err := newFiles(dir, "", nil, false)
				if err != nil {
					t.Fatal(err)
				}
				defer f.close()
				s := &site{t, dir, f}
				expect := func(when, path, want string) {
					t.Helper()
					if res := s.get(path); want == "" && res.Code != 404 || want != "" && res.Body.String() != want {
						t.Errorf("%s: %s: %d %q", when, path, res.Code, res.Body)
					}
				}
				expect("first", "/a.js", "one")
				swap(two)
				time.Sleep(lookAgain)
				expect("without its index", "/a.js", "one")
				put(t, filepath.Join(dir, "index.html"), "two")
				time.Sleep(lookAgain)
				for path, want := range map[string]string{"/": "two", "/a.js": "two", "/new.js": "two", "/gone.js": ""} {
					expect("swapped", path, want)
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				time.Sleep(lookAgain)
				if by == "rename" {
					expect("removed", "/a.js", "")
				}
			})
		})
	}
}

// A file that is written anew in its place, with the same length and time, as reproducible builds do.
func TestFileChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, map[string]string{"index.html": "one", "a.js": strings.Repeat("1", 2000)})
		name := filepath.Join(s.dir, "a.js")
		epoch := time.Unix(1, 0)
		if err := os.Chtimes(name, epoch, epoch); err != nil {
			t.Fatal(err)
		}
		plain, packed := s.get("/a.js"), s.get("/a.js", "Accept-Encoding", "gzip")
		put(t, name, strings.Repeat("2", 2000))
		if err := os.Chtimes(name, epoch, epoch); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookAgain)
		again := s.get("/a.js", "If-None-Match", plain.Header().Get("Etag"))
		if again.Code != 200 || again.Body.String()[0] != '2' || again.Header().Get("Etag") == plain.Header().Get("Etag") {
			t.Errorf("%d %.10q", again.Code, again.Body)
		}
		if z := s.get("/a.js", "Accept-Encoding", "gzip"); z.Header().Get("Etag") == packed.Header().Get("Etag") || z.Header().Get("Content-Encoding") != "gzip" {
			t.Errorf("%v", z.Header())
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookAgain)
		if res := s.get("/a.js"); res.Code != 404 {
			t.Errorf("removed: %d", res.Code)
		}
	})
}

// A large file that is written to while it is sent breaks the connection: nobody takes the mixture for whole.
func TestChangesWhileSent(t *testing.T) {
	s := newSite(t, map[string]string{"index.html": "app", "huge.bin": strings.Repeat("1", maxHeld+1<<20)})
	name := filepath.Join(s.dir, "huge.bin")
	w := &writerThat{ResponseRecorder: httptest.NewRecorder(), does: func() { put(t, name, strings.Repeat("2", maxHeld+1<<20)) }}
	r := httptest.NewRequest("GET", "/huge.bin", nil)
	defer func() {
		if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // the value itself
			t.Errorf("%v: the client was told that %d bytes are the file", p, w.Body.Len())
		}
		if bytes.ContainsRune(w.Body.Bytes(), '2') {
			t.Error("a mixture was sent")
		}
	}()
	s.serve(w, r, "/huge.bin", 0)
}

type writerThat struct {
	*httptest.ResponseRecorder
	once sync.Once
	does func()
}

func (w *writerThat) Write(b []byte) (int, error) {
	w.once.Do(w.does)
	return w.ResponseRecorder.Write(b)
}

// Deployments run while requests run: each answer is one whole version with that version's tag.
func TestDeployLoop(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "app")
	version := func(n int) string { return fmt.Sprintf("%08d:", n) + strings.Repeat(fmt.Sprint(n%10), 20_000+n) }
	build := func(n int) string {
		at := filepath.Join(base, fmt.Sprint(n))
		fill(t, at, map[string]string{"index.html": "app", "a.js": version(n), "a.js.br": "br" + version(n)[:1000], "b.txt": version(n)})
		return at
	}
	if err := os.Symlink(build(0), dir); err != nil {
		t.Fatal(err)
	}
	f, err := newFiles(dir, "", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	s := &site{t, dir, f}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for !stop.Load() {
				path, accept := []string{"/a.js", "/b.txt"}[i%2], []string{"", "br", "gzip"}[i%3]
				res := s.get(path, "Accept-Encoding", accept)
				sum := sha256.Sum256(res.Body.Bytes())
				if res.Code == 500 {
					continue // it was being replaced at each look
				}
				if res.Code != 200 || res.Header().Get("Etag") != tagOf(sum[:])[0] || res.Header().Get("Content-Length") != fmt.Sprint(res.Body.Len()) {
					t.Errorf("%s %s: %d %v %d", path, accept, res.Code, res.Header(), res.Body.Len())
					return
				}
			}
		})
	}
	for n := 1; n < 60; n++ {
		f.folder.look.Store(0) // as if the second was over
		if err := os.Symlink(build(n), dir+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir+".new", dir); err != nil {
			t.Fatal(err)
		}
		f.folder.entries.InvalidateAll()
		put(t, filepath.Join(dir, "b.txt.new"), version(n+1000)) // and one file in its place
		if err := os.Rename(filepath.Join(dir, "b.txt.new"), filepath.Join(dir, "b.txt")); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
}

// Whatever the path, what is opened is a file of the folder whose name has no hidden part.
func FuzzFileName(f *testing.F) {
	for _, seed := range []string{"/", "/a.js", "/../x", "/a/../../x", "/.git/config", "/%2e%2e/x", "/a%2f..%2f..%2fx", "/.well-known/x", "/a/.well-known/x", "//x", "/x/", "/a\\..\\x", "/%00", "/a/./b", "/~", "/.", "/.../x"} {
		f.Add(seed)
	}
	dir := f.TempDir()
	fill(f, filepath.Join(dir, "app"), map[string]string{"index.html": "app", "a/b.txt": "b", ".git/x": "secret", "a/.env": "secret"})
	put(f, filepath.Join(dir, "x"), "secret")
	files, err := newFiles(filepath.Join(dir, "app"), "", nil, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(files.close)
	f.Fuzz(func(t *testing.T, escaped string) {
		name, ok := fileName(escaped)
		if ok {
			if bare := strings.TrimSuffix(name, "/"); bare != "" && (!fs.ValidPath(bare) || !filepath.IsLocal(filepath.FromSlash(bare))) {
				t.Fatalf("%q: %q leads out", escaped, name)
			}
			for i, part := range strings.Split(name, "/") {
				if strings.HasPrefix(part, ".") && (i > 0 || part != ".well-known") {
					t.Fatalf("%q: %q is hidden", escaped, name)
				}
			}
		}
		if !strings.HasPrefix(escaped, "/") {
			return
		}
		w := httptest.NewRecorder()
		r := &http.Request{Method: "GET", Header: http.Header{"Accept": {"text/html"}}, URL: httptest.NewRequest("GET", "/", nil).URL}
		files.serve(w, r, escaped, 0)
		if strings.Contains(w.Body.String(), "secret") {
			t.Fatalf("%q: %q", escaped, w.Body)
		}
	})
}

// nothing is a response writer whose cost is not measured.
type nothing struct{ h http.Header }

func (n *nothing) Header() http.Header         { return n.h }
func (n *nothing) Write(b []byte) (int, error) { return len(b), nil }
func (n *nothing) WriteHeader(int)             {}

func BenchmarkFile(b *testing.B) {
	text := strings.Repeat("text ", 4000)
	s := newSite(b, map[string]string{"index.html": "app", "assets/index-DiwrgTda.js": text, "assets/index-DiwrgTda.js.br": text[:5000], "large.bin": strings.Repeat("x", maxHeld+1)})
	for name, target := range map[string]string{"small": "/assets/index-DiwrgTda.js", "route": "/users/7", "large": "/large.bin"} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest("GET", target, nil)
			r.Header.Set("Accept-Encoding", "gzip, deflate, br")
			w := &nothing{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.h)
				s.serve(w, r, target, 0)
			}
		})
	}
}
