package config

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	yaml "github.com/goccy/go-yaml"
)

func schema(t *testing.T) map[string]any {
	t.Helper()
	var s map[string]any
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// conform checks a value against the few keywords that the schema uses.
func conform(s map[string]any, v any) error {
	kinds := map[reflect.Kind]string{reflect.Map: "object", reflect.Slice: "array", reflect.String: "string", reflect.Bool: "boolean", reflect.Uint64: "integer"}
	if want, ok := s["type"]; ok && kinds[reflect.ValueOf(v).Kind()] != want {
		return fmt.Errorf("%T is not %v", v, want)
	}
	if pattern, ok := s["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(v.(string)) {
		return fmt.Errorf("%q does not match %s", v, pattern)
	}
	if words, ok := s["enum"].([]any); ok && !slices.Contains(words, v) {
		return fmt.Errorf("%q is none of %v", v, words)
	}
	if choices, ok := s["anyOf"].([]any); ok && !slices.ContainsFunc(choices, func(c any) bool { return conform(c.(map[string]any), v) == nil }) {
		return fmt.Errorf("%q is none of %v", v, choices)
	}
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			if err := conform(s["items"].(map[string]any), item); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
	case map[string]any:
		for _, key := range s["required"].([]any) {
			if _, ok := v[key.(string)]; !ok {
				return fmt.Errorf("%s is missing", key)
			}
		}
		for key, member := range v {
			property, ok := s["properties"].(map[string]any)[key].(map[string]any)
			if !ok {
				if s["additionalProperties"] != false {
					return fmt.Errorf("the schema lets unknown keys in")
				}
				return fmt.Errorf("%s is unknown", key)
			}
			if err := conform(property, member); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	return nil
}

func readYAML(t *testing.T, path string) map[string]any {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatal(path, err)
	}
	return v
}

func TestSchemaTakesGoodFiles(t *testing.T) {
	s := schema(t)
	for _, path := range glob(t, "testdata/good/*.yaml", 9) {
		if err := conform(s, readYAML(t, path)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for name, spoil := range map[string]func(v map[string]any){
			"an unknown key":        func(v map[string]any) { v["lisen"] = ":1" },
			"an unknown inner key":  func(v map[string]any) { first(v, "frontends")["nam"] = "x" },
			"an unknown route key":  func(v map[string]any) { first(first(v, "frontends"), "routes")["paths"] = "/" },
			"no frontend":           func(v map[string]any) { delete(v, "frontends") },
			"no issuer":             func(v map[string]any) { delete(first(first(v, "frontends"), "providers"), "issuer") },
			"a number for a text":   func(v map[string]any) { first(v, "frontends")["url"] = 1 },
			"a wrong word":          func(v map[string]any) { v["log"] = map[string]any{"format": "xml"} },
			"a wrong duration":      func(v map[string]any) { first(v, "frontends")["session"] = map[string]any{"lifetime": "30"} },
			"a wrong size":          func(v map[string]any) { v["cache"] = "64MB" },
			"a text for true/false": func(v map[string]any) { first(v, "frontends")["login_page"] = "yes" },
		} {
			v := readYAML(t, path)
			spoil(v)
			if conform(s, v) == nil {
				t.Errorf("%s with %s conforms", path, name)
			}
		}
	}
}

func first(v map[string]any, key string) map[string]any { return v[key].([]any)[0].(map[string]any) }

// Each setting is described, and the schema is as strict as the decoder: what it calls unknown, the schema does, too.
func TestSchemaIsComplete(t *testing.T) {
	s := schema(t)
	if s["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
		t.Error(s["$schema"])
	}
	count := 0
	walkSettings(reflect.TypeFor[Config](), "", func(set setting) {
		at := s
		for step := range strings.SplitSeq(strings.ReplaceAll(set.path, "[]", ".[]"), ".") {
			if step == "[]" {
				at = at["items"].(map[string]any)
			} else if at, _ = at["properties"].(map[string]any)[step].(map[string]any); at == nil {
				t.Errorf("%s is not in the schema", set.path)
				return
			}
		}
		if d, _ := at["description"].(string); len(d) < 10 {
			t.Errorf("%s has no description", set.path)
		}
		count++
	})
	if count < 60 {
		t.Errorf("only %d settings", count)
	}
}
