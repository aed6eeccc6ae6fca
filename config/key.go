package config

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// keyBytes is the length of a key of the ring.
const keyBytes = 32

// NewKey makes a key for the ring: 32 random bytes in base64.
func NewKey() Secret {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // it ends the program rather than fail
	return NewSecret(base64.StdEncoding.EncodeToString(key))
}

// errKey says nothing about the value.
var errKey = errors.New("not a key: 32 bytes in base64, as `cloakroom keys new` prints it")

// Key decodes a key of the ring.
func Key(s Secret) ([]byte, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(s.Reveal())
	if err != nil || len(key) != keyBytes || base64.StdEncoding.EncodeToString(key) != s.Reveal() {
		return nil, errKey
	}
	return key, nil
}

// KeyRing takes the items of the setting `keys` apart: each holds one key, or several, one per line, as a file does
// that `cloakroom keys rotate` has worked on.
func KeyRing(items []Secret) []Secret {
	var ring []Secret
	for _, item := range items {
		for key := range strings.FieldsSeq(item.Reveal()) {
			ring = append(ring, NewSecret(key))
		}
	}
	return ring
}

func checkKeys(a at, items []Secret, shared bool) {
	if len(items) == 0 && shared {
		a.say("is empty, and other processes share the store", "give all of them the same key, made with `cloakroom keys new`")
	}
	seen := map[string]bool{}
	for i, item := range items {
		keys := KeyRing([]Secret{item})
		if len(keys) == 0 {
			a.item(i).say("is not 32 bytes in base64", "make one with `cloakroom keys new`")
		}
		for _, k := range keys {
			if _, err := Key(k); err != nil {
				a.item(i).say("is not 32 bytes in base64", "make one with `cloakroom keys new`")
				break
			}
			if seen[k.Reveal()] {
				a.item(i).say("is in the list already", "leave it out")
				break
			}
			seen[k.Reveal()] = true
		}
	}
}

// KeyFile reads the keys in a file that only its owner may read, one per line, the one that seals first; or it makes
// that file with a new key, durably, before it returns. It never overwrites one.
func KeyFile(path string) ([]Secret, error) {
	keys, err := readKeys(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = putKeys(path, []Secret{NewKey()}, os.Link); err == nil || errors.Is(err, fs.ErrExist) { // another process may be faster
			keys, err = readKeys(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return keys, nil
}

// WriteKeyFile replaces the keys in a file, durably and at once: whoever reads it sees the old ones or the new ones.
func WriteKeyFile(path string, keys []Secret) error {
	if err := putKeys(path, keys, os.Rename); err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	return nil
}

func readKeys(path string) ([]Secret, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a plain file", path)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): run `chmod 600 %s`", path, mode, path)
	}
	data, err := io.ReadAll(io.LimitReader(file, 16<<10))
	if err != nil {
		return nil, err
	}
	keys := KeyRing([]Secret{NewSecret(string(data))})
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: %w", path, errKey)
	}
	for _, k := range keys {
		if _, err := Key(k); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return keys, nil
}

// putKeys writes the keys beside their place and then puts them there, so that nobody ever reads half a file. With
// os.Link no file is replaced.
func putKeys(path string, keys []Secret, put func(from, to string) error) error {
	draft, err := os.CreateTemp(filepath.Dir(path), ".key-*") // O_EXCL, mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(draft.Name()) }()
	for _, k := range keys {
		_, failed := draft.WriteString(k.Reveal() + "\n")
		err = errors.Join(err, failed)
	}
	if err := errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return err
	}
	if err := put(draft.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a new name in a directory durable.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be opened there
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
