package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	yaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// decoder fills a Config from YAML and remembers where each setting was written. It goes over the syntax tree by
// itself, because the library's own decoder stops at the first mistake and quotes the source, secrets included.
type decoder struct {
	name     string
	dir      string
	lookup   Lookup
	at       map[string]Position // path of a setting -> its key
	anchors  map[string]ast.Node
	nodes    int
	problems Problems
}

// maxNodes bounds what aliases of aliases can grow to.
const maxNodes = 100_000

// decode reports whether there was a tree to fill c from. Its mistakes are in d.problems.
func (d *decoder) decode(data []byte, c *Config) bool {
	root, ok := d.parse(data)
	if !ok {
		return false
	}
	if root != nil {
		d.value("", root, reflect.ValueOf(c).Elem())
	}
	return len(d.at) > 1 || len(d.problems) == 0 // else nothing of it was understood
}

// parse makes the tree; nil for an empty file.
func (d *decoder) parse(data []byte) (root ast.Node, ok bool) {
	if len(data) > maxFile {
		d.syntax(Position{d.name, 1, 1}, "the file is bigger than 256 KiB", "split off what is not configuration")
		return nil, false
	}
	if !utf8.Valid(data) {
		d.syntax(Position{d.name, 1, 1}, "the file is not UTF-8", "save it as UTF-8")
		return nil, false
	}
	if depth(data) > maxDepth {
		d.syntax(Position{d.name, 1, 1}, "the file has brackets that are not closed", "close each [ and {")
		return nil, false
	}
	file, err := parseYAML(bytes.TrimPrefix(data, []byte("\ufeff"))) // some editors put a byte order mark first
	var syntax *yaml.SyntaxError
	switch {
	case errors.As(err, &syntax):
		message, _, _ := strings.Cut(syntax.Message, ": ") // what follows may quote the source
		message = strings.ReplaceAll(message, "\t", "tab")
		p := syntax.Token.Position
		d.syntax(Position{d.name, p.Line, p.Column}, "YAML: "+message, "look at the quotes and the indentation here and above")
		return nil, false
	case err != nil:
		d.syntax(Position{d.name, 1, 1}, "YAML: the file cannot be read", "look at the quotes and the indentation")
		return nil, false
	case len(file.Docs) > 1:
		d.syntax(d.position(file.Docs[1].Body), "a second document begins", "keep one document in the file, without ---")
		return nil, false
	case len(file.Docs) == 0 || file.Docs[0].Body == nil:
		return nil, true
	}
	return file.Docs[0].Body, true
}

// maxDepth is more than any configuration nests. The parser's time and stack grow fast beyond it.
const maxDepth = 100

// depth is the highest number of brackets that are open at once, those in texts and comments included.
func depth(data []byte) int {
	open, deepest := 0, 0
	for _, c := range data {
		switch c {
		case '[', '{':
			open++
			deepest = max(deepest, open)
		case ']', '}':
			open = max(0, open-1)
		}
	}
	return deepest
}

// parseYAML turns a panic of the library into an error: the text is foreign.
func parseYAML(data []byte) (file *ast.File, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = errors.New("the YAML parser failed")
		}
	}()
	return parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
}

func newDecoder(name string, lookup Lookup) *decoder {
	return &decoder{
		name: name, dir: filepath.Dir(name), lookup: lookup,
		at: map[string]Position{"": {name, 1, 1}}, anchors: map[string]ast.Node{},
	}
}

// value fills into from n. The cases are the kinds that the configuration's structs are made of.
func (d *decoder) value(path string, n ast.Node, into reflect.Value) {
	if d.nodes++; d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.say(path, "has more settings than a configuration can have", "use fewer aliases")
		}
		return
	}
	n, ok := d.plain(path, n)
	if !ok {
		return
	}
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		into = into.Elem()
	}
	_, isText := reflect.TypeAssert[encoding.TextUnmarshaler](into.Addr())
	switch {
	case isText || into.Kind() == reflect.String:
		d.text(path, n, into)
	case into.Kind() == reflect.Struct:
		d.mapping(path, n, into)
	case into.Kind() == reflect.Slice:
		d.list(path, n, into)
	default: // bool
		if b, ok := n.(*ast.BoolNode); ok {
			into.SetBool(b.Value)
		} else {
			d.say(path, "is not true or false", "write one of them, without quotes")
		}
	}
}

// plain takes off anchors and follows aliases.
func (d *decoder) plain(path string, n ast.Node) (ast.Node, bool) {
	switch v := n.(type) {
	case *ast.AnchorNode:
		d.anchors[v.Name.GetToken().Value] = v.Value
		return d.plain(path, v.Value)
	case *ast.AliasNode:
		target, ok := d.anchors[v.Value.GetToken().Value]
		if !ok {
			d.say(path, "is an alias without an anchor before it", "write the value out")
		}
		return target, ok // an anchor's value is never an alias or anchor itself
	case *ast.TagNode:
		d.say(path, "has a YAML tag", "leave the ! word out")
		return nil, false
	case *ast.NullNode, nil:
		d.say(path, "has no value", "give it one or leave the key out")
		return nil, false
	}
	return n, true
}

func (d *decoder) list(path string, n ast.Node, into reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.say(path, "is not a list", "write [a, b], or a line with - for each entry")
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		itemPath := fmt.Sprintf("%s[%d]", path, i)
		d.at[itemPath] = d.position(item)
		d.value(itemPath, item, into.Index(i))
	}
}

func (d *decoder) mapping(path string, n ast.Node, into reflect.Value) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		d.say(path, "is not a group of settings", "write key: value lines below it, or {key: value}")
		return
	}
	fields := map[string]reflect.StructField{}
	for field := range into.Type().Fields() {
		if key := field.Tag.Get("yaml"); key != "" {
			fields[key] = field
		}
	}
	seen := map[string]bool{}
	for _, pair := range m.Values {
		key, pos := pair.Key.GetToken().Value, d.position(pair.Key)
		field, known := fields[key]
		switch {
		case pair.Key.IsMergeKey():
			d.place(path, pos, "a merge key (<<) is not supported", "write the settings out")
		case !known:
			d.unknown(path, key, pos, into.Type())
		case seen[key]:
			d.place(path, pos, key+" is there twice", "keep one of them")
		default:
			seen[key] = true
			child := strings.TrimPrefix(path+"."+key, ".")
			d.at[child] = pos
			d.value(child, pair.Value, into.FieldByIndex(field.Index))
			d.set(child, field, into.FieldByIndex(field.Index))
		}
	}
}

// set refuses an empty value where it would silently mean the default.
func (d *decoder) set(path string, field reflect.StructField, v reflect.Value) {
	if field.Tag.Get("rule") == "set" && v.IsZero() && !slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Path == path }) {
		d.say(path, "is empty or zero", "give it a value, or leave it out for the default")
	}
}

// text fills what is written as one scalar.
func (d *decoder) text(path string, n ast.Node, into reflect.Value) {
	var raw string
	switch v := n.(type) {
	case *ast.StringNode:
		raw = v.Value
	case *ast.LiteralNode:
		raw = v.Value.Value
	case *ast.MappingNode, *ast.SequenceNode:
		d.say(path, "is not a text", "write one value, in quotes if it has a colon")
		return
	default: // a number, true, .inf: if a text is meant, it needs quotes
		if into.Kind() == reflect.String || into.Type() == reflect.TypeFor[Secret]() {
			d.say(path, "is not a text", "put it in quotes")
			return
		}
		raw = v.GetToken().Value
	}
	expanded, f := d.expand(raw)
	if f != nil {
		d.say(path, f.problem, f.mend)
		return
	}
	if into.Kind() == reflect.String {
		into.SetString(expanded)
		return
	}
	scalar, _ := reflect.TypeAssert[encoding.TextUnmarshaler](into.Addr()) // value has looked
	if err := scalar.UnmarshalText([]byte(expanded)); err != nil {
		what := scalars[into.Type()]
		d.say(path, what.problem, what.mend)
	}
}
