package session

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/boltstore"
)

// What somebody has who copied the store, with and without the configuration. See docs/security.md.

// secrets are what a session holds; none of them may be readable in a store.
var secrets = map[string]string{
	"access token": "access-token-of-alice-0123456789", "refresh token": "refresh-token-of-alice-0123456789",
	"ID token": "id-token-of-alice-0123456789", "subject": "subject-of-alice-0123456789", "sid": "sid-of-alice-0123456789",
	"name": "Alice Liddell of Wonderland", "device": "Firefox on a looking-glass", "address": "192.0.2.77",
	"issuer": "https://op.example", "client": "client-of-the-app-0123456789",
}

// spellings are the ways in which bytes may stand in a file.
func spellings(s string) [][]byte {
	list := [][]byte{[]byte(s), []byte(hex.EncodeToString([]byte(s)))}
	for cut := range 3 { // base64 looks different at each offset
		whole := (len(s) - cut) / 3 * 3
		list = append(list, []byte(base64.StdEncoding.EncodeToString([]byte(s)[cut:cut+whole])), []byte(base64.URLEncoding.EncodeToString([]byte(s)[cut:cut+whole])))
	}
	return list
}

// onFile is a manager whose store is a file, with one session of secrets.
func onFile(t *testing.T) (f *fixture, st *boltstore.Store, path string, ticket Ticket) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "sessions.db")
	st, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	f = newFixture(t, func(o *Options) {
		o.Store = st
		p := o.Providers["main"]
		p.ClientID = secrets["client"]
		o.Providers["main"] = p
	})
	t.Cleanup(func() { _ = f.Close(context.Background()) })
	name, err := json.Marshal(secrets["name"])
	if err != nil {
		t.Fatal(err)
	}
	ticket, _, err = f.Create(t.Context(), Login{
		Provider: "main", Method: "password", Device: secrets["device"], Address: secrets["address"],
		Exchange: oidc.Exchange{
			Tokens: oidc.TokenSet{
				Access: secrets["access token"], TokenType: "Bearer", Refresh: secrets["refresh token"], ID: secrets["ID token"],
				Obtained: time.Now(), Expires: time.Now().Add(time.Hour),
			},
			Claims: oidc.Claims{Issuer: secrets["issuer"], Subject: secrets["subject"], SID: secrets["sid"], User: map[string]json.RawMessage{"name": name}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f, st, path, ticket
}

func onlyRecord(t *testing.T, st store.Store) store.Record {
	t.Helper()
	page, err := st.Find(t.Context(), store.Query{})
	if err != nil || len(page.Records) != 1 {
		t.Fatalf("%d records, %v", len(page.Records), err)
	}
	return page.Records[0]
}

// The store alone: no token, no ticket, and nothing of the person.
func TestStolenStoreRevealsNothing(t *testing.T) {
	_, st, path, ticket := onFile(t)
	rec := onlyRecord(t, st)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	places := map[string][]byte{"the file": file, "the blob": rec.Blob, "the subject's index": []byte(rec.Head.Subject), "the sid's index": []byte(rec.Head.SID)}
	look := func(what, secret string) {
		for where, raw := range places {
			for _, spelling := range spellings(secret) {
				if bytes.Contains(raw, spelling) {
					t.Errorf("the %s is in %s, as %q", what, where, spelling)
				}
			}
		}
	}
	for what, secret := range secrets {
		look(what, secret)
	}
	look("ticket", ticket.Reveal())
	look("ticket", string(ticket.secret[:]))
	if len(rec.Head.Subject) < 32 || len(rec.Head.SID) < 32 || !bytes.Contains(file, rec.Blob[:64]) {
		t.Error("this test looks at the wrong place")
	}
}

// The store and the whole configuration, keys and all: what lists show can be read, and no token without the ticket.
func TestStolenStoreAndKeysOpenNoToken(t *testing.T) {
	f, st, _, ticket := onFile(t)
	rec := onlyRecord(t, st)
	thief := f.manager(Options{
		Frontend: f.Frontend, Store: st, Ring: f.Ring, Cache: NewCache(1 << 20), Providers: f.Providers,
		Idle: f.Idle, RememberIdle: f.RememberIdle, Lifetime: f.Lifetime,
	})
	defer thief.Close(context.Background())
	env, err := envelopeOf(rec)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := thief.decodeList(rec, env); err != nil || list.Subject != secrets["subject"] {
		t.Errorf("the keys open what lists need: %v", err)
	}
	wrapped, err := thief.Ring.Open(thief.context(rec.ID.String(), "key"), env.Key)
	if err != nil {
		t.Fatalf("the keys open the outer layer: %v", err)
	}
	guesses := [][32]byte{[32]byte(rec.ID), [32]byte(wrapped[:32]), {}, ticketKey(NewTicket(), f.Frontend), ticketKey(Ticket{rec.ID}, f.Frontend)}
	for _, key := range guesses {
		if _, err := seal.OpenWith(key, thief.context(rec.ID.String(), "key"), wrapped); err == nil {
			t.Error("the data key opens without the ticket")
		}
		if _, err := seal.OpenWith(key, thief.context(rec.ID.String(), "tokens"), env.Tokens); err == nil {
			t.Error("the tokens open without the ticket")
		}
	}
	for _, guess := range []Ticket{NewTicket(), {rec.ID}, {}} { // neither is the id a ticket
		if _, err := thief.decode(rec, guess); err == nil {
			t.Error("another ticket opens it")
		}
		if _, err := thief.Lookup(t.Context(), guess); !errors.Is(err, ErrEnded) {
			t.Errorf("another ticket finds it: %v", err)
		}
	}
	l, err := thief.Lookup(t.Context(), ticket)
	if err != nil || thief.Tokens(l).Access != secrets["access token"] {
		t.Errorf("with the ticket it opens: %v", err)
	}
}

// A frontend's ticket opens nothing at another one on the same store with the same keys, not even where the record was
// copied to the place in which that one looks.
func TestATicketIsOfOneFrontend(t *testing.T) {
	f, st, _, ticket := onFile(t)
	rec := onlyRecord(t, st)
	const elsewhere = "https://other.example"
	other := f.manager(Options{
		Frontend: elsewhere, Store: st, Ring: f.Ring, Cache: NewCache(1 << 20), Providers: f.Providers,
		Idle: f.Idle, RememberIdle: f.RememberIdle, Lifetime: f.Lifetime, Events: f.Events,
	})
	defer other.Close(context.Background())
	if _, err := other.Lookup(t.Context(), ticket); !errors.Is(err, ErrEnded) {
		t.Errorf("%v", err)
	}
	moved := rec
	moved.ID, moved.Version = ticket.idOf(elsewhere), 0
	if _, err := st.Save(t.Context(), moved); err != nil {
		t.Fatal(err)
	}
	if _, err := other.decode(moved, ticket); err == nil {
		t.Error("a record that was moved to another frontend opens")
	}
	if _, err := other.Lookup(t.Context(), ticket); !errors.Is(err, ErrEnded) {
		t.Errorf("moved: %v", err)
	}
	if _, err := f.Lookup(t.Context(), ticket); err != nil {
		t.Errorf("its own frontend: %v", err)
	}
}
