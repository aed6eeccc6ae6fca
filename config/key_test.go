package config

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestKey(t *testing.T) {
	a, b := NewKey(), NewKey()
	raw, err := Key(a)
	if err != nil || len(raw) != 32 || a.Reveal() == b.Reveal() || bytes.Equal(raw, make([]byte, 32)) {
		t.Fatal(len(raw), err)
	}
	text := a.Reveal()
	for _, bad := range []string{
		"", text[:43], text + "\n", " " + text, text + text, "!" + text[1:], text[:20] + "\n" + text[20:],
		base64.StdEncoding.EncodeToString(make([]byte, 31)), base64.StdEncoding.EncodeToString(make([]byte, 33)), strings.Repeat("A", 42) + "B=",
	} {
		if _, err := Key(NewSecret(bad)); err == nil {
			t.Errorf("%q is no key", bad)
		}
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db.key")
	first, err := KeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	second, err := KeyFile(path)
	if err != nil || second[0].Reveal() != first[0].Reveal() {
		t.Errorf("the key changed: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("files left behind: %v %v", left, err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := KeyFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	for name, content := range map[string]string{"empty": "", "short": "c2hvcnQ=", "long": strings.Repeat("A", 2000)} {
		bad := filepath.Join(dir, name)
		if err := os.WriteFile(bad, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := KeyFile(bad)
		if err == nil || content != "" && strings.Contains(err.Error(), content) {
			t.Errorf("%s: %v", name, err)
		}
		if now, _ := os.ReadFile(bad); string(now) != content {
			t.Errorf("%s was overwritten", name)
		}
	}
	if _, err := KeyFile(dir); err == nil {
		t.Error("a folder was taken for a key")
	}
	if _, err := KeyFile(filepath.Join(dir, "none", "key")); err == nil {
		t.Error("a folder was made")
	}
}

// Processes that start together agree on one key.
func TestKeyFileAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	keys := make([]string, 20)
	var wait sync.WaitGroup
	for i := range keys {
		wait.Go(func() {
			key, err := KeyFile(path)
			if err != nil {
				t.Error(err)
			}
			keys[i] = key[0].Reveal()
		})
	}
	wait.Wait()
	for _, k := range keys {
		if k != keys[0] {
			t.Fatal("two keys")
		}
	}
}

func TestKeyFileHoldsARing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	want := []Secret{NewKey(), NewKey()}
	if err := WriteKeyFile(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := KeyFile(path)
	if err != nil || len(got) != 2 || got[0].Reveal() != want[0].Reveal() || got[1].Reveal() != want[1].Reveal() {
		t.Errorf("%d keys, %v", len(got), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if ring := KeyRing([]Secret{NewSecret(string(data)), NewKey()}); len(ring) != 3 {
		t.Errorf("%d keys", len(ring))
	}
}
