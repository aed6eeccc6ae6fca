package page

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/cloakroom/cloakroom/config"
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
