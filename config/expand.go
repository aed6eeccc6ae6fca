package config

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// expand replaces each ${env:NAME} and ${file:PATH} in a text. What it puts in is not looked at again, so a value
// that holds "${" itself can live in a file. The fault never says more than the name or path.
func (d *decoder) expand(text string) (string, *fault) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		inside, after, closed := strings.Cut(rest, "}")
		kind, name, _ := strings.Cut(inside, ":")
		var value string
		var f *fault
		switch {
		case closed && kind == "env" && isVariable(name):
			value, f = d.variable(name)
		case closed && kind == "file" && name != "" && !strings.ContainsFunc(name, isControl):
			value, f = d.file(name)
		default:
			f = &fault{"has a ${ that begins neither ${env:NAME} nor ${file:PATH}", "write one of these; a value that holds ${ itself goes into a file"}
		}
		if f != nil {
			return "", f
		}
		out.WriteString(value)
		text = after
	}
}

// isVariable reports whether s is a name of the environment: letters, digits and _.
func isVariable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r == '-' || !isHostRune(r) })
}

func (d *decoder) variable(name string) (string, *fault) {
	value, ok := d.lookup.Env(name)
	if !ok {
		return "", &fault{"needs the environment variable " + name + ", which is not set", "set it"}
	}
	return value, nil
}

func (d *decoder) file(name string) (string, *fault) {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(d.dir, path)
	}
	data, err := d.lookup.File(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", &fault{"needs the file " + name + ", which does not exist", "make it"}
	case errors.Is(err, fs.ErrPermission):
		return "", &fault{"needs the file " + name + ", which this user may not read", "change its owner or mode"}
	case errors.Is(err, errTooBig) || len(data) > maxSecret:
		return "", &fault{"needs the file " + name + ", which is bigger than 64 KiB", "name the file that holds only this value"}
	case err != nil:
		return "", &fault{"needs the file " + name + ", which cannot be read", "name a plain file"}
	}
	text := strings.TrimSuffix(string(data), "\n") // editors and echo end a file with a line break that is not meant
	return strings.TrimSuffix(text, "\r"), nil
}
