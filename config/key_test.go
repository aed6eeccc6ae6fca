package config

import (
	"bytes"
	"encoding/base64"
	"fmt"
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

func TestWriteKeyFileFollowsALink(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "key"), filepath.Join(dir, "link")
	if err := os.Symlink("key", link); err != nil {
		t.Skip("skipped: needs symbolic links")
	}
	want := []Secret{NewKey()}
	for range 2 { // the file is made, then replaced
		if err := WriteKeyFile(path, want); err != nil {
			t.Fatal(err)
		}
		want = append(want, NewKey())
		if err := WriteKeyFile(link, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := KeyFile(path)
	if err != nil || len(got) != len(want) {
		t.Errorf("%d keys, %v", len(got), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v", err)
	}
}

// Only root can give a file away, so only root can test that it does.
func TestWriteKeyFileKeepsTheOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := WriteKeyFile(path, []Secret{NewKey()}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Skip("skipped: needs root")
	}
	if err := WriteKeyFile(path, []Secret{NewKey(), NewKey()}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || !strings.Contains(fmt.Sprintf("%+v", info.Sys()), "Uid:12345") || info.Mode().Perm() != 0o600 {
		t.Errorf("%+v %v", info.Sys(), err)
	}
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	first, err := TokenFile(path)
	if err != nil || len(first.Reveal()) < 40 {
		t.Fatal(len(first.Reveal()), err)
	}
	if again, err := TokenFile(path); err != nil || again.Reveal() != first.Reveal() {
		t.Errorf("another token: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	for _, bad := range []string{"", "hunter2", "a token of several words"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := TokenFile(path); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := TokenFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("%v", err)
	}
}
