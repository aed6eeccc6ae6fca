package cloakroom_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The architecture as tests: who may import whom, what the world outside sees, and the habits of CONTRIBUTING.md that
// a machine can check. DESIGN.md section 15 is where the table comes from.

const archModule = "github.com/cloakroom/cloakroom"

// archRanks says how high each room stands. An import may only point to a lower rank, so rooms of one rank never
// know each other. A new package needs a line here.
var archRanks = map[string]int{
	"config": 0, "store": 0, "internal/event": 0, "internal/seal": 0,
	"internal/oidc": 1, "internal/web": 1, "internal/limit": 1, "internal/lean": 1,
	"store/memstore": 1, "store/boltstore": 1, "store/storetest": 1,
	"store/redisstore": 1, "store/pgstore": 1, "internal/testserver": 0, "internal/xconnect": 0,
	"internal/session": 2, "internal/dialect": 2, "internal/page": 2, "internal/upstream": 2,
	"internal/gate":  3,
	"internal/login": 4, "internal/account": 4, "internal/proxy": 4, "internal/admin": 4,
	"": 5, "internal/idp": 5, "internal/demo": 5,
	"cmd/cloakroom": 6, "examples/embed": 6, "examples/store": 6, "examples/forward-auth": 6, "bench": 6, "bench/stores": 6, "e2e/demoop": 6,
}

// TestArchTable: docs/architecture.md shows the same table.
func TestArchTable(t *testing.T) {
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]int{"": archRanks[""]} // "the root package"
	for _, row := range regexp.MustCompile(`(?m)^\| (\d) \| (.*) \|$`).FindAllStringSubmatch(string(text), -1) {
		for _, room := range regexp.MustCompile("(?:^|, |\\) )`([a-z0-9/-]+)`").FindAllStringSubmatch(row[2], -1) {
			shown[room[1]] = int(row[1][0] - '0')
		}
	}
	if diff := cmp.Diff(archRanks, shown); diff != "" {
		t.Error("docs/architecture.md: ", diff)
	}
}

// archDrivers are modules that only the rooms named after them and cmd may bring in: an embedder's binary carries none.
var archDrivers = []string{
	"go.etcd.io/bbolt", "github.com/redis/", "github.com/jackc/", "github.com/prometheus/", "go.opentelemetry.io/", "github.com/spf13/",
}

// archStores are the rooms of the drivers.
var archStores = map[string]bool{"store/boltstore": true, "store/redisstore": true, "store/pgstore": true}

// archNoHTTP are the rooms that never see a browser's request.
var archNoHTTP = []string{"store", "store/memstore", "store/boltstore", "store/redisstore", "store/pgstore", "internal/session", "internal/seal", "internal/dialect"}

var archUpdate = flag.Bool("update", false, "write testdata/api.txt anew")

// archPackage is what `go list -json` says of a package.
type archPackage struct {
	ImportPath string
	Dir        string
	Doc        string
	Imports    []string
	Deps       []string
}

// room is the package's path in the module.
func (p archPackage) room() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, archModule), "/")
}

var archPackages = sync.OnceValues(func() ([]archPackage, error) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports,Deps", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []archPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p archPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

func archList(t *testing.T) []archPackage {
	t.Helper()
	all, err := archPackages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestArchRanks(t *testing.T) {
	for _, p := range archList(t) {
		rank, known := archRanks[p.room()]
		if !known {
			t.Errorf("%s has no rank: give it one in archRanks", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if imported != archModule && !strings.HasPrefix(imported, archModule+"/") {
				continue
			}
			to := strings.TrimPrefix(strings.TrimPrefix(imported, archModule), "/")
			if other, ok := archRanks[to]; ok && other >= rank {
				t.Errorf("%s (rank %d) imports %s (rank %d): an import may only point to a lower rank", p.ImportPath, rank, imported, other)
			}
		}
	}
}

func TestArchDrivers(t *testing.T) {
	for _, p := range archList(t) {
		if r := p.room(); archStores[r] || archRanks[r] == 6 {
			continue
		}
		for _, dep := range p.Deps {
			for _, driver := range archDrivers {
				if strings.HasPrefix(dep, driver) {
					t.Errorf("%s reaches %s: only its own store and cmd may", p.ImportPath, dep)
				}
			}
		}
	}
}

func TestArchNoRequests(t *testing.T) {
	for _, p := range archList(t) {
		if slices.Contains(archNoHTTP, p.room()) && slices.Contains(p.Imports, "net/http") {
			t.Errorf("%s imports net/http: it must not see a browser's request", p.ImportPath)
		}
	}
}

func TestArchDocs(t *testing.T) {
	for _, p := range archList(t) {
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// archSource is one parsed Go file.
type archSource struct {
	path string
	fset *token.FileSet
	file *ast.File
	test bool
}

// archSources parses every Go file of the module, tests included, without testdata and modules of their own.
func archSources(t *testing.T) []archSource {
	t.Helper()
	var all []archSource
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, nested := os.Stat(filepath.Join(path, "go.mod"))
			if name := d.Name(); path != "." && (nested == nil || name == "testdata" || name == "node_modules" || name[0] == '.') {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		all = append(all, archSource{path: path, fset: fset, file: file, test: strings.HasSuffix(path, "_test.go")})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("found only %d Go files", len(all))
	}
	return all
}

func (s archSource) lines(n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1
}

func TestArchSizes(t *testing.T) {
	const maxFunc, maxFile, maxParams = 80, 400, 5
	for _, s := range archSources(t) {
		if s.test || ast.IsGenerated(s.file) {
			continue
		}
		if n := s.fset.File(s.file.Pos()).LineCount(); n > maxFile {
			t.Errorf("%s has %d lines, more than %d", s.path, n, maxFile)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			at := s.fset.Position(f.Pos())
			if n := s.lines(f); n > maxFunc {
				t.Errorf("%s: %s has %d lines, more than %d", at, f.Name.Name, n, maxFunc)
			}
			params, bools := archParams(f.Type)
			if params > maxParams {
				t.Errorf("%s: %s has %d parameters, more than %d", at, f.Name.Name, params, maxParams)
			}
			if bools > 1 {
				t.Errorf("%s: %s has %d bool parameters: a reader cannot tell them apart", at, f.Name.Name, bools)
			}
		}
	}
}

func archParams(f *ast.FuncType) (params, bools int) {
	for _, field := range f.Params.List {
		n := max(1, len(field.Names))
		params += n
		if id, ok := field.Type.(*ast.Ident); ok && id.Name == "bool" {
			bools += n
		}
	}
	return params, bools
}

// Only a programming error at start may panic; http.ErrAbortHandler is net/http's own way to cut an answer off.
func TestArchPanics(t *testing.T) {
	for _, s := range archSources(t) {
		if s.test || strings.HasPrefix(s.path, "store/storetest/") {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Name.Name == "init" || strings.HasPrefix(strings.ToLower(f.Name.Name), "must") {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || !archIs(call.Fun, "", "panic") || len(call.Args) == 1 && archIs(call.Args[0], "http", "ErrAbortHandler") {
					return true
				}
				t.Errorf("%s: %s panics", s.fset.Position(call.Pos()), f.Name.Name)
				return true
			})
		}
	}
}

// Tests wait for what they want to see, not for a while. In a synctest bubble time.Sleep is the clock's handle.
func TestArchSleeps(t *testing.T) {
	for _, s := range archSources(t) {
		if !s.test || archImports(s.file, "testing/synctest") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok && archIs(e, "time", "Sleep") {
				t.Errorf("%s: a test sleeps", s.fset.Position(n.Pos()))
			}
			return true
		})
	}
}

func archIs(e ast.Expr, pkg, name string) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return pkg == "" && e.Name == name
	case *ast.SelectorExpr:
		x, ok := e.X.(*ast.Ident)
		return ok && x.Name == pkg && e.Sel.Name == name
	}
	return false
}

func archImports(f *ast.File, path string) bool {
	return slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+path+`"` })
}

// TestAPI compares what the public packages export with testdata/api.txt, so that no name appears, changes or goes
// without being seen. After a wanted change: go test -run TestAPI -update .
func TestAPI(t *testing.T) {
	var lines []string
	for _, s := range archSources(t) {
		room := filepath.ToSlash(filepath.Dir(s.path))
		if !s.test && archPublic(room) && archNoBuildTag(s.file) {
			lines = append(lines, archExports(s, room)...)
		}
	}
	slices.Sort(lines)
	got := strings.Join(slices.Compact(lines), "\n") + "\n"
	golden := filepath.Join("testdata", "api.txt")
	if *archUpdate {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	was := strings.Split(string(want), "\n")
	for line := range strings.SplitSeq(got, "\n") {
		if !slices.Contains(was, line) {
			t.Errorf("new:  %s", line)
		}
	}
	now := strings.Split(got, "\n")
	for _, line := range was {
		if !slices.Contains(now, line) {
			t.Errorf("gone: %s", line)
		}
	}
	t.Error("the public names changed; if that is wanted: go test -run TestAPI -update .")
}

func archPublic(room string) bool {
	return room == "." || room == "config" || room == "store" || strings.HasPrefix(room, "store/")
}

// archNoBuildTag skips files of one platform, which all export the same.
func archNoBuildTag(f *ast.File) bool {
	for _, c := range f.Comments {
		if strings.HasPrefix(c.List[0].Text, "//go:build") {
			return false
		}
	}
	return true
}

// archExports lists a file's exported names, each on a line with its type.
func archExports(s archSource, room string) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, room+": "+fmt.Sprintf(format, args...)) }
	for _, d := range s.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if !d.Name.IsExported() {
				continue
			}
			if d.Recv == nil {
				add("func %s%s", d.Name.Name, archSignature(s, d.Type))
			} else if recv := archPrint(s, d.Recv.List[0].Type); ast.IsExported(strings.TrimLeft(recv, "*")) {
				add("method (%s) %s%s", recv, d.Name.Name, archSignature(s, d.Type))
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				archSpec(s, d.Tok, spec, add)
			}
		}
	}
	return lines
}

func archSpec(s archSource, tok token.Token, spec ast.Spec, add func(string, ...any)) {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			if name.IsExported() {
				add("%s %s", tok, name.Name)
			}
		}
	case *ast.TypeSpec:
		if !spec.Name.IsExported() {
			return
		}
		switch typ := spec.Type.(type) {
		case *ast.StructType:
			add("type %s struct", spec.Name.Name)
			archFields(s, spec.Name.Name, typ.Fields, add)
		case *ast.InterfaceType:
			add("type %s interface", spec.Name.Name)
			archFields(s, spec.Name.Name, typ.Methods, add)
		default:
			alias := ""
			if spec.Assign.IsValid() {
				alias = "= "
			}
			add("type %s %s%s", spec.Name.Name, alias, archPrint(s, spec.Type))
		}
	}
}

func archFields(s archSource, owner string, fields *ast.FieldList, add func(string, ...any)) {
	for _, f := range fields.List {
		if len(f.Names) == 0 {
			add("%s embeds %s", owner, archPrint(s, f.Type))
		}
		for _, name := range f.Names {
			if !name.IsExported() {
				continue
			}
			if fn, ok := f.Type.(*ast.FuncType); ok {
				add("%s.%s%s", owner, name.Name, archSignature(s, fn))
			} else {
				add("%s.%s %s", owner, name.Name, archPrint(s, f.Type))
			}
		}
	}
}

func archSignature(s archSource, f *ast.FuncType) string {
	return strings.TrimPrefix(archPrint(s, f), "func")
}

func archPrint(s archSource, n ast.Node) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, s.fset, n); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
