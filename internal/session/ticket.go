// Package session keeps sessions: it makes tickets, seals what a ticket opens, keeps the access token fresh, and
// ends what is over. It knows stores and providers, and never sees an HTTP request.
//
// The rules of refreshing are one pure function, step, in step.go; [Manager] is its driver.
package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cloakroom/cloakroom/store"
)

const (
	ticketBytes = 32
	// TicketLength is how many characters a ticket has in its cookie.
	TicketLength = 43
)

// ErrTicket says that a string is no ticket.
var ErrTicket = errors.New("session: not a ticket")

// Ticket is what a browser holds: 32 random bytes that open one session. It cannot be printed; Reveal is for the
// one place that sets the cookie.
type Ticket struct{ secret [ticketBytes]byte }

// NewTicket makes a ticket.
func NewTicket() Ticket {
	var t Ticket
	rand.Read(t.secret[:])
	return t
}

// ParseTicket reads a ticket in its one spelling: 43 characters of unpadded base64url. It does not allocate.
func ParseTicket(s string) (Ticket, error) {
	var t Ticket
	if len(s) != TicketLength {
		return t, ErrTicket
	}
	var src [TicketLength]byte
	copy(src[:], s)
	var out [ticketBytes + 1]byte
	n, err := strict.Decode(out[:], src[:])
	if err != nil || n != ticketBytes {
		return t, ErrTicket
	}
	copy(t.secret[:], out[:])
	return t, nil
}

var strict = base64.RawURLEncoding.Strict()

// Reveal is the value of the cookie.
func (t Ticket) Reveal() string { return base64.RawURLEncoding.EncodeToString(t.secret[:]) }

func (Ticket) String() string               { return "[ticket]" }
func (Ticket) GoString() string             { return "[ticket]" }
func (Ticket) Format(f fmt.State, _ rune)   { fmt.Fprint(f, "[ticket]") }
func (Ticket) LogValue() slog.Value         { return slog.StringValue("[ticket]") }
func (Ticket) MarshalText() ([]byte, error) { return []byte("[ticket]"), nil }

// idLabel keeps record ids apart from every other hash.
const idLabel = "cloakroom record id v1"

// idOf is the record's key: a hash of the ticket and its frontend. A ticket of one frontend opens nothing at
// another, and the store's key leads back to no ticket.
func (t Ticket) idOf(frontend string) store.ID {
	var buf [256]byte
	b := buf[:0]
	b = binary.BigEndian.AppendUint32(b, uint32(len(idLabel)))
	b = append(b, idLabel...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(frontend))) //nolint:gosec // an origin
	b = append(b, frontend...)
	b = append(b, t.secret[:]...)
	return sha256.Sum256(b)
}

// handleOf is the session's public name.
func handleOf(id store.ID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// idOfHandle is the other way round.
func idOfHandle(handle string) (store.ID, bool) {
	b, err := strict.DecodeString(handle)
	if err != nil || len(b) != len(store.ID{}) {
		return store.ID{}, false
	}
	return store.ID(b), true
}
