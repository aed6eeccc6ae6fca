package page

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cloakroom/cloakroom/config"
)

func get(method, path string) *http.Response {
	w := httptest.NewRecorder()
	pages.Asset(w, httptest.NewRequest(method, path, nil))
	return w.Result()
}

// served checks that a page's file is there, under a name that changes with its content, cached for ever.
func served(t *testing.T, url string) {
	t.Helper()
	m := regexp.MustCompile(`^/auth/assets/[a-z]+-[0-9a-f]{16}\.(css|js)$`).FindStringSubmatch(url)
	if m == nil {
		t.Errorf("asset %q", url)
		return
	}
	res := get(http.MethodGet, url)
	kind := map[string]string{"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}[m[1]]
	for header, want := range map[string]string{
		"Content-Type":           kind,
		"Cache-Control":          "public, max-age=31536000, immutable",
		"X-Content-Type-Options": "nosniff",
	} {
		if got := res.Header.Get(header); got != want {
			t.Errorf("%s: %s: %q, want %q", url, header, got, want)
		}
	}
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK || len(body) == 0 || res.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
		t.Errorf("%s: %d, %d bytes", url, res.StatusCode, len(body))
	}
	head := get(http.MethodHead, url)
	rest, _ := io.ReadAll(head.Body)
	if head.StatusCode != http.StatusOK || len(rest) != 0 || head.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
		t.Errorf("HEAD %s: %d, %d bytes", url, head.StatusCode, len(rest))
	}
}

func TestAssetsServesNothingElse(t *testing.T) {
	css := pages.assets.mustURL("page.css")
	for _, path := range []string{
		"/auth/assets/", "/auth/assets", "/auth/assets/page.css", css + "/", css + "x", strings.ToUpper(css),
		"/auth/assets/page-0000000000000000.css", "/auth/assets/../assets/page.css", "/auth/assets/templates/login.html",
		"/auth/assets//" + strings.TrimPrefix(css, AssetPrefix),
	} {
		res := get(http.MethodGet, path)
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusNotFound || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d, Cache-Control %q", path, res.StatusCode, res.Header.Get("Cache-Control"))
		}
		for url := range pages.assets.byPath {
			if strings.Contains(string(body), url) {
				t.Errorf("%s lists %s", path, url)
			}
		}
	}
	if res := get(http.MethodPost, css); res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d, Allow %q", res.StatusCode, res.Header.Get("Allow"))
	}
}

func source(t *testing.T, name string) string {
	t.Helper()
	b, err := files.ReadFile("assets/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSilentSpeaksToOurOriginOnly(t *testing.T) {
	script := source(t, "silent.js")
	if strings.Count(script, "postMessage(") != 1 || !strings.Contains(script, "location.origin,\n  );") || strings.Contains(script, `"*"`) {
		t.Error("the message may go to another origin")
	}
}

// The style is read for what a glance at one screen does not show: the other colour scheme, and the other direction.
func TestStyle(t *testing.T) {
	css := source(t, "page.css")
	physical := regexp.MustCompile(`^\s*((margin|padding|border|inset)-)?(left|right|top|bottom)\b|text-align: (left|right)|^\s*((min|max)-)?(width|height):`)
	for line := range strings.SplitSeq(css, "\n") {
		if physical.MatchString(line) {
			t.Errorf("not logical: %q", line)
		}
	}
	if strings.Contains(css, "@import") || strings.Contains(css, "url(") {
		t.Error("the style loads something")
	}
	for _, want := range []string{"prefers-color-scheme: dark", "prefers-reduced-motion: reduce", "forced-colors: active", ":focus-visible"} {
		if !strings.Contains(css, want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestContrast(t *testing.T) {
	light, dark := schemes(t)
	readable(t, "light", light)
	readable(t, "dark", dark)
	if colour(t, light, "card") != config.PageCard || colour(t, dark, "card") != config.PageCardDark {
		t.Error("the configuration checks colours against another card")
	}
}

// schemes are our colours, for light and for dark.
func schemes(t *testing.T) (light, dark string) {
	t.Helper()
	light, dark, ok := strings.Cut(source(t, "page.css"), "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("no dark scheme")
	}
	dark, _, _ = strings.Cut(dark, "\n}\n")
	return light, dark
}

// readable checks each pair of colours that meet.
func readable(t *testing.T, scheme, css string) {
	t.Helper()
	for _, pair := range []struct {
		front, back string
		least       float64
	}{
		{"text", "card", 4.5},
		{"text", "tint", 4.5},
		{"text", "bad-tint", 4.5},
		{"soft", "card", 4.5},
		{"soft", "tint", 4.5},
		{"bad", "bad-tint", 4.5},
		{"accent", "card", 4.5},
		{"accent-hover", "card", 4.5},
		{"on-accent", "accent", 4.5},
		{"on-accent", "accent-hover", 4.5},
		{"edge", "card", 3},
		{"bad", "card", 3},
		{"accent", "tint", 3},
		{"edge", "tint", 3},
	} {
		front, back := colour(t, css, pair.front), colour(t, css, pair.back)
		if ratio := config.Contrast(front, back); ratio < pair.least {
			t.Errorf("%s: %s (%s) on %s (%s): %.2f, want %.1f", scheme, pair.front, front, pair.back, back, ratio, pair.least)
		}
	}
}

// colour is what the last declaration of a variable says.
func colour(t *testing.T, css, name string) string {
	t.Helper()
	m := regexp.MustCompile(`--`+name+`: (#[0-9a-f]{6});`).FindAllStringSubmatch(css, -1)
	if m == nil {
		t.Fatalf("no colour --%s", name)
	}
	return m[len(m)-1][1]
}
