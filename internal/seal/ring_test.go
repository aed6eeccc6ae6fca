package seal

import (
	"bytes"
	"errors"
	"testing"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func ring(t testing.TB, keys ...[]byte) *Ring {
	t.Helper()
	r, err := NewRing(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var here = Context{Purpose: "session", Frontend: "https://app.example", ID: "1", Field: "tokens"}

func TestRingOpensWhatItSealed(t *testing.T) {
	r := ring(t, key(1))
	sealed := r.Seal(here, []byte("secret"))
	if len(sealed) != len("secret")+RingOverhead || bytes.Contains(sealed, []byte("secret")) {
		t.Errorf("%d bytes", len(sealed))
	}
	if plain, err := r.Open(here, sealed); err != nil || string(plain) != "secret" {
		t.Errorf("%q %v", plain, err)
	}
	if bytes.Equal(sealed, r.Seal(here, []byte("secret"))) {
		t.Error("sealing twice gives the same bytes")
	}
}

// Each changed bit, each other context and each other key gives the same one error.
func TestNothingElseOpens(t *testing.T) {
	r := ring(t, key(1))
	sealed := r.Seal(here, []byte("secret"))
	for i := range sealed {
		for bit := range 8 {
			changed := bytes.Clone(sealed)
			changed[i] ^= 1 << bit
			if _, err := r.Open(here, changed); !errors.Is(err, ErrOpen) {
				t.Fatalf("byte %d bit %d: %v", i, bit, err)
			}
		}
	}
	for n := range sealed {
		if _, err := r.Open(here, sealed[:n]); !errors.Is(err, ErrOpen) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	for _, c := range []Context{
		{},
		{"session", "https://app.example", "1", "list"},
		{"session", "https://app.example", "2", "tokens"},
		{"session", "https://app.example1", "", "tokens"},
		{"transaction", "https://app.example", "1", "tokens"},
	} {
		if _, err := r.Open(c, sealed); !errors.Is(err, ErrOpen) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := ring(t, key(2)).Open(here, sealed); !errors.Is(err, ErrOpen) {
		t.Errorf("another key: %v", err)
	}
}

func TestKeysRotate(t *testing.T) {
	old := ring(t, key(1))
	sealed, index := old.Seal(here, []byte("x")), old.Index("subject", "a", "b")
	both := ring(t, key(2), key(1))
	if plain, err := both.Open(here, sealed); err != nil || string(plain) != "x" {
		t.Errorf("%q %v", plain, err)
	}
	if all := both.Indexes("subject", "a", "b"); len(all) != 2 || all[1] != index || all[0] != both.Index("subject", "a", "b") {
		t.Errorf("%v", all)
	}
	if _, err := old.Open(here, both.Seal(here, []byte("x"))); !errors.Is(err, ErrOpen) {
		t.Error("the first key does not seal")
	}
}

func TestIndexPartsDoNotRunTogether(t *testing.T) {
	r := ring(t, key(1))
	seen := map[string]bool{}
	for _, parts := range [][]string{{"ab", "c"}, {"a", "bc"}, {"abc"}, {"abc", ""}, {"", "abc"}} {
		seen[r.Index("p", parts...)] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d different indexes of 5", len(seen))
	}
}

func TestSealWith(t *testing.T) {
	k := Derive([]byte("0123456789abcdef"), "label", "part")
	if k == Derive([]byte("0123456789abcdef"), "label", "other") {
		t.Error("the part does not matter")
	}
	sealed := SealWith(k, here, []byte("x"))
	if plain, err := OpenWith(k, here, sealed); err != nil || string(plain) != "x" {
		t.Errorf("%q %v", plain, err)
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := OpenWith(k, here, sealed); !errors.Is(err, ErrOpen) {
		t.Errorf("%v", err)
	}
}

func TestBadKeys(t *testing.T) {
	for _, keys := range [][][]byte{nil, {nil}, {key(1), []byte("short")}} {
		if _, err := NewRing(keys...); err == nil {
			t.Errorf("%d keys were taken", len(keys))
		}
	}
}

func FuzzOpen(f *testing.F) {
	r := ring(f, key(1))
	f.Add(r.Seal(here, []byte("x")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		plain, err := r.Open(here, sealed)
		if err != nil && !errors.Is(err, ErrOpen) {
			t.Fatal(err)
		}
		if err == nil && string(plain) != "x" {
			t.Fatalf("%q", plain)
		}
	})
}
