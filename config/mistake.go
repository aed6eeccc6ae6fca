package config

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// scalars says what is wrong with a text that is not of its type.
var scalars = map[reflect.Type]fault{
	reflect.TypeFor[Duration]():     {"is not a duration", "write it like 90s, 15m, 12h or 30d"},
	reflect.TypeFor[Size]():         {"is not a size", "write it like 512KiB, 64MiB or 1GiB"},
	reflect.TypeFor[Rate]():         {"is not a rate", "write it like 10/15m"},
	reflect.TypeFor[Count]():        {"is not a whole number", "write it in digits, like 512"},
	reflect.TypeFor[netip.Prefix](): {"is not an address range", "write it like 10.0.0.0/8, or 10.0.0.1/32 for one address"},
}

// say adds a problem at the place of a setting.
func (d *decoder) say(path, problem, mend string) {
	before := len(d.problems)
	at{path, &d.problems}.say(problem, mend)
	d.problems[before].Pos = d.nearest(path)
}

// place adds a problem at a key that has no setting.
func (d *decoder) place(path string, pos Position, problem, mend string) {
	d.problems = append(d.problems, Problem{Pos: pos, Path: path, Problem: problem, Mend: mend})
}

func (d *decoder) syntax(pos Position, problem, mend string) { d.place("", pos, problem, mend) }

// add takes over what Validate found, at its place in the file, without what only follows from an earlier problem.
func (d *decoder) add(found Problems) {
	before := d.problems
	for _, p := range found {
		follows := slices.ContainsFunc(before, func(earlier Problem) bool {
			return earlier.Path != "" && (p.Path == earlier.Path || inside(p.Path, earlier.Path) || strings.HasPrefix(earlier.Path, p.Path+"["))
		})
		if !follows {
			p.Pos = d.nearest(p.Path)
			d.problems = append(d.problems, p)
		}
	}
}

// inside reports whether a path is below another one.
func inside(path, outer string) bool {
	return strings.HasPrefix(path, outer+".") || strings.HasPrefix(path, outer+"[")
}

// nearest is the position of a setting, or of the closest one around it that is in the file.
func (d *decoder) nearest(path string) Position {
	for {
		if pos, ok := d.at[path]; ok {
			return pos
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// position is where a person would point to for a node: a mapping is at its first key.
func (d *decoder) position(n ast.Node) Position {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if n == nil || n.GetToken() == nil {
		return Position{d.name, 1, 1}
	}
	p := n.GetToken().Position
	return Position{d.name, p.Line, p.Column}
}

// unknown tells of a key that no setting has. The key is named only if it looks like one: it may be a secret that
// lost its own key.
func (d *decoder) unknown(path, key string, pos Position, section reflect.Type) {
	var keys []string
	for field := range section.Fields() {
		if known := field.Tag.Get("yaml"); known != "" {
			keys = append(keys, known)
		}
	}
	problem := "the key is unknown"
	if len(key) <= 30 && strings.Trim(strings.ToLower(key), "abcdefghijklmnopqrstuvwxyz_-") == "" {
		problem = "the key " + key + " is unknown"
	}
	closest := slices.MinFunc(keys, func(a, b string) int { return distance(key, a) - distance(key, b) })
	if distance(key, closest) <= 2 {
		d.place(path, pos, problem, "did you mean "+closest+"?")
		return
	}
	d.place(path, pos, problem, "known here: "+strings.Join(keys, ", "))
}

// distance counts the edits between two words, without case and with - as _ (Levenshtein).
func distance(a, b string) int {
	a, b = strings.ReplaceAll(strings.ToLower(a), "-", "_"), strings.ReplaceAll(strings.ToLower(b), "-", "_")
	if len(a) > 40 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
