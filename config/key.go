package config

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
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

func checkKeys(a at, keys []Secret) {
	for i, k := range keys {
		if _, err := Key(k); err != nil {
			a.item(i).say("is not 32 bytes in base64", "make one with `cloakroom keys new`")
			continue
		}
		for _, earlier := range keys[:i] {
			if earlier.Reveal() == k.Reveal() {
				a.item(i).say("is in the list already", "leave it out")
				break
			}
		}
	}
}

// KeyFile reads the key in a file that only its owner may read, or makes that file with a new key, durably, before
// it returns. It never overwrites one.
func KeyFile(path string) (Secret, error) {
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = makeKey(path); errors.Is(err, fs.ErrExist) { // another process was faster
			key, err = readKey(path)
		}
	}
	if err != nil {
		return Secret{}, fmt.Errorf("key file: %w", err)
	}
	return key, nil
}

func readKey(path string) (Secret, error) {
	file, err := os.Open(path)
	if err != nil {
		return Secret{}, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return Secret{}, err
	}
	if !info.Mode().IsRegular() {
		return Secret{}, fmt.Errorf("%s is not a plain file", path)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return Secret{}, fmt.Errorf("%s can be read by others (mode %04o): run `chmod 600 %s`", path, mode, path)
	}
	data, err := io.ReadAll(io.LimitReader(file, 1<<10))
	if err != nil {
		return Secret{}, err
	}
	key := NewSecret(string(bytes.TrimSpace(data)))
	if _, err := Key(key); err != nil {
		return Secret{}, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// makeKey writes a new key beside its place and then links it there, so that nobody ever reads half a key and no
// key is replaced.
func makeKey(path string) (Secret, error) {
	key := NewKey()
	draft, err := os.CreateTemp(filepath.Dir(path), ".key-*") // O_EXCL, mode 0600
	if err != nil {
		return Secret{}, err
	}
	defer func() { _ = os.Remove(draft.Name()) }()
	_, err = draft.WriteString(key.Reveal() + "\n")
	if err := errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return Secret{}, err
	}
	if err := os.Link(draft.Name(), path); err != nil {
		return Secret{}, err
	}
	return key, syncDir(filepath.Dir(path))
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
