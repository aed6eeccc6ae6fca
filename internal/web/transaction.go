package web

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cloakroom/cloakroom/internal/seal"
)

// maxCookie is what browsers take for name and value together (6265bis section 5.6).
const maxCookie = 4096

// ErrTooLarge says that a transaction does not fit into a cookie.
var ErrTooLarge = errors.New("web: the transaction does not fit into a cookie")

// Transactions keeps logins and logouts in progress in the browser that began them: sealed cookies, one each, so
// that several tabs do not disturb one another. What is in one can be neither read nor made by the browser.
type Transactions struct {
	Cookies  Cookies
	Ring     *seal.Ring
	Frontend string
}

// NewID makes a transaction's id: 16 random bytes as 22 characters. It is the state of an authorization request.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// ValidID reports whether s has the form of an id, so that foreign bytes never become part of a cookie's name.
func ValidID(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == 16
}

// Put seals v into the transaction cookie of this id. purpose keeps one kind from being taken for another.
func (t Transactions) Put(w http.ResponseWriter, id, purpose string, site http.SameSite, v any) error {
	plain, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a transaction: %w", err)
	}
	value := base64.RawURLEncoding.EncodeToString(t.Ring.Seal(t.context(id, purpose), plain))
	if len(t.Cookies.txPrefix)+len(id)+len(value) > maxCookie {
		return ErrTooLarge
	}
	t.Cookies.SetTransaction(w, id, value, site)
	return nil
}

// Get opens the transaction cookie of this id into v. false: there is none, or not of this purpose, or not ours.
func (t Transactions) Get(r *http.Request, id, purpose string, v any) bool {
	if !ValidID(id) {
		return false
	}
	value, ok := t.Cookies.Transaction(r, id)
	if !ok || len(value) > maxCookie {
		return false
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil {
		return false
	}
	plain, err := t.Ring.Open(t.context(id, purpose), sealed)
	return err == nil && json.Unmarshal(plain, v) == nil
}

// deviceLife is how long a browser stays known after a login.
const deviceLife = 180 * 24 * time.Hour

// PutDevice seals what is known of a browser into its cookie.
func (t Transactions) PutDevice(w http.ResponseWriter, v any) {
	plain, err := json.Marshal(v)
	if err != nil {
		return
	}
	value := base64.RawURLEncoding.EncodeToString(t.Ring.Seal(t.deviceContext(), plain))
	if len(t.Cookies.device)+len(value) <= maxCookie {
		t.Cookies.SetDevice(w, value, deviceLife)
	}
}

// GetDevice opens the cookie of a known browser. false: there is none, or it is not ours.
func (t Transactions) GetDevice(r *http.Request, v any) bool {
	value, ok := t.Cookies.Device(r)
	if !ok || len(value) > maxCookie {
		return false
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil {
		return false
	}
	plain, err := t.Ring.Open(t.deviceContext(), sealed)
	return err == nil && json.Unmarshal(plain, v) == nil
}

func (t Transactions) deviceContext() seal.Context {
	return seal.Context{Purpose: "device", Frontend: t.Frontend, Field: "accounts"}
}

// Room drops the oldest transactions so that one more stays within MaxTransactions. Without a bound they pile up
// until the server refuses the header.
func (t Transactions) Room(w http.ResponseWriter, r *http.Request) {
	ids := t.Cookies.TransactionIDs(r)
	for len(ids) >= MaxTransactions {
		t.Cookies.ClearTransaction(w, ids[0])
		ids = ids[1:]
	}
}

func (t Transactions) context(id, purpose string) seal.Context {
	return seal.Context{Purpose: "transaction", Frontend: t.Frontend, ID: id, Field: purpose}
}
