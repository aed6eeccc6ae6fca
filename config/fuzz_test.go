package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse wants a valid configuration or problems with positions, and never the value of a secret.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range files {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	for _, key := range []string{"listen", "store", "cache", "keys: [%s]", "trusted_proxies: [%s]", "log: {format: %s}", "limits: {per_account: %s}", "tls: {cert_file: %s}"} {
		if !strings.Contains(key, "%s") {
			key += ": %s"
		}
		f.Add([]byte(strings.Replace(key, "%s", "\"${env:S}\"", 1) + "\n" + base))
		f.Add([]byte(strings.Replace(key, "%s", "\"${file:s}\"", 1) + "\n" + base))
	}
	for _, old := range []string{"https://app.example.com", "\"https://op.example.com/\"", "app,", "hunter2", "/,", "\"http://127.0.0.1:3000\""} {
		f.Add([]byte(strings.Replace(base, old, strings.TrimRight("\"${env:S}\""+old[len(strings.TrimRight(old, ",")):], " "), 1)))
	}
	lookup := Lookup{
		Env: func(name string) (string, bool) { return planted, name == "S" },
		File: func(path string) ([]byte, error) {
			if filepath.Base(path) == "s" {
				return []byte(planted + "\n"), nil
			}
			return nil, fs.ErrNotExist
		},
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 8<<10 || strings.Contains(string(data), planted) {
			return // a longer text is slow, and one that holds the secret itself may show it as a key
		}
		c, err := Parse("testdata/good/fuzz.yaml", data, lookup)
		if err == nil {
			if err := c.Validate(); err != nil {
				t.Fatalf("Parse was content, Validate is not: %v", err)
			}
			return
		}
		if strings.Contains(err.Error(), planted) {
			t.Fatalf("the error shows a secret: %v", err)
		}
		var problems Problems
		if !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("not Problems: %v", err)
		}
		lines := strings.Count(string(data), "\n") + 2
		for _, p := range problems {
			if p.Pos.Line < 1 || p.Pos.Line > lines || p.Pos.Column < 1 || p.Pos.File != "testdata/good/fuzz.yaml" || p.Problem == "" || p.Mend == "" {
				t.Fatalf("incomplete problem %+v", p)
			}
		}
	})
}
