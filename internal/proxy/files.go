package proxy

import (
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloakroom/cloakroom/internal/web"
)

// files serves a built single-page app from a folder.
type files struct {
	folder *folder
	policy []string // the Content-Security-Policy of documents
	frame  []string // X-Frame-Options, which says the same to old browsers; nil where it cannot
	// private keeps files that only people with a session may see out of shared caches.
	private bool
	refuse  func(http.ResponseWriter, *http.Request, *web.Problem)
}

// newFiles opens a route's folder.
func newFiles(dir, override string, providers []string, private bool) (*files, error) {
	folder, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	f := &files{folder: folder, private: private, refuse: func(w http.ResponseWriter, r *http.Request, problem *web.Problem) { problem.Write(w, r) }}
	policy, frame := policies(override, providers)
	f.policy = []string{policy}
	if frame != "" {
		f.frame = []string{frame}
	}
	return f, nil
}

func (f *files) close() { f.folder.close() }

// policies are the Content-Security-Policy of documents and the X-Frame-Options that agrees with it. The default
// allows scripts, styles and connections of the app's own origin; frames may show the providers, too: a silent login
// in a frame goes there and back. An override that does not say who may frame the app leaves that at nobody.
func policies(override string, providers []string) (policy, frame string) {
	policy = strings.TrimRight(strings.TrimSpace(override), "; ")
	if policy == "" {
		policy = "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; " +
			"frame-src " + strings.Join(append([]string{"'self'"}, providers...), " ") +
			"; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	}
	for directive := range strings.SplitSeq(policy, ";") {
		words := strings.Fields(directive)
		if len(words) == 0 || !strings.EqualFold(words[0], "frame-ancestors") {
			continue
		}
		switch sources := words[1:]; {
		case len(sources) == 0 || len(sources) == 1 && strings.EqualFold(sources[0], "'none'"):
			return policy, "DENY"
		case len(sources) == 1 && strings.EqualFold(sources[0], "'self'"):
			return policy, "SAMEORIGIN"
		}
		return policy, ""
	}
	return policy + "; frame-ancestors 'none'", "DENY"
}

// serve answers with the file at full, the request's canonical path, of which the first prefix bytes are the route's
// without its last slash.
func (f *files) serve(w http.ResponseWriter, r *http.Request, full string, prefix int) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		problem := web.NewProblem(web.CodeMethodNotAllowed, "Files take GET and HEAD.")
		problem.Allow = "GET, HEAD"
		f.refuse(w, r, problem)
		return
	}
	name, ok := fileName(full[prefix:])
	if !ok {
		f.missing(w, r)
		return
	}
	f.folder.refresh()
	folder := name == "" || strings.HasSuffix(name, "/")
	if folder {
		name += "index.html"
	}
	switch {
	case f.send(w, r, name, http.StatusOK):
	case !folder && f.folder.has(name+"/index.html"):
		redirectToFolder(w, r, full)
	case appRoute(r, strings.TrimSuffix(full[prefix+1:], "/")) && f.send(w, r, "index.html", http.StatusOK):
	default:
		f.missing(w, r)
	}
}

// redirectToFolder leads to the same path with a slash at its end, so that relative links in the page there work.
// The path is canonical: it begins with exactly one slash, so it cannot lead to another host.
func redirectToFolder(w http.ResponseWriter, r *http.Request, full string) {
	to := full + "/"
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	h := w.Header()
	h.Set("Location", to)
	h.Set("Cache-Control", "no-cache, no-store") // browsers would keep it, and the next deployment may know better
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusPermanentRedirect)
}

// missing answers that there is no such file: a person sees the folder's 404.html, if it has one.
func (f *files) missing(w http.ResponseWriter, r *http.Request) {
	if !navigates(r) || !f.send(w, r, "404.html", http.StatusNotFound) {
		f.refuse(w, r, web.NewProblem(web.CodeNotFound, "There is no such file."))
	}
}

// fileName is the name in the folder that an escaped path stands for, and whether it may be looked for at all: parts
// that begin with a dot are nobody's business (.git, .env), save for .well-known at the top.
func fileName(escaped string) (string, bool) {
	plain, err := url.PathUnescape(escaped)
	if err != nil || !strings.HasPrefix(plain, "/") {
		return "", false
	}
	name := plain[1:]
	if name == "" {
		return "", true
	}
	bare := strings.TrimSuffix(name, "/")
	if !fs.ValidPath(bare) || bare == "." || strings.ContainsFunc(bare, isControl) {
		return "", false
	}
	if local, err := filepath.Localize(bare); err != nil || !filepath.IsLocal(local) {
		return "", false // a name that this system reads in a way of its own
	}
	for i, rest := 0, bare; rest != ""; i++ {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		if part[0] == '.' && (i > 0 || part != ".well-known") {
			return "", false
		}
	}
	return name, true
}

func isControl(c rune) bool { return c < 0x20 || c == 0x7f }

// navigates reports whether a browser wants a document to show. One without Fetch metadata is judged by what it
// accepts.
func navigates(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Dest") {
	case "document", "iframe", "frame", "fencedframe":
		return true
	case "", "empty": // empty is fetch(): a framework may fetch pages, and then says so
		return accepts(r, "text/html")
	}
	return false
}

func accepts(r *http.Request, kind string) bool {
	for _, line := range r.Header["Accept"] {
		if strings.Contains(line, kind) {
			return true
		}
	}
	return false
}

// appRoute reports whether a name that is no file is one of the app's own routes, which index.html serves. An asset
// that is missing is not, or a script tag would get a page: nothing with an asset's extension is, nor what a script,
// style or fetch asks for. A name like users/jane.doe is one only where a document is wanted for sure; a tool that
// says nothing about itself still gets the app at a name without an extension.
func appRoute(r *http.Request, name string) bool {
	if strings.HasPrefix(name, ".well-known/") {
		return false
	}
	if known(name) {
		return false
	}
	if navigates(r) {
		return true
	}
	return path.Ext(name) == "" && r.Header.Get("Sec-Fetch-Dest") == "" && (len(r.Header["Accept"]) == 0 || accepts(r, "*/*"))
}

// send answers with a file, in the representation that the client likes best. false: there is no such file.
func (f *files) send(w http.ResponseWriter, r *http.Request, name string, status int) bool {
	for range 3 {
		e, ok := f.folder.entry(name)
		if !ok {
			return false
		}
		rep, c, err := f.folder.choose(e, accepted(r.Header["Accept-Encoding"]))
		if err != nil {
			f.folder.forget(name) // it changed between two looks at it
			continue
		}
		if c.body != nil || c.size == 0 {
			f.headers(w.Header(), e, rep, c)
			write(w, r, c, status)
			return true
		}
		if status != http.StatusOK {
			return false // a 404.html of this size
		}
		file, err := f.folder.openAs(rep, c)
		if err != nil {
			f.folder.forget(name)
			continue
		}
		f.headers(w.Header(), e, rep, c)
		guard := &steady{File: file, stamp: c.stamp}
		defer func() { _ = file.Close() }()
		serveContent(w, r, guard, c)
		if guard.changed.Load() {
			panic(http.ErrAbortHandler) // what was sent is of two versions: the client must not take it for whole
		}
		return true
	}
	f.refuse(w, r, web.NewProblem(web.CodeInternal, "The file changes too fast to be sent.").Because(errChanged).After(time.Second))
	return true
}

// Header values that many answers share. Whoever adds to one makes a copy, since none has room to grow.
var (
	valueNosniff    = []string{"nosniff"}
	valueSameOrigin = []string{"same-origin"}
	valueBytes      = []string{"bytes"}
	valueEncoding   = []string{"Accept-Encoding"}

	valueOf = map[string][]string{"zstd": {"zstd"}, "br": {"br"}, "gzip": {"gzip"}}

	cacheNever   = []string{"no-cache, no-store"}
	cacheAsk     = []string{"no-cache"}
	cacheForever = []string{"public, max-age=31536000, immutable"}

	cachePrivateAsk     = []string{"private, no-cache"}
	cachePrivateForever = []string{"private, max-age=31536000, immutable"}
)

// headers are those of a file.
func (f *files) headers(h http.Header, e *entry, rep *representation, c *content) {
	h["Content-Type"] = e.kind
	if e.varies {
		if len(h["Vary"]) == 0 {
			h["Vary"] = valueEncoding
		} else {
			h.Add("Vary", "Accept-Encoding")
		}
	}
	if rep.encoding != "" {
		h["Content-Encoding"] = valueOf[rep.encoding]
	}
	h["Etag"] = c.tag
	h["X-Content-Type-Options"] = valueNosniff
	h["Referrer-Policy"] = valueSameOrigin
	h["Cross-Origin-Resource-Policy"] = valueSameOrigin
	if e.document {
		h["Content-Security-Policy"] = f.policy
		if f.frame != nil {
			h["X-Frame-Options"] = f.frame
		}
		h["Cross-Origin-Opener-Policy"] = valueSameOrigin
	}
	h["Cache-Control"] = f.caching(e)
}

func (f *files) caching(e *entry) []string {
	switch {
	case e.page:
		return cacheNever
	case e.immutable && f.private:
		return cachePrivateForever
	case e.immutable:
		return cacheForever
	case f.private:
		return cachePrivateAsk
	}
	return cacheAsk
}

// write answers from memory.
func write(w http.ResponseWriter, r *http.Request, c *content, status int) {
	if status == http.StatusOK && conditional(r.Header) {
		serveContent(w, r, newReader(c.body), c)
		return
	}
	h := w.Header()
	h["Accept-Ranges"] = valueBytes
	h["Content-Length"] = c.length
	if status != http.StatusOK {
		delete(h, "Accept-Ranges")
		delete(h, "Etag") // it would be the tag of what is missing
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(c.body) //nolint:gosec // the operator's file, with the type that its name says
	}
}

// conditional reports whether the request asks for a part, or only under a condition.
func conditional(h http.Header) bool {
	return h["Range"] != nil || h["If-None-Match"] != nil || h["If-Match"] != nil || h["If-Range"] != nil
}

// serveContent leaves conditions and ranges to net/http. There is no Last-Modified: builds give every file the same
// time, so a date would call a new file unchanged; the tag is of the content.
func serveContent(w http.ResponseWriter, r *http.Request, body readSeeker, c *content) {
	http.ServeContent(&sized{ResponseWriter: w, c: c}, r, "", time.Time{}, body)
}

// sized says the length that http.ServeContent leaves out of encoded answers, and drops what belongs to no error.
type sized struct {
	http.ResponseWriter
	c *content
}

func (s *sized) WriteHeader(status int) {
	h := s.Header()
	switch status {
	case http.StatusOK:
		h["Content-Length"] = s.c.length
	case http.StatusPreconditionFailed:
		for _, name := range []string{"Content-Type", "Content-Encoding", "Cache-Control"} {
			delete(h, name)
		}
		h.Set("Content-Length", "0")
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *sized) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// steady reads a file and notices when somebody writes to it meanwhile.
type steady struct {
	File    fileReader
	stamp   stamp
	changed atomic.Bool
}

func (s *steady) Read(b []byte) (int, error) {
	n, err := s.File.Read(b)
	if info, serr := s.File.Stat(); serr != nil || !s.stamp.is(info) {
		s.changed.Store(true)
		return 0, errChanged
	}
	return n, err
}

func (s *steady) Seek(offset int64, whence int) (int64, error) { return s.File.Seek(offset, whence) }

func decimal(n int64) []string { return []string{strconv.FormatInt(n, 10)} }
