package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Position is a place in a configuration file. Line and column count from 1.
type Position struct {
	File   string
	Line   int
	Column int
}

// Problem is one mistake. Its words never quote a value, so that a secret in the wrong field stays one.
type Problem struct {
	// Pos is the setting's key in the file, or the key around a missing one. It is zero for an embedder's struct.
	Pos Position
	// Path names the setting, like frontends[0].routes[1].path.
	Path string
	// Problem says what is wrong, Mend what to do.
	Problem string
	Mend    string
}

// String is "file:line:column: problem, mend"; without a file the path stands for the place.
func (p Problem) String() string {
	if p.Pos.Line > 0 {
		return fmt.Sprintf("%s:%d:%d: %s, %s", p.Pos.File, p.Pos.Line, p.Pos.Column, p.Problem, p.Mend)
	}
	return fmt.Sprintf("%s: %s, %s", p.Path, p.Problem, p.Mend)
}

// Problems is every mistake of a configuration at once; never empty when it is returned as an error.
type Problems []Problem

// Error has a line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// at is the place of a setting; what is said there goes to the list.
type at struct {
	path string
	to   *Problems
}

func (a at) key(name string) at {
	if a.path != "" {
		name = a.path + "." + name
	}
	return at{name, a.to}
}

func (a at) item(i int) at { return at{fmt.Sprintf("%s[%d]", a.path, i), a.to} }

// name is the last step of the path.
func (a at) name() string { return a.path[strings.LastIndexByte(a.path, '.')+1:] }

func (a at) say(problem, mend string) {
	*a.to = append(*a.to, Problem{Path: a.path, Problem: cmp.Or(a.name(), "the file") + " " + problem, Mend: mend})
}

// tags walks over a struct and checks what its fields' tags say:
//
//	words:"a b"  an empty text or one of these words
//	later:"c d"  words that the design names and this version does not have
//	later:"*"    the same of the whole setting
//
// What is not built is refused, not ignored: who wrote it relies on it.
func (a at) tags(section any) { a.walk(reflect.ValueOf(section)) }

func (a at) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			a.walk(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			a.item(i).walk(v.Index(i))
		}
	case reflect.Struct:
		for field, value := range v.Fields() {
			if key := field.Tag.Get("yaml"); key != "" {
				a.key(key).field(field.Tag, value)
			}
		}
	default:
	}
}

func (a at) field(tag reflect.StructTag, v reflect.Value) {
	words, later := tag.Get("words"), tag.Get("later")
	switch {
	case later == "*":
		if empty := v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0; !empty {
			a.say("is not built yet in this version", "leave it out")
		}
	case words != "":
		switch word, known := v.String(), strings.Fields(words); {
		case word == "" || slices.Contains(known, word):
		case slices.Contains(strings.Fields(later), word):
			a.say("names what is not built yet in this version", "write "+or(known))
		default:
			a.say("is none of the known words", "write "+or(known))
		}
	default:
		a.walk(v)
	}
}

// or joins words as people do.
func or(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
