package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// base is the smallest configuration, to be changed by tests.
const base = `frontends:
  - url: https://app.example.com
    providers:
      - {issuer: "https://op.example.com/", client_id: app, client_secret: hunter2}
    routes:
      - {path: /, upstream: "http://127.0.0.1:3000"}
`

// sameSecrets compares configurations; reflect would follow the secrets' pointers, cmp does not without it.
var sameSecrets = cmp.Options{
	cmp.Comparer(func(a, b Secret) bool { return a.Reveal() == b.Reveal() }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func mustParse(t *testing.T, text string) Config {
	t.Helper()
	c, err := Parse("test.yaml", []byte(text), Lookup{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantOf is the problem that a file in testdata/bad announces in its first line.
func wantOf(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(data), "\n")
	want, ok := strings.CutPrefix(first, "# want: ")
	if !ok {
		t.Fatalf("%s does not begin with # want:", path)
	}
	return want
}

func glob(t *testing.T, pattern string, least int) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) < least {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	return files
}

// Each file in testdata/bad breaks one rule; its first line is the one problem that must be found.
func TestBadFiles(t *testing.T) {
	for _, path := range glob(t, "testdata/bad/*.yaml", 150) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			want := path + ":" + wantOf(t, path)
			_, err := Load(path)
			if err == nil {
				t.Fatal("no error")
			}
			if err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if strings.Contains(strings.TrimPrefix(err.Error(), path), "hunter2") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestGoodFiles(t *testing.T) {
	t.Setenv("CLIENT_SECRET", "from-the-environment")
	t.Setenv("CLOAKROOM_KEY", NewKey().Reveal())
	for _, path := range glob(t, "testdata/good/*.yaml", 9) {
		c, err := Load(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: valid in its file, but not as a struct: %v", path, err)
		}
		if diff := cmp.Diff(c, c.WithDefaults(), sameSecrets); diff != "" {
			t.Errorf("%s: Load left defaults out: %s", path, diff)
		}
		if got := c.Frontends[0].Providers[0].ClientSecret.Reveal(); got == "" || strings.Contains(got, "$") {
			t.Errorf("%s: the client secret was not expanded", path)
		}
	}
}

func TestValues(t *testing.T) {
	t.Setenv("CLIENT_SECRET", "s")
	c, err := Load("testdata/good/several.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got := []any{
		c.TrustedProxies[1].String(), len(c.Frontends), c.Frontends[0].Providers[1].Name, c.Frontends[0].Session.SameSite,
		c.Frontends[1].HasLoginPage(), c.Frontends[0].HasLoginPage(), c.Frontends[1].Host(), c.Frontends[1].Secure(),
		c.Frontends[1].Routes[2].Methods, c.Frontends[2].Routes[4].Files, c.Frontends[2].Session.Cookie,
		c.Frontends[0].Providers[0].HasRedirectLogin(),
	}
	want := []any{
		"2001:db8::/32", 3, "staff", "lax", false, true, "office.example.com:8443", true,
		[]string{"GET", "POST", "PUT", "DELETE"},
		filepath.Join("testdata", "good", "app"), "__Host-office", true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAllProblemsAtOnceInOrder(t *testing.T) {
	_, err := Parse("x/c.yaml", []byte(`listen: nowhere
lisen: ":1"
frontends:
  - url: http://app.example.com
    session: {idle_timeout: soon, lifetime: 500d}
    providers:
      - {issuer: here, client_secret: "${env:CLOAKROOM_TEST_UNSET}"}
    routes: everything
`), Lookup{})
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatal(err)
	}
	var got []string
	for _, p := range problems {
		if p.Pos.File != "x/c.yaml" || p.Problem == "" || p.Mend == "" {
			t.Errorf("incomplete: %+v", p)
		}
		got = append(got, fmt.Sprintf("%d:%d %s", p.Pos.Line, p.Pos.Column, p.Path))
	}
	want := []string{
		"1:1 listen", "2:1 ", "4:5 frontends[0].url", "5:15 frontends[0].session.idle_timeout", "5:35 frontends[0].session.lifetime",
		"7:9 frontends[0].providers[0].client_id", "7:10 frontends[0].providers[0].issuer", "7:24 frontends[0].providers[0].client_secret",
		"8:5 frontends[0].routes",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestExpand(t *testing.T) {
	env := map[string]string{"A": "a", "EMPTY": "", "NESTED": "${env:A}", "DAYS": "3d", "RANGE": "10.0.0.0/8"}
	files := map[string]string{
		"dir/one": "1\n", "dir/two": "2\n\n", "dir/dos": "3\r\n", "/abs": "4", "dir/nested": "${env:A}", "dir/big": strings.Repeat("x", maxSecret+1),
	}
	lookup := Lookup{
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		File: func(path string) ([]byte, error) {
			switch v, ok := files[filepath.ToSlash(path)]; {
			case ok:
				return []byte(v), nil
			case path == "/forbidden":
				return nil, fmt.Errorf("open hunter2: %w", fs.ErrPermission)
			}
			return nil, fmt.Errorf("open %s: %w", path, fs.ErrNotExist)
		},
	}
	for _, c := range []struct{ in, want, problem string }{
		{"plain", "plain", ""},
		{"${env:A}", "a", ""},
		{"x${env:A}y${env:A}${env:EMPTY}z", "xayaz", ""},
		{"${file:one}", "1", ""},
		{"${file:two}", "2\n", ""},
		{"${file:dos}", "3", ""},
		{"${file:/abs}", "4", ""},
		{"${file:./one}-${env:A}", "1-a", ""},
		{"${env:NESTED}", "${env:A}", ""},
		{"${file:nested}", "${env:A}", ""},
		{"$env:A", "$env:A", ""},
		{"$", "$", ""},
		{"a$$b}", "a$$b}", ""},
		{"${env:B}", "", "needs the environment variable B, which is not set"},
		{"${file:none}", "", "needs the file none, which does not exist"},
		{"${file:/forbidden}", "", "needs the file /forbidden, which this user may not read"},
		{"${file:big}", "", "needs the file big, which is bigger than 64 KiB"},
		{"${}", "", "has a ${ that begins neither ${env:NAME} nor ${file:PATH}"},
		{"${env:}", "", "has a ${ that begins neither ${env:NAME} nor ${file:PATH}"},
		{"${ENV:A}", "", "has a ${ that begins neither ${env:NAME} nor ${file:PATH}"},
		{"${env:A B}", "", "has a ${ that begins neither ${env:NAME} nor ${file:PATH}"},
		{"${env:A", "", "has a ${ that begins neither ${env:NAME} nor ${file:PATH}"},
		{"${file:}", "", "has a ${ that begins neither ${env:NAME} nor ${file:PATH}"},
	} {
		d := newDecoder("dir/c.yaml", lookup)
		got, f := d.expand(c.in)
		problem := ""
		if f != nil {
			problem = f.problem
		}
		if got != c.want || problem != c.problem {
			t.Errorf("%q: got %q, %q; want %q, %q", c.in, got, problem, c.want, c.problem)
		}
	}
	// In every kind of text.
	text := "trusted_proxies: [\"${env:RANGE}\"]\n" + strings.Replace(base, "    routes", "    session: {lifetime: \"${env:DAYS}\"}\n    routes", 1)
	c, err := Parse("dir/c.yaml", []byte(text), lookup)
	if err != nil {
		t.Fatal(err)
	}
	if c.Frontends[0].Session.Lifetime.Std() != 72*time.Hour || c.TrustedProxies[0].Bits() != 8 {
		t.Errorf("%v %v", c.Frontends[0].Session.Lifetime, c.TrustedProxies)
	}
}

func TestRelativePaths(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := certificate(t)
	write("tls/cert.pem", cert)
	write("tls/key.pem", key)
	write("dist/index.html", "app")
	write("secret", "from-the-file\n")
	write("c.yaml", `tls: {cert_file: tls/cert.pem, key_file: tls/key.pem}
store: file:data/sessions.db
frontends:
  - url: https://app.example.com
    providers:
      - {issuer: "https://op.example.com/", client_id: app, client_secret: "${file:secret}"}
    routes:
      - {path: /, files: ./dist}
`)
	c, err := Load(filepath.Join(dir, "c.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.TLS.CertFile, c.TLS.KeyFile, c.Store, c.Frontends[0].Routes[0].Files, c.Frontends[0].Providers[0].ClientSecret.Reveal()}
	want := []string{
		filepath.Join(dir, "tls/cert.pem"), filepath.Join(dir, "tls/key.pem"), "file:" + filepath.Join(dir, "data/sessions.db"),
		filepath.Join(dir, "dist"), "from-the-file",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadCannotRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none.yaml") {
		t.Error(err)
	}
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, []byte(strings.Repeat("# long\n", maxFile/7+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(big); !errors.Is(err, errTooBig) {
		t.Error(err)
	}
	if _, err := Parse("big.yaml", make([]byte, maxFile+1), Lookup{}); err == nil || !strings.Contains(err.Error(), "bigger than 256 KiB") {
		t.Error(err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a folder was read")
	}
}

func TestByteOrderMarkAndAliases(t *testing.T) {
	plain := mustParse(t, base)
	for name, text := range map[string]string{
		"byte order mark": "\ufeff" + base,
		"CRLF":            strings.ReplaceAll(base, "\n", "\r\n"),
		"alias":           strings.Replace(strings.Replace(base, "client_id: app", "client_id: &id app", 1), "hunter2", "hunter2, name: main", 1),
		"document marker": "---\n" + base,
	} {
		if diff := cmp.Diff(plain, mustParse(t, text), sameSecrets); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Aliases of aliases grow fast; the decoder stops.
func TestAliasBomb(t *testing.T) {
	scopes := "&s [" + strings.Repeat("a,", 1000) + "a]"
	text := "frontends:\n  - url: https://app.example.com\n    providers:\n      - &p {scopes: " + scopes + "}\n" + strings.Repeat("      - *p\n", 1000)
	_, err := Parse("c.yaml", []byte(text), Lookup{})
	var problems Problems
	if !errors.As(err, &problems) || !slices.ContainsFunc(problems, func(p Problem) bool { return strings.Contains(p.Problem, "more settings than") }) {
		t.Error("the bomb went off")
	}
}

// The parser recurses: a hostile file of full size must be an error, not the end of the process.
func TestDeepNesting(t *testing.T) {
	for _, open := range []string{"[", "{a: ", "- ", "? ", "&a "} {
		if _, err := Parse("c.yaml", []byte(strings.Repeat(open, 20_000/len(open))), Lookup{}); err == nil {
			t.Errorf("%q nested without an error", open)
		}
	}
}
