package limit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Account is the key of a user name at a provider. All spellings that a provider may take for one account share a
// key: case-folded, NFKC, trimmed, and without the characters that nobody sees. A provider that keeps some of them
// apart makes those accounts share a budget, which is the safe side. The key is a hash, so that no list of user
// names lies in memory.
func Account(provider, username string) string {
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(provider))) // so that ("a", "bc") is not ("ab", "c")
	h.Write(n[:])
	h.Write([]byte(provider))
	h.Write([]byte(fold(username)))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// fold is the form of Unicode's compatibility caseless match (section 3.13, D146), less what is invisible, trimmed.
// Folding and normalising open the way for each other, hence the two rounds.
func fold(s string) string {
	f := cases.Fold()
	s = f.String(norm.NFKC.String(f.String(norm.NFD.String(s))))
	s = norm.NFKC.String(strings.Map(visible, s))
	return strings.TrimFunc(s, unicode.IsSpace)
}

// visible drops the default ignorable code points: a zero-width space makes no other account.
func visible(r rune) rune {
	if unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
		return -1
	}
	return r
}

// Address is the key of a client's address. IPv6 counts by /64, which is what one line has; IPv4 is IPv4, however it
// is written. Clients whose address is not known share one key.
func Address(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a.String() // "invalid IP" for the zero address
	}
	p, _ := a.Prefix(64) // fails for no IPv6 address
	return p.String()
}
