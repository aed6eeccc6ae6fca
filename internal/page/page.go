// Package page shows the few pages that Cloakroom has of its own: logging in with its steps, logging out, one's sessions,
// and what went wrong. They are plain HTML that works without a script, under a policy that allows nothing inline. The
// package decides nothing: it is told what to show, as data, and all of that data may be hostile.
package page

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"strconv"

	"github.com/cloakroom/cloakroom/internal/web"
)

//go:embed templates assets
var files embed.FS

// Pages are the parsed pages of one frontend. All methods may be called at once.
type Pages struct {
	assets    assets
	templates map[string]*template.Template
	theme     Theme
	spoken    languages
}

// New parses what the binary carries, with a frontend's theme. It panics if what it carries is broken, which the tests
// of this package would have seen.
func New(t Theme) *Pages {
	p := &Pages{assets: mustAssets(), templates: map[string]*template.Template{}, theme: t, spoken: t.languages()}
	p.assets.add(t)
	for _, name := range []string{"login", "step", "recovery", "logout", "sessions", "confirm", "problem", "leave", "reload", "silent"} {
		t := template.New(name).Funcs(template.FuncMap{"asset": p.assets.mustURL})
		p.templates[name] = template.Must(t.ParseFS(files, "templates/layout.html", "templates/"+name+".html"))
	}
	return p
}

// sheet is what every template gets.
type sheet struct {
	T     *text
	Title string
	Data  any
	Wide  bool // the card has room for a list

	Logo, Style, Name string // of the theme: addresses, and what the logo stands for

	formOrigins []string // where a form's answer may lead, besides our own origin
	asks        string   // connectSelf where the page's script asks us something
}

// field is a hidden field of a form.
type field struct{ Name, Value string }

// show answers with a page.
func (p *Pages) show(w http.ResponseWriter, r *http.Request, status int, name string, s sheet) {
	s.Logo, s.Style, s.Name = p.assets.paths[logoName], p.assets.paths[styleName], p.theme.Name
	var b bytes.Buffer
	if err := p.templates[name].ExecuteTemplate(&b, "layout", s); err != nil {
		web.NewProblem(web.CodeInternal, "").Because(err).Write(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", s.T.Lang)
	h.Add("Vary", "Accept-Language")
	h.Set("Cache-Control", "no-store")
	if name == "silent" {
		h.Set("Content-Security-Policy", policy("'self'", nil))
		h.Set("X-Frame-Options", "SAMEORIGIN")
	} else {
		h.Set("Content-Security-Policy", policy("'none'", s.formOrigins)+s.asks)
		h.Set("X-Frame-Options", "DENY")
	}
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	if h.Get("Referrer-Policy") == "" { // a page whose own address holds something keeps it to itself
		h.Set("Referrer-Policy", "same-origin")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client may be gone; there is no one left to tell
}
