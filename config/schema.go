package config

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
)

// doc is a setting's comment, taken apart. The table docs is made from the comments by `go generate`.
type doc struct {
	text  string
	value string // what follows "Default:"; "" = required, or a group of settings
}

// reference is the pattern of a text that is only known when the file is read.
const reference = `\$\{(env|file):[^}]+\}`

// patterns are the forms of the scalars.
var patterns = map[reflect.Type]string{
	reflect.TypeFor[Duration]():     `^[0-9]+(s|m|h|d)$`,
	reflect.TypeFor[Size]():         `^[0-9]+(B|KiB|MiB|GiB)$`,
	reflect.TypeFor[Rate]():         `^[0-9]+/[0-9]+(s|m|h|d)$`,
	reflect.TypeFor[netip.Prefix](): `^[0-9A-Fa-f:.]+/[0-9]+$`,
}

// Schema is the JSON Schema (2020-12) of the configuration file, for editors.
func Schema() []byte {
	s := schemaOf(reflect.TypeFor[Config](), "")
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Cloakroom configuration"
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil // maps of strings always marshal
	}
	return out
}

func schemaOf(t reflect.Type, tag reflect.StructTag) map[string]any {
	if pattern, ok := patterns[t]; ok {
		return map[string]any{"type": "string", "pattern": pattern + "|" + reference}
	}
	switch {
	case t == reflect.TypeFor[Count]():
		return map[string]any{"anyOf": []any{map[string]any{"type": "integer", "minimum": 0}, map[string]any{"type": "string", "pattern": "^[0-9]+$|" + reference}}}
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem(), tag)
	case t.Kind() == reflect.Bool:
		return map[string]any{"type": "boolean"}
	case t.Kind() == reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), "")}
	case t == reflect.TypeFor[Secret](), t.Kind() == reflect.String && tag.Get("words") == "":
		return map[string]any{"type": "string"}
	case t.Kind() == reflect.String:
		words := append([]string{""}, strings.Fields(tag.Get("words"))...)
		return map[string]any{"type": "string", "anyOf": []any{map[string]any{"enum": words}, map[string]any{"pattern": reference}}}
	}
	return schemaOfStruct(t)
}

func schemaOfStruct(t reflect.Type) map[string]any {
	properties := map[string]any{}
	required := []string{}
	for field := range t.Fields() {
		key := field.Tag.Get("yaml")
		if key == "" {
			continue
		}
		property := schemaOf(field.Type, field.Tag)
		property["description"] = describe(t.Name()+"."+key, field.Tag)
		properties[key] = property
		if field.Tag.Get("rule") == "required" {
			required = append(required, key)
		}
	}
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties, "required": required}
}

func describe(name string, tag reflect.StructTag) string {
	d := docs[name]
	text := d.text
	if d.value != "" {
		text += " Default: " + d.value + "."
	}
	if tag.Get("later") == "*" {
		text = "Not built yet in this version, leave it out. " + text
	}
	return text
}
