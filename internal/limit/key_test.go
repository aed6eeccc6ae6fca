package limit

import (
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestAccountSpellings(t *testing.T) {
	same := [][]string{
		{
			"ann@example.com", "ANN@EXAMPLE.COM", "  Ann@Example.com\t\n", "\uff41nn@example.com", "ann@example.com\u00a0",
			"an\u200bn@example.com", "\ufeffann@example.com", "a\u00adnn@example.com", "ann\ufe0f@example.com",
		},
		{"straße", "STRASSE", "Strasse", "strasse"},
		{"\u00e9", "\u00c9", "e\u0301", "E\u0301"},
		{"\ufb01n", "FIN", "fin"},
		{"ὀδυσσεύς", "ὈΔΥΣΣΕΎΣ"},
		{"k", "K", "\u212a"}, // the Kelvin sign
		{"", " ", "\u200b"},
	}
	seen := map[string]string{}
	for _, group := range same {
		want := Account("main", group[0])
		for _, name := range group {
			if Account("main", name) != want {
				t.Errorf("%+q and %+q are two accounts (%+q, %+q)", name, group[0], fold(name), fold(group[0]))
			}
		}
		if other, ok := seen[want]; ok {
			t.Errorf("%q and %q are one account", group[0], other)
		}
		seen[want] = group[0]
	}
	if Account("main", "ann") == Account("other", "ann") {
		t.Error("two providers share an account")
	}
	if Account("a", "bc") == Account("ab", "c") {
		t.Error("provider and name run into each other")
	}
	if Account("main", "a b") == Account("main", "ab") {
		t.Error("inner spaces are dropped")
	}
}

func TestAccountHidesTheName(t *testing.T) {
	key := Account("main", "ann@example.com")
	if len(key) != 43 || strings.Contains(key, "ann") || strings.Contains(key, "main") {
		t.Errorf("key %q", key)
	}
	if long := Account("main", strings.Repeat("x", 1<<20)); len(long) != 43 {
		t.Errorf("a long name makes a key of %d bytes", len(long))
	}
}

func TestPropertyFold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.String().Draw(rt, "name")
		folded := fold(s)
		if again := fold(folded); again != folded {
			rt.Fatalf("fold(%+q) = %+q, and again %+q", s, folded, again)
		}
		if lower := fold(strings.ToLower(s)); strings.ToLower(strings.ToUpper(s)) == s && lower != folded {
			rt.Fatalf("%+q: lower case is another account", s)
		}
	})
}

func FuzzAccount(f *testing.F) {
	for _, s := range []string{"ann", "\xff\xfe", "\u0345\u0300", "İ", "ΐ", "\u1e9e", "a\u034f\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		folded := fold(s)
		if utf8.ValidString(s) && fold(folded) != folded {
			t.Errorf("fold(%+q) = %+q, and again %+q", s, folded, fold(folded))
		}
		if Account("p", s) != Account("p", " "+s+"\u200b") {
			t.Errorf("%+q: space around it makes another account", s)
		}
	})
}

func TestAddress(t *testing.T) {
	for _, c := range []struct{ a, want string }{
		{"192.0.2.1", "192.0.2.1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
		{"2001:db8:1:2::", "2001:db8:1:2::/64"},
		{"fe80::1%eth0", "fe80::/64"},
		{"::1", "::/64"},
	} {
		if got := Address(netip.MustParseAddr(c.a)); got != c.want {
			t.Errorf("Address(%s) = %q, want %q", c.a, got, c.want)
		}
	}
	if Address(netip.Addr{}) != "invalid IP" {
		t.Errorf("no address: %q", Address(netip.Addr{}))
	}
	if Address(netip.MustParseAddr("2001:db8::1")) == Address(netip.MustParseAddr("2001:db8:0:1::1")) {
		t.Error("two /64 share a key")
	}
}
