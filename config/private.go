package config

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Files that hold secrets: only their owner may read them, and nobody ever reads half of one.

// TokenFile reads the operator's token in a file that only its owner may read, or makes that file with a new token,
// durably, before it returns. It never overwrites one.
func TokenFile(path string) (Secret, error) {
	data, err := privateFile(path, func() []byte { return []byte(rand.Text() + rand.Text() + "\n") })
	if err != nil {
		return Secret{}, fmt.Errorf("token file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if len(token) < minToken || strings.ContainsAny(token, " \t\r\n") {
		return Secret{}, fmt.Errorf("token file: %s holds no token of at least %d characters on one line; remove it, and one is made", path, minToken)
	}
	return NewSecret(token), nil
}

// privateFile reads a file, or makes it with this content.
func privateFile(path string, content func() []byte) ([]byte, error) {
	data, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = putPrivate(path, content(), os.Link); err == nil || errors.Is(err, fs.ErrExist) { // another process may be faster
			data, err = readPrivate(path)
		}
	}
	return data, err
}

func readPrivate(path string) ([]byte, error) {
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
	return io.ReadAll(io.LimitReader(file, 16<<10))
}

// replacePrivate replaces the content of a file. Where the path is a link, what it leads to is replaced.
func replacePrivate(path string, content []byte) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return putPrivate(path, content, func(draft, path string) error {
		if err := keepOwner(path, draft); err != nil {
			return fmt.Errorf("keeping the owner of %s: %w", path, err)
		}
		return os.Rename(draft, path)
	})
}

// putPrivate writes the content beside its place and then puts it there, so that nobody ever reads half a file. With
// os.Link no file is replaced.
func putPrivate(path string, content []byte, put func(from, to string) error) error {
	draft, err := os.CreateTemp(filepath.Dir(path), ".private-*") // O_EXCL, mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(draft.Name()) }()
	_, err = draft.Write(content)
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
