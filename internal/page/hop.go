package page

import (
	"net/http"
	"strings"
)

// Silent is the end of a silent login in a frame: it tells the page that framed it, if that is of our own origin, how
// it went, and shows nothing.
func (p *Pages) Silent(w http.ResponseWriter, r *http.Request, authenticated bool) {
	t := p.textFor(r)
	p.show(w, r, http.StatusOK, "silent", sheet{T: t, Title: t.OneMoment, Data: authenticated})
}

// Reload is the page that asks for its own address once more. A browser keeps a Strict cookie back when another site
// led here; the second request is our own (Sec-Fetch-Site: same-origin) and carries it. Show it only to a request
// that came from another site, or it goes round for ever.
func (p *Pages) Reload(w http.ResponseWriter, r *http.Request) {
	t := p.textFor(r)
	p.show(w, r, http.StatusOK, "reload", sheet{T: t, Title: t.OneMoment})
}

// Leave is the page that goes on to url by itself. As the answer to a form post it ends the chain of redirects that
// Chromium holds against form-action, so that the way may lead through any number of origins.
func (p *Pages) Leave(w http.ResponseWriter, r *http.Request, url string) {
	t := p.textFor(r)
	p.show(w, r, http.StatusOK, "leave", sheet{T: t, Title: t.OneMoment, Data: oneAddress.Replace(url)})
}

// oneAddress takes away what ends an address in a refresh. The template filters the scheme.
var oneAddress = strings.NewReplacer(`"`, "%22", `'`, "%27", " ", "%20")
