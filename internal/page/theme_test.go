package page

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cloakroom/cloakroom/config"
	"pgregory.net/rapid"
)

// The names that a configuration may say are those that the pages know, and its languages are ours.
func TestThemeNamesAreTheConfigurations(t *testing.T) {
	words := func(field string) []string {
		f, _ := reflect.TypeFor[config.PageText]().FieldByName(field)
		return strings.Fields(f.Tag.Get("words"))
	}
	for _, name := range words("Name") {
		if english.named(name) == nil {
			t.Errorf("the pages have no text %q", name)
		}
	}
	var languages []string
	for _, l := range spoken.texts {
		languages = append(languages, l.Lang)
	}
	if got := words("Language"); !reflect.DeepEqual(got, languages) {
		t.Errorf("languages %v, spoken %v", got, languages)
	}
}

func TestTheme(t *testing.T) {
	themed := New(Theme{
		Name: "Acme <Shop>", Logo: []byte("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"), LogoType: "image/svg+xml",
		Style: []byte(":root { --accent: #a00000; }"),
		Texts: []Override{{"de", "log_in", "Hereinspaziert"}, {"en", "or", "<b>or</b>"}, {"xx", "log_in", "x"}, {"de", "nothing", "x"}},
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/auth/login", nil)
	r.Header.Set("Accept-Language", "de")
	themed.Login(w, r, 200, Login{Form: true, Subject: "app.example.com"})
	body := w.Body.String()
	for _, want := range []string{"<h1>Hereinspaziert</h1>", "Acme &lt;Shop&gt;", `<img class="logo" src="/auth/assets/logo-`, `href="/auth/assets/theme-`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
	if strings.Contains(body, "app.example.com") || strings.Contains(body, "<script>alert") {
		t.Errorf("%s", body)
	}
	for name, kind := range map[string]string{logoName: "image/svg+xml", styleName: "text/css; charset=utf-8"} {
		w := httptest.NewRecorder()
		themed.Asset(w, httptest.NewRequest(http.MethodGet, themed.assets.paths[name], nil))
		// What the file holds runs nowhere: not as an image, and not when its address is opened.
		if w.Code != 200 || w.Header().Get("Content-Type") != kind || !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none'") || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
	if german.LogIn == "Hereinspaziert" {
		t.Error("one frontend's texts are everybody's")
	}
	plain := httptest.NewRecorder()
	pages.Login(plain, r, 200, Login{Form: true, Subject: "app.example.com"})
	if strings.Contains(plain.Body.String(), "logo-") || !strings.Contains(plain.Body.String(), "app.example.com") {
		t.Errorf("%s", plain.Body)
	}
}

// Whatever accent the configuration lets through, all that follows from it can be read.
func TestThemeColours(t *testing.T) {
	light, dark := schemes(t)
	rapid.Check(t, func(rt *rapid.T) {
		hex := rapid.StringMatching(`#[0-9a-f]{6}`)
		accent := hex.Filter(func(c string) bool { return config.Contrast(c, config.PageCard) >= 4.5 }).Draw(rt, "accent")
		accentDark := rapid.OneOf(rapid.Just(""), hex.Filter(func(c string) bool { return config.Contrast(c, config.PageCardDark) >= 4.5 })).Draw(rt, "accent_dark")
		css := Theme{Accent: accent, AccentDark: accentDark}.css()
		own, ownDark, ok := strings.Cut(css, "@media (prefers-color-scheme: dark)")
		if !ok || colour(t, own, "accent") != accent || accentDark != "" && colour(t, ownDark, "accent") != accentDark {
			rt.Fatalf("%s", css)
		}
		readable(t, "light "+accent, light+own)
		readable(t, "dark "+accentDark, dark+ownDark)
		if t.Failed() {
			rt.Fatal("see above")
		}
	})
}

func TestThemeCSS(t *testing.T) {
	for _, c := range []struct {
		theme Theme
		want  string
	}{
		{Theme{}, ""},
		{Theme{Name: "Acme"}, ""},
		{Theme{Radius: "4px", Font: `"Segoe UI", sans-serif`}, ":root {\n  --radius: 4px;\n  --font: \"Segoe UI\", sans-serif;\n}\n"},
		{
			Theme{Accent: "#8A1538", Style: []byte("p {}")},
			":root {\n  --accent: #8a1538;\n  --accent-hover: #751230;\n  --on-accent: #ffffff;\n  --tint: #f7eff1;\n  --glow: #eae0e7;\n}\n" +
				"@media (prefers-color-scheme: dark) {\n:root {\n  --accent: #b97388;\n  --accent-hover: #cb96a6;\n  --on-accent: #000000;\n  --tint: #232128;\n  --glow: #1e1a1f;\n}\n}\np {}",
		},
		{
			Theme{AccentDark: "#9db0ff"},
			"@media (prefers-color-scheme: dark) {\n:root {\n  --accent: #9db0ff;\n  --accent-hover: #b6c4ff;\n  --on-accent: #000000;\n  --tint: #212531;\n  --glow: #1c1f2a;\n}\n}\n",
		},
	} {
		if got := c.theme.css(); got != c.want {
			t.Errorf("%+v:\n%s\nwant\n%s", c.theme, got, c.want)
		}
	}
	if pages.assets.paths[styleName] != "" {
		t.Error("a page without a theme loads one")
	}
}

// A theme adds files of its own and changes nothing of the policy; each one's files are its own.
func TestThemesApart(t *testing.T) {
	red, blue := New(Theme{Accent: "#a00000"}), New(Theme{Accent: "#0000a0"})
	if red.assets.paths[styleName] == blue.assets.paths[styleName] {
		t.Error("two themes have one address, which is cached for ever")
	}
	w := httptest.NewRecorder()
	red.Asset(w, httptest.NewRequest(http.MethodGet, blue.assets.paths[styleName], nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("another frontend's theme: %d", w.Code)
	}
	plain := states("ann", "/x")
	for name, show := range statesOf(red, "ann", "/x") {
		res, all := read(t, show)
		if got, want := res.Header.Get("Content-Security-Policy"), answer(plain[name]).Header.Get("Content-Security-Policy"); got != want {
			t.Errorf("%s: %s", name, got)
		}
		themed := slices.ContainsFunc(find(all, "link"), func(e *element) bool { return e.attrs["href"] == red.assets.paths[styleName] })
		if themed == (name == "silent") { // which shows nothing
			t.Errorf("%s: themed: %v", name, themed)
		}
		for _, e := range all {
			if _, inline := e.attrs["style"]; inline || e.name == "style" {
				t.Errorf("%s: the theme is inline", name)
			}
		}
	}
}
