package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloakroom/cloakroom/internal/oidc"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/store"
	"github.com/fxamacker/cbor/v2"
)

// errRecord says that a record cannot be read: changed bytes, or sealed by keys that are not here.
var errRecord = errors.New("session: the record cannot be opened")

// NoSession is the first byte of a blob that is no session's but a login's in progress: it lives for minutes, and nobody
// lists, rewraps or copies it.
const NoSession = 255

// envelopeVersion is the first byte of a blob. A blob of a newer version is left alone: during a rolling upgrade
// it belongs to a newer process.
const envelopeVersion = 1

// errKeyMissing says that another process sealed the record with a key that this one does not have.
var errKeyMissing = errors.New("session: the record is sealed with a key that is not in this process's ring")

// errOver says that a process marked the session as ended, and did not come to delete it.
var errOver = errors.New("session: the record is marked as ended")

// errNewer says that a newer Cloakroom wrote the record.
var errNewer = errors.New("session: the record was written by a newer version")

// envelope is a record's blob: sealed parts, and in the clear who is refreshing.
type envelope struct {
	List   []byte  `cbor:"1,keyasint"` // under the ring: what lists need
	Key    []byte  `cbor:"2,keyasint"` // the data key: under the ticket's key, that under the ring
	Tokens []byte  `cbor:"3,keyasint"` // under the data key
	Lease  *lease  `cbor:"4,keyasint,omitempty"`
	Copied *copied `cbor:"5,keyasint,omitempty"` // by `cloakroom store copy`; gone with the next save by a server
}

// listPart is what lists and ends need without the ticket.
type listPart struct {
	Handle   string                     `cbor:"1,keyasint"`
	Provider string                     `cbor:"2,keyasint"`
	Issuer   string                     `cbor:"3,keyasint"`
	Subject  string                     `cbor:"4,keyasint"`
	SID      string                     `cbor:"5,keyasint,omitempty"`
	Method   string                     `cbor:"6,keyasint"`
	User     map[string]json.RawMessage `cbor:"7,keyasint,omitempty"`
	ACR      string                     `cbor:"8,keyasint,omitempty"`
	AMR      []string                   `cbor:"9,keyasint,omitempty"`
	Created  int64                      `cbor:"10,keyasint"`
	AuthTime int64                      `cbor:"11,keyasint"`
	Remember bool                       `cbor:"12,keyasint,omitempty"`
	// ProviderEnd is the provider's own end of the session (session_expiry), 0 = not said.
	ProviderEnd int64  `cbor:"13,keyasint,omitempty"`
	ClientID    string `cbor:"14,keyasint,omitempty"`
	Device      string `cbor:"15,keyasint,omitempty"`
	Address     string `cbor:"16,keyasint,omitempty"`
	Issued      int64  `cbor:"17,keyasint,omitempty"`
}

// tokenPart is the token set and what refreshing it needs to know.
type tokenPart struct {
	Access      string `cbor:"1,keyasint"`
	TokenType   string `cbor:"2,keyasint"`
	Refresh     string `cbor:"3,keyasint,omitempty"`
	ID          string `cbor:"4,keyasint,omitempty"`
	Scope       string `cbor:"5,keyasint,omitempty"`
	Obtained    int64  `cbor:"6,keyasint"` // milliseconds
	Expires     int64  `cbor:"7,keyasint,omitempty"`
	RefreshEnd  int64  `cbor:"8,keyasint,omitempty"`
	Generation  uint64 `cbor:"9,keyasint"`
	Rotates     bool   `cbor:"10,keyasint,omitempty"`
	AuthSession string `cbor:"11,keyasint,omitempty"`

	Further []furtherPart `cbor:"12,keyasint,omitempty"`
}

// furtherPart is an access token for another target.
type furtherPart struct {
	Audience   string `cbor:"1,keyasint,omitempty"`
	Asked      string `cbor:"2,keyasint,omitempty"` // the scope of the target
	Access     string `cbor:"3,keyasint"`
	Scope      string `cbor:"4,keyasint,omitempty"`
	Obtained   int64  `cbor:"5,keyasint"` // milliseconds
	Expires    int64  `cbor:"6,keyasint,omitempty"`
	Generation uint64 `cbor:"7,keyasint"`
}

// opened is a record with its parts in the clear.
type opened struct {
	record      store.Record
	session     *Session
	providerEnd time.Time
	tokens      oidc.TokenSet
	rotates     bool
	lease       lease
	key         [32]byte // the data key
	sealedKey   []byte   // as in the envelope
}

// ticketKey is the key that only the ticket gives.
func ticketKey(t Ticket, frontend string) [32]byte {
	return seal.Derive(t.secret[:], "cloakroom ticket key v1", frontend)
}

// encode seals the parts into the record's blob, all under the key that seals now, with what the store reads.
func (m *Manager) encode(o *opened) error {
	m.setHead(o)
	if !m.Ring.Current(o.sealedKey) {
		sealed, err := m.rewrapKey(o.record.ID, o.sealedKey)
		if err != nil {
			return err
		}
		o.sealedKey = sealed
	}
	list, err := cbor.Marshal(listOf(o))
	if err != nil {
		return fmt.Errorf("encoding a session: %w", err)
	}
	tokens, err := cbor.Marshal(tokensOf(o))
	if err != nil {
		return fmt.Errorf("encoding a token set: %w", err)
	}
	id := o.record.ID.String()
	o.record.Blob, err = envelope{
		List:   m.Ring.Seal(m.context(id, "list"), list),
		Key:    o.sealedKey,
		Tokens: seal.SealWith(o.key, m.context(id, "tokens"), tokens),
	}.with(o.lease)
	return err
}

// with is the blob of an envelope with this lease.
func (e envelope) with(l lease) ([]byte, error) {
	if e.Lease = nil; l != (lease{}) {
		e.Lease = &l
	}
	body, err := cbor.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding a record: %w", err)
	}
	return append([]byte{envelopeVersion}, body...), nil
}

// lease is who is refreshing.
func (e envelope) lease() lease {
	if e.Lease == nil {
		return lease{}
	}
	return *e.Lease
}

// sealKey wraps the data key under the ticket, then under the ring. Rotating the ring's keys rewraps the outer
// layer only.
func (m *Manager) sealKey(t Ticket, id store.ID, key [32]byte) []byte {
	c := m.context(id.String(), "key")
	return m.Ring.Seal(c, seal.SealWith(ticketKey(t, m.Frontend), c, key[:]))
}

// rewrapKey puts the data key under the key that seals now. What is inside stays under the ticket's key, so no ticket
// is needed.
func (m *Manager) rewrapKey(id store.ID, sealed []byte) ([]byte, error) {
	c := m.context(id.String(), "key")
	wrapped, err := m.Ring.Open(c, sealed)
	if err != nil {
		return nil, errRecord
	}
	return m.Ring.Seal(c, wrapped), nil
}

// setHead fills what the store reads.
func (m *Manager) setHead(o *opened) {
	s, h := o.session, &o.record.Head
	idle := m.Idle
	if s.Remember {
		idle = m.RememberIdle
	}
	h.Idle = idle + idle/20
	h.Expires, _ = m.endOf(o)
	h.Subject = m.index(h.Subject, "subject", s.Issuer, s.ClientID, s.Subject)
	if s.SID == "" {
		h.SID = ""
		return
	}
	h.SID = m.index(h.SID, "sid", s.Issuer, s.ClientID, s.SID)
}

// index is where a record is to be found. One that is there under any key of the ring stays there: while replicas seal
// with different keys, each would take what it saves along, to and fro, and a logout could miss it on the way. Only
// rewrapping moves it, once and in one direction.
func (m *Manager) index(is, purpose string, parts ...string) string {
	if is != "" && slices.Contains(m.Ring.Indexes(purpose, parts...), is) {
		return is
	}
	return m.Ring.Index(purpose, parts...)
}

// decode opens a record with its ticket.
func (m *Manager) decode(rec store.Record, t Ticket) (*opened, error) {
	env, err := envelopeOf(rec)
	if err != nil {
		return nil, err
	}
	c := m.context(rec.ID.String(), "key")
	wrapped, err := m.Ring.Open(c, env.Key)
	if err != nil {
		return nil, m.unopened(env)
	}
	key, err := seal.OpenWith(ticketKey(t, m.Frontend), c, wrapped)
	if err != nil || len(key) != 32 {
		return nil, errRecord
	}
	return m.decodeWith(rec, env, [32]byte(key))
}

// decodeWith opens a record whose data key is known.
func (m *Manager) decodeWith(rec store.Record, env envelope, key [32]byte) (*opened, error) {
	o := &opened{record: rec, key: key, sealedKey: env.Key, lease: env.lease()}
	if o.lease.Over {
		return nil, errOver
	}
	list, err := m.decodeList(rec, env)
	if err != nil {
		return nil, err
	}
	o.session, o.providerEnd = list.session(m.Frontend), fromUnix(list.ProviderEnd)
	plain, err := seal.OpenWith(key, m.context(rec.ID.String(), "tokens"), env.Tokens)
	if err != nil {
		return nil, errRecord
	}
	var t tokenPart
	if err := cbor.Unmarshal(plain, &t); err != nil {
		return nil, errRecord
	}
	o.tokens, o.rotates = t.set(), t.Rotates
	return o, nil
}

func (m *Manager) decodeList(rec store.Record, env envelope) (listPart, error) {
	var list listPart
	plain, err := m.Ring.Open(m.context(rec.ID.String(), "list"), env.List)
	if err != nil {
		return list, m.unopened(env)
	}
	if cbor.Unmarshal(plain, &list) != nil {
		return list, errRecord
	}
	return list, nil
}

// unopened says why a record cannot be opened. Its parts are always sealed with one key, so a name that is in both of
// them is no accident: the key has not reached this process, and the record is not to be touched.
func (m *Manager) unopened(env envelope) error {
	name := seal.NameIn(env.List)
	if name == "" || name != seal.NameIn(env.Key) || slices.Contains(m.Ring.Names(), name) {
		return errRecord
	}
	return fmt.Errorf("%w: %s", errKeyMissing, name)
}

func envelopeOf(rec store.Record) (envelope, error) {
	var env envelope
	switch {
	case len(rec.Blob) == 0:
		return env, errRecord
	case rec.Blob[0] > envelopeVersion:
		return env, errNewer
	case rec.Blob[0] != envelopeVersion || cbor.Unmarshal(rec.Blob[1:], &env) != nil:
		return env, errRecord
	}
	return env, nil
}

func (m *Manager) context(id, field string) seal.Context {
	return seal.Context{Purpose: "session", Frontend: m.Frontend, ID: id, Field: field}
}

func listOf(o *opened) listPart {
	s := o.session
	return listPart{
		Handle: s.Handle, Provider: s.Provider, Issuer: s.Issuer, Subject: s.Subject, SID: s.SID, Method: s.Method,
		User: s.User, ACR: s.ACR, AMR: s.AMR, Created: s.Created.Unix(), AuthTime: s.AuthTime.Unix(),
		Remember: s.Remember, ProviderEnd: toUnix(o.providerEnd), ClientID: s.ClientID, Device: s.Device,
		Address: s.Address, Issued: toUnix(s.Issued),
	}
}

func (l listPart) session(frontend string) *Session {
	return &Session{
		Handle: l.Handle, Frontend: frontend, Provider: l.Provider, Issuer: l.Issuer, Subject: l.Subject, SID: l.SID,
		Method: l.Method, User: l.User, ACR: l.ACR, AMR: l.AMR, Created: time.Unix(l.Created, 0),
		AuthTime: time.Unix(l.AuthTime, 0), Remember: l.Remember, ClientID: l.ClientID, Device: l.Device,
		Address: l.Address, Issued: fromUnix(l.Issued),
	}
}

func tokensOf(o *opened) tokenPart {
	t := o.tokens
	part := tokenPart{
		Access: t.Access, TokenType: t.TokenType, Refresh: t.Refresh, ID: t.ID, Scope: t.Scope,
		Obtained: t.Obtained.UnixMilli(), Expires: toMilli(t.Expires), RefreshEnd: toMilli(t.RefreshEnd), AuthSession: t.AuthSession,
		Generation: t.Generation, Rotates: o.rotates,
	}
	for _, a := range t.Further {
		part.Further = append(part.Further, furtherPart{
			Audience: a.Target.Audience, Asked: a.Target.Scope, Access: a.Value, Scope: a.Scope,
			Obtained: a.Obtained.UnixMilli(), Expires: toMilli(a.Expires), Generation: a.Generation,
		})
	}
	return part
}

func (t tokenPart) set() oidc.TokenSet {
	set := oidc.TokenSet{
		Access: t.Access, TokenType: t.TokenType, Refresh: t.Refresh, ID: t.ID, Scope: t.Scope,
		Obtained: time.UnixMilli(t.Obtained), Expires: fromMilli(t.Expires), RefreshEnd: fromMilli(t.RefreshEnd), AuthSession: t.AuthSession,
		Generation: t.Generation,
	}
	for _, a := range t.Further {
		set.Further = append(set.Further, oidc.AccessToken{
			Target: oidc.Target{Audience: a.Audience, Scope: a.Asked}, Value: a.Access, Scope: a.Scope,
			Obtained: time.UnixMilli(a.Obtained), Expires: fromMilli(a.Expires), Generation: a.Generation,
		})
	}
	return set
}

func toUnix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromUnix(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(n, 0)
}

func toMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilli(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(n)
}
