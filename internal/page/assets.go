package page

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/cloakroom/cloakroom/internal/web"
)

// AssetPrefix is where the pages' style and scripts are. They are the same for everybody and need no session.
const AssetPrefix = "/auth/assets/"

// types are the kinds of file that are served; another kind in assets/ is a mistake.
var types = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
}

type asset struct {
	body, kind string
}

// assets are the files by the path that they are served at. The path holds a hash of the content, so it may be
// cached for ever: a changed file has another path.
type assets struct {
	byPath map[string]asset
	paths  map[string]string // by file name
}

func mustAssets() assets {
	a := assets{map[string]asset{}, map[string]string{}}
	entries, err := files.ReadDir("assets")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		body, err := files.ReadFile("assets/" + e.Name())
		if err != nil {
			panic(err)
		}
		ext := path.Ext(e.Name())
		kind, ok := types[ext]
		if !ok {
			panic("page: an asset of unknown type: " + e.Name())
		}
		hash := sha256.Sum256(body)
		url := AssetPrefix + strings.TrimSuffix(e.Name(), ext) + "-" + hex.EncodeToString(hash[:8]) + ext
		a.byPath[url], a.paths[e.Name()] = asset{string(body), kind}, url
	}
	return a
}

// add puts a theme's files among the assets.
func (a assets) add(t Theme) {
	for _, f := range []struct {
		name, ext, kind string
		body            []byte
	}{{logoName, "", t.LogoType, t.Logo}, {styleName, ".css", types[".css"], []byte(t.css())}} {
		if len(f.body) == 0 {
			continue
		}
		hash := sha256.Sum256(f.body)
		url := AssetPrefix + strings.TrimSuffix(f.name, f.ext) + "-" + hex.EncodeToString(hash[:8]) + f.ext
		a.byPath[url], a.paths[f.name] = asset{string(f.body), f.kind}, url
	}
}

// mustURL is the path of a file. An unknown name is a broken template, and panics in New's first test.
func (a assets) mustURL(name string) string {
	url, ok := a.paths[name]
	if !ok {
		panic("page: no asset " + name)
	}
	return url
}

// Asset answers GET and HEAD below AssetPrefix: exactly the files that the pages name, and nothing else.
func (p *Pages) Asset(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refusal := web.NewProblem(web.CodeMethodNotAllowed, "Only GET and HEAD.")
		refusal.Allow = "GET, HEAD"
		refusal.Write(w, r)
		return
	}
	a, ok := p.assets.byPath[r.URL.Path]
	if !ok {
		web.NewProblem(web.CodeNotFound, "There is no such file. Load the page again if it asked for it.").Write(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write([]byte(a.body)) // the client may be gone; there is no one left to tell
	}
}
