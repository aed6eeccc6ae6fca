package proxy

import (
	"mime"
	"path"
	"regexp"
	"strings"
)

// types are the content types by extension. They stand here so that all machines answer the same: what mime.types
// says differs, and a module script or WebAssembly with another type does not run.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".htm": "text/html; charset=utf-8", ".xhtml": "application/xhtml+xml",
	".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8", ".cjs": "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8", ".map": "application/json", ".json": "application/json", ".json5": "application/json5",
	".jsonld": "application/ld+json", ".geojson": "application/geo+json", ".webmanifest": "application/manifest+json",
	".wasm": "application/wasm", ".xml": "application/xml", ".xsl": "application/xml", ".rss": "application/rss+xml", ".atom": "application/atom+xml",
	".txt": "text/plain; charset=utf-8", ".md": "text/markdown; charset=utf-8", ".csv": "text/csv; charset=utf-8",
	".yaml": "application/yaml", ".yml": "application/yaml", ".toml": "application/toml", ".vtt": "text/vtt; charset=utf-8", ".ics": "text/calendar; charset=utf-8",
	".ts": "text/plain; charset=utf-8", ".tsx": "text/plain; charset=utf-8", ".jsx": "text/plain; charset=utf-8", ".vue": "text/plain; charset=utf-8",
	".scss": "text/plain; charset=utf-8", ".less": "text/plain; charset=utf-8",

	".svg": "image/svg+xml", ".svgz": "image/svg+xml", ".png": "image/png", ".apng": "image/apng", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif",
	".webp": "image/webp", ".avif": "image/avif", ".jxl": "image/jxl", ".heic": "image/heic", ".ico": "image/x-icon", ".cur": "image/x-icon", ".bmp": "image/bmp", ".tiff": "image/tiff",
	".woff2": "font/woff2", ".woff": "font/woff", ".ttf": "font/ttf", ".otf": "font/otf", ".eot": "application/vnd.ms-fontobject",
	".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".aac": "audio/aac", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg", ".wav": "audio/wav", ".flac": "audio/flac", ".weba": "audio/webm",
	".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".ogv": "video/ogg", ".mov": "video/quicktime", ".m3u8": "application/vnd.apple.mpegurl", ".mpd": "application/dash+xml",
	".glb": "model/gltf-binary", ".gltf": "model/gltf+json", ".hdr": "image/vnd.radiance", ".ktx2": "image/ktx2", ".onnx": "application/octet-stream",
	".pdf": "application/pdf", ".zip": "application/zip", ".gz": "application/gzip", ".zst": "application/zstd", ".br": "application/octet-stream",
	".tar": "application/x-tar", ".tgz": "application/gzip", ".7z": "application/x-7z-compressed", ".rar": "application/vnd.rar", ".bin": "application/octet-stream", ".dat": "application/octet-stream",
	".apk": "application/vnd.android.package-archive", ".dmg": "application/x-apple-diskimage", ".exe": "application/vnd.microsoft.portable-executable", ".msi": "application/x-msi",
	".doc": "application/msword", ".xls": "application/vnd.ms-excel", ".ppt": "application/vnd.ms-powerpoint",
	".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}

// known reports whether a name has the extension of an asset, so that it is no route of an app.
func known(name string) bool {
	_, ok := types[strings.ToLower(path.Ext(name))]
	return ok
}

func typeOf(name string) string {
	ext := strings.ToLower(path.Ext(name))
	if kind, ok := types[ext]; ok {
		return kind
	}
	if kind := mime.TypeByExtension(ext); kind != "" {
		return kind
	}
	return "application/octet-stream"
}

// pageOrDocument reports whether a type is a page, and whether a browser that navigates there runs what is in it.
func pageOrDocument(kind string) (page, document bool) {
	kind, _, _ = strings.Cut(kind, ";")
	page = kind == "text/html" || kind == "application/xhtml+xml"
	return page, page || kind == "application/xml" || kind == "text/xml" || strings.HasSuffix(kind, "+xml")
}

// compressible reports whether a type is text; most others are compressed in themselves.
func compressible(kind string) bool {
	kind, _, _ = strings.Cut(kind, ";")
	switch kind {
	case "application/json", "application/json5", "application/xml", "application/yaml", "application/toml", "application/wasm",
		"application/vnd.apple.mpegurl", "application/vnd.ms-fontobject", "font/ttf", "font/otf", "image/x-icon", "image/bmp":
		return true
	}
	return strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "+json") || strings.HasSuffix(kind, "+xml")
}

// worker matches service workers. Their address stays, and so must a browser's way to a newer one.
var worker = regexp.MustCompile(`(?i)^(.*[-_.])?(sw|service-?_?worker|ngsw(-worker)?)([-_.].*)?\.m?js$`)

var (
	// built are the types of files that bundlers name by a hash. Documents and data are not among them.
	built = regexp.MustCompile(`\.(m?js|css|woff2?|ttf|otf|eot|svg|png|jpe?g|gif|webp|avif|ico|wasm|mp4|webm|mp3|ogg)$`)
	// output are the folders that bundlers put such files into.
	output = regexp.MustCompile(`(^|/)(assets|_astro|_nuxt|static|build|dist)/`)
	code   = regexp.MustCompile(`\.(m?js|css)$`)
	// late are parts of a name that come after the hash.
	late = regexp.MustCompile(`\.(chunk|bundle|min|async|module|worker)$`)

	hexHash    = regexp.MustCompile(`[-.]([0-9a-f]{8,64})$`)
	uuid       = regexp.MustCompile(`(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	upperHash  = regexp.MustCompile(`[-.]([A-Z2-7]{8})$`)                                               // esbuild: base32
	upperOfOld = regexp.MustCompile(`^(main|polyfills|styles|scripts|chunk)-[A-Z2-7]{8}$`)              // Angular, by name
	mixedHash  = regexp.MustCompile(`[-.]([0-9A-Za-z_-]{8})$`)                                          // Rollup, Vite: base64url
	astroImage = regexp.MustCompile(`(^|/)_astro/[^/]+\.[0-9A-Za-z_-]{8}_[0-9A-Za-z]{4,7}\.[a-z0-9]+$`) // and its options
	bareHash   = regexp.MustCompile(`^([0-9a-f]{16}|[0-9a-f]{20}|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})$`)
	vowel      = regexp.MustCompile(`[aeiouy]`)
	cluster    = regexp.MustCompile(`[^aeiouy]{3}`)
	spoken     = regexp.MustCompile(`^(https?|html?|css|svg|xml|sql|grpc|dns|tls|ssh|png|jpg|pdf|csv|gltf|mqtt|jwt)$|` + // letter by letter
		`str|spr|scr|spl|thr|shr|phr|sch|chr|ntr|ldr|ndr|mpl|mpr|mbl|ngl|ntl|rtl|ttl|ttr|ddl|ckl|ppl|ffl|bbl|ggl|rch|tch|nch|lch|nst|rst|` +
		`ght|nth|rth|lth|ngth|(ck|ff|ll|ss|pp|nt|nd|ng|nk|rt|rd|rk|rm|rn|rl|lt|ld|lk|lm|st|ct|pt|mp|sh|th|ch)s`)
	spelled  = regexp.MustCompile(`(?i)i18n|l10n|a11y|k8s|ios|oauth2?|base64|utf8|web3|html5|es20[0-9]{2}`) // words with digits in them
	hump     = regexp.MustCompile(`[A-Z][a-z]*`)
	numbered = regexp.MustCompile(`^([A-Za-z]+[0-9]{1,4}|[0-9]{1,4}[A-Za-z]+)$`)
)

// hashedName reports whether a bundler put a hash of the content into the name. A file that is taken for one by
// mistake is never asked for again, while one that is missed costs a short answer; so in doubt it is not.
func hashedName(name string) bool {
	if strings.HasPrefix(name, "_next/static/") || strings.Contains(name, "_app/immutable/") {
		return !strings.HasSuffix(name, ".html") // Next and SvelteKit say so of the whole folder
	}
	base := path.Base(name)
	if !built.MatchString(base) {
		return false
	}
	if astroImage.MatchString(name) {
		return true
	}
	stem := strings.TrimSuffix(base, path.Ext(base))
	for late.MatchString(stem) {
		stem = strings.TrimSuffix(stem, path.Ext(stem))
	}
	if m := hexHash.FindStringSubmatch(stem); m != nil && !uuid.MatchString(stem) && random(m[1]) {
		return true
	}
	if bareHash.MatchString(stem) && code.MatchString(base) && random(stem) {
		return true
	}
	if m := upperHash.FindStringSubmatch(stem); m != nil && random(m[1]) || upperOfOld.MatchString(stem) && code.MatchString(base) {
		return true
	}
	if strings.Contains("/"+name, "/_nuxt/") {
		stem = "-" + stem // Nuxt's chunks are named by nothing else
	}
	m := mixedHash.FindStringSubmatch(stem)
	if m == nil {
		return false
	}
	if code.MatchString(base) {
		return changes(m[1]) >= 3 || !wordy(m[1])
	}
	return changes(m[1]) >= 4 || output.MatchString(name) && (changes(m[1]) == 3 || !wordy(m[1]))
}

// random reports whether digits stand among the letters, not just a number before or behind a word (chapter2).
func random(token string) bool {
	return strings.ContainsAny(token, "0123456789") && strings.ContainsFunc(token, isLetter) && !numbered.MatchString(token)
}

func isLetter(c rune) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// changes counts how often a token changes between capitals, small letters and digits, if it has all three. Names do
// that less than hashes: Form2Card changes twice, B1x2y3z4 seven times. A capital before a small letter is no change.
// One with - or _ may be several parts of a name, so it must change much more.
func changes(token string) int {
	var kinds, n, last int
	for _, c := range spelled.ReplaceAllString(token, "") {
		kind := 8
		switch {
		case 'A' <= c && c <= 'Z':
			kind = 1
		case 'a' <= c && c <= 'z':
			kind = 2
		case '0' <= c && c <= '9':
			kind = 4
		}
		if last != 0 && kind != last && (last != 1 || kind != 2) {
			n++
		}
		kinds, last = kinds|kind, kind
	}
	if kinds&7 != 7 || kinds&8 != 0 && n < 6 {
		return 0
	}
	return n
}

// wordy reports whether a token without digits may be words: MainPage, VERTICAL, settings. One with capitals where no
// word has them, or with a part that cannot be spoken, is none: DiwrgTda, kQzTbXwm.
func wordy(token string) bool {
	if strings.ContainsFunc(token, func(c rune) bool { return !isLetter(c) }) {
		return true // digits are the business of others
	}
	humps := hump.FindAllString(token, -1)
	lead := hump.ReplaceAllString(token, "")
	if len(humps) < 2 && (lead == "" || len(humps) == 0) {
		return true // one word
	}
	single := 0
	for _, h := range humps {
		if len(h) == 1 {
			single++
		}
	}
	if lead != "" && len(humps) == 1 || single > 0 && single == len(humps) {
		return true // camelCase of two words, or capitals only
	}
	for _, h := range humps {
		if low := spoken.ReplaceAllString(strings.ToLower(h), "a"); len(h) > 1 && (!vowel.MatchString(low) || cluster.MatchString(low)) {
			return false
		}
	}
	return single < 3
}
