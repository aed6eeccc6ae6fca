package config

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
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
	data, err := privateFile(path, func() []byte { return keyLines([]Secret{NewKey()}) })
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	keys := KeyRing([]Secret{NewSecret(string(data))})
	if len(keys) == 0 {
		return nil, fmt.Errorf("key file: %s: %w", path, errKey)
	}
	for _, k := range keys {
		if _, err := Key(k); err != nil {
			return nil, fmt.Errorf("key file: %s: %w", path, err)
		}
	}
	return keys, nil
}

// WriteKeyFile replaces the keys in a file, durably and at once: whoever reads it sees the old ones or the new ones.
// The file keeps its owner.
func WriteKeyFile(path string, keys []Secret) error {
	if err := replacePrivate(path, keyLines(keys)); err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	return nil
}

func keyLines(keys []Secret) []byte {
	var lines []byte
	for _, k := range keys {
		lines = append(lines, k.Reveal()+"\n"...)
	}
	return lines
}
