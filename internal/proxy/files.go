package proxy

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/internal/web"
)

// policy is the Content-Security-Policy of files: scripts, styles and connections of the app's own origin. Frames may
// show the providers, too: a silent login in a frame goes there and back.
func policy(providers []string) string {
	return "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; " +
		"frame-src " + strings.Join(append([]string{"'self'"}, providers...), " ") +
		"; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
}

// files serves a built single-page app from a directory. What it opens stays inside of the directory, whatever
// links lie there.
type files struct {
	root   *os.Root
	policy string

	mu    sync.Mutex
	etags map[string]etag
}

// etag is a file's content hash while the file is what it was.
type etag struct {
	modified time.Time
	size     int64
	value    string
}

func newFiles(dir, policy string) (*files, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	f := &files{root: root, policy: policy, etags: map[string]etag{}}
	if _, err := root.Stat("index.html"); err != nil {
		return nil, errors.Join(fmt.Errorf("files: %s has no index.html", dir), root.Close())
	}
	return f, nil
}

func (f *files) close() { _ = f.root.Close() }

// hashed names carry a hash of their content, so they never change: app-4f9a21c0.js, main.8d2b1e77.css.
var hashed = regexp.MustCompile(`[-.][0-9A-Za-z_-]*[0-9][0-9A-Za-z_-]{6,}\.[a-z0-9]+$|[-.][0-9A-Za-z_]{8,}\.(js|css|mjs|woff2?|svg|png|jpe?g|webp|avif|wasm)$`)

// serve answers with the file at path, an escaped path that begins with a slash. A path without an extension is one
// of the app's own routes and gets index.html; a missing asset is 404, or a script tag would get a page.
func (f *files) serve(w http.ResponseWriter, r *http.Request, escaped string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		problem := web.NewProblem(web.CodeMethodNotAllowed, "Files take GET and HEAD.")
		problem.Allow = "GET, HEAD"
		problem.Write(w, r)
		return
	}
	plain, err := url.PathUnescape(escaped)
	name := strings.TrimPrefix(plain, "/")
	if err != nil || hidden(name) {
		f.missing(w, r)
		return
	}
	if name == "" || strings.HasSuffix(name, "/") {
		name += "index.html"
	}
	if !f.send(w, r, name) {
		if path.Ext(name) != "" && path.Base(name) != "index.html" || !f.send(w, r, "index.html") {
			f.missing(w, r)
		}
	}
}

func (f *files) missing(w http.ResponseWriter, r *http.Request) {
	web.NewProblem(web.CodeNotFound, "There is no such file.").Write(w, r)
}

// hidden reports whether a part of the name begins with a dot: .git and .env are nobody's business.
func hidden(name string) bool {
	if !fs.ValidPath(strings.TrimSuffix(name, "/")) && name != "" {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") && part != "" && part != ".well-known" {
			return true
		}
	}
	return false
}

// send answers with a file, the smallest variant that the client takes. false: there is none.
func (f *files) send(w http.ResponseWriter, r *http.Request, name string) bool {
	file, info, ok := f.open(name)
	if !ok {
		return false
	}
	defer func() { _ = file.Close() }()
	h := w.Header()
	f.headers(h, name)
	if encoding, variant, vinfo, ok := f.variant(r, name); ok {
		defer func() { _ = variant.Close() }()
		h.Set("Content-Encoding", encoding)
		file, info = variant, vinfo
	}
	tag, err := f.tag(name+h.Get("Content-Encoding"), file, info)
	if err != nil {
		web.NewProblem(web.CodeInternal, "").Because(err).Write(w, r)
		return true
	}
	h.Set("Etag", tag)
	http.ServeContent(w, r, name, time.Time{}, file)
	return true
}

func (f *files) open(name string) (*os.File, fs.FileInfo, bool) {
	file, err := f.root.Open(name)
	if err != nil {
		return nil, nil, false
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		_ = file.Close()
		return nil, nil, false
	}
	return file, info, true
}

// variants are the precompressed files that may lie beside one, best first.
var variants = []struct{ encoding, suffix string }{{"zstd", ".zst"}, {"br", ".br"}, {"gzip", ".gz"}}

func (f *files) variant(r *http.Request, name string) (string, *os.File, fs.FileInfo, bool) {
	accepted := r.Header["Accept-Encoding"]
	if len(accepted) == 0 {
		return "", nil, nil, false
	}
	for _, v := range variants {
		if hasEncoding(accepted, v.encoding) {
			if file, info, ok := f.open(name + v.suffix); ok {
				return v.encoding, file, info, true
			}
		}
	}
	return "", nil, nil, false
}

// hasEncoding reports whether an encoding is accepted (RFC 9110 section 12.5.3); q=0 is a no.
func hasEncoding(lines []string, encoding string) bool {
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			name, q, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(name), encoding) {
				q = strings.ReplaceAll(q, " ", "")
				return q != "q=0" && q != "q=0.0" && q != "q=0.00" && q != "q=0.000"
			}
		}
	}
	return false
}

// headers are those of every file.
func (f *files) headers(h http.Header, name string) {
	kind := mime.TypeByExtension(path.Ext(name))
	if kind == "" {
		kind = "application/octet-stream"
	}
	h.Set("Content-Type", kind)
	h.Add("Vary", "Accept-Encoding")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if strings.HasPrefix(kind, "text/html") {
		h.Set("Cache-Control", "no-cache, no-store")
		h.Set("Content-Security-Policy", f.policy)
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		return
	}
	if hashed.MatchString(path.Base(name)) {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		return
	}
	h.Set("Cache-Control", "no-cache")
}

// maxETags bounds how many hashes are kept.
const maxETags = 10000

// tag is the file's ETag: a hash of its content, made once as long as the file does not change.
func (f *files) tag(key string, file io.ReadSeeker, info fs.FileInfo) (string, error) {
	f.mu.Lock()
	known, ok := f.etags[key]
	f.mu.Unlock()
	if ok && known.modified.Equal(info.ModTime()) && known.size == info.Size() {
		return known.value, nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("files: %w", err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("files: %w", err)
	}
	value := `"` + base64.RawURLEncoding.EncodeToString(sum.Sum(nil)[:15]) + `"`
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.etags) >= maxETags {
		clear(f.etags)
	}
	f.etags[key] = etag{info.ModTime(), info.Size(), value}
	return value, nil
}
