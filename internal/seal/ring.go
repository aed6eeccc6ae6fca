// Package seal protects bytes at rest: a key ring whose first key seals and whose keys all open, and the same with
// a single key. Everything is AES-256-GCM; what a sealed thing is for is part of it, so that it opens nowhere else.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrOpen is the one error of everything that cannot be opened: unknown key, changed bytes, another context. Which
// of them it was would help only whoever changed the bytes.
var ErrOpen = errors.New("seal: cannot be opened")

// Context says what sealed bytes are and where they belong. It is authenticated, not stored.
type Context struct{ Purpose, Frontend, ID, Field string }

// data is the context as associated data. Each part carries its length: joined without, two contexts could be one.
func (c Context) data() []byte {
	return join("cloakroom seal v1", c.Purpose, c.Frontend, c.ID, c.Field)
}

func join(parts ...string) []byte {
	n := 0
	for _, p := range parts {
		n += 4 + len(p)
	}
	b := make([]byte, 0, n)
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p))) //nolint:gosec // no part comes near 4 GiB
		b = append(b, p...)
	}
	return b
}

const (
	keySize   = 32
	nameSize  = 4
	saltSize  = 16
	nonceSize = 12
	tagSize   = 16
	version   = 1
	// RingOverhead is how many bytes Ring.Seal adds.
	RingOverhead = 1 + nameSize + saltSize + tagSize
	// Overhead is how many bytes SealWith adds.
	Overhead = nonceSize + tagSize
)

// Ring is a key ring: the first key seals, all open.
type Ring struct{ keys []ringKey }

type ringKey struct {
	name  [nameSize]byte // tells which key sealed, and nothing about it
	seal  []byte
	index []byte
}

// NewRing makes a ring of 32-byte keys.
func NewRing(keys ...[]byte) (*Ring, error) {
	if len(keys) == 0 {
		return nil, errors.New("seal: a key ring needs a key")
	}
	r := &Ring{}
	for i, k := range keys {
		if len(k) != keySize {
			return nil, fmt.Errorf("seal: key %d has %d bytes, not %d", i, len(k), keySize)
		}
		name := Derive(k, "cloakroom key name v1")
		sealing, index := Derive(k, "cloakroom key seal v1"), Derive(k, "cloakroom key index v1")
		r.keys = append(r.keys, ringKey{name: [nameSize]byte(name[:nameSize]), seal: sealing[:], index: index[:]})
	}
	return r, nil
}

// Seal seals plain under a key of its own, derived from the first key and a random salt, so that no number of
// objects comes near the bound of random nonces. Form: version, key name, salt, ciphertext and tag.
func (r *Ring) Seal(c Context, plain []byte) []byte {
	k := r.keys[0]
	out := make([]byte, 1+nameSize+saltSize, RingOverhead+len(plain))
	out[0] = version
	copy(out[1:], k.name[:])
	salt := out[1+nameSize:]
	rand.Read(salt)
	return k.object(salt).Seal(out, zeroNonce[:], plain, c.data())
}

// zeroNonce is fine where a key seals once only.
var zeroNonce [nonceSize]byte

// Open opens what Seal of a ring with the same key made in the same context.
func (r *Ring) Open(c Context, sealed []byte) ([]byte, error) {
	if len(sealed) < RingOverhead || sealed[0] != version {
		return nil, ErrOpen
	}
	name, salt, rest := sealed[1:1+nameSize], sealed[1+nameSize:1+nameSize+saltSize], sealed[1+nameSize+saltSize:]
	for _, k := range r.keys {
		if string(k.name[:]) != string(name) {
			continue
		}
		if plain, err := k.object(salt).Open(nil, zeroNonce[:], rest, c.data()); err == nil {
			return plain, nil
		}
	}
	return nil, ErrOpen
}

// Current reports whether Seal would use the same key today. What it does not know is not current.
func (r *Ring) Current(sealed []byte) bool {
	return len(sealed) >= RingOverhead && sealed[0] == version && string(sealed[1:1+nameSize]) == string(r.keys[0].name[:])
}

// Keys is how many keys the ring has.
func (r *Ring) Keys() int { return len(r.keys) }

// Names are the ring's keys as they appear in what they sealed, the one that seals first. They tell nothing of a key.
func (r *Ring) Names() []string {
	names := make([]string, len(r.keys))
	for i, k := range r.keys {
		names[i] = hex.EncodeToString(k.name[:])
	}
	return names
}

// NameIn is the name of the key that sealed these bytes, "" if they are not of a form that is known.
func NameIn(sealed []byte) string {
	if len(sealed) < RingOverhead || sealed[0] != version {
		return ""
	}
	return hex.EncodeToString(sealed[1 : 1+nameSize])
}

// NameOf is the name of the key that made an index value, "" if it is none.
func NameOf(index string) string {
	raw, err := base64.RawURLEncoding.DecodeString(index)
	if err != nil || len(raw) != nameSize+sha256.Size {
		return ""
	}
	return hex.EncodeToString(raw[:nameSize])
}

// object is the key of one object.
func (k ringKey) object(salt []byte) cipher.AEAD {
	return aead(must(hkdf.Key(sha256.New, k.seal, salt, "cloakroom object v1", keySize)))
}

func aead(key []byte) cipher.AEAD {
	return must(cipher.NewGCM(must(aes.NewCipher(key))))
}

// must is for calls that fail only for lengths that are fixed here.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Index is a keyed hash by the first key: the same parts give the same index, which tells nothing of them. It
// begins with the key's name.
func (r *Ring) Index(purpose string, parts ...string) string {
	return r.keys[0].hash(purpose, parts)
}

// Indexes is Index by every key, first key first: what was indexed under an older key is found, too.
func (r *Ring) Indexes(purpose string, parts ...string) []string {
	all := make([]string, len(r.keys))
	for i, k := range r.keys {
		all[i] = k.hash(purpose, parts)
	}
	return all
}

func (k ringKey) hash(purpose string, parts []string) string {
	m := hmac.New(sha256.New, k.index)
	m.Write(join(append([]string{purpose}, parts...)...))
	return base64.RawURLEncoding.EncodeToString(append(k.name[:], m.Sum(nil)...))
}

// Derive makes a key from a secret of at least 128 bits of chance (HKDF-SHA256, RFC 5869).
func Derive(secret []byte, label string, parts ...string) [keySize]byte {
	info := string(join(append([]string{label}, parts...)...))
	return [keySize]byte(must(hkdf.Key(sha256.New, secret, nil, info, keySize)))
}

// SealWith seals plain under one key, with a random nonce in front. For keys that seal few objects.
func SealWith(key [keySize]byte, c Context, plain []byte) []byte {
	out := make([]byte, nonceSize, Overhead+len(plain))
	rand.Read(out)
	return aead(key[:]).Seal(out, out, plain, c.data())
}

// OpenWith opens what SealWith made with the same key in the same context.
func OpenWith(key [keySize]byte, c Context, sealed []byte) ([]byte, error) {
	if len(sealed) < Overhead {
		return nil, ErrOpen
	}
	plain, err := aead(key[:]).Open(nil, sealed[:nonceSize], sealed[nonceSize:], c.data())
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}
