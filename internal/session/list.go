package session

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/store"
)

// Entry is a session in a list: what can be said of it without its ticket.
type Entry struct {
	Session    *Session
	LastActive time.Time
	Ends       time.Time // the earliest known end
}

// Who says whose sessions are meant: those of a person at a provider, those of one session there, or, with neither,
// all of this frontend.
type Who struct {
	Provider string // its name; with Subject, SID or both
	Subject  string
	SID      string // with a Subject, too, only a session that has both
}

// ErrCursor says that the place to go on from is none that List gave.
var ErrCursor = errors.New("session: not a place that a list gave")

// queries are the store's queries for who: one for each key of the ring, as records may be indexed under an old one. A sid
// says more than a subject.
func (m *Manager) queries(who Who) []store.Query {
	p, ok := m.Providers[who.Provider]
	if who.Subject == "" && who.SID == "" {
		return []store.Query{{}}
	}
	if !ok {
		return nil
	}
	var list []store.Query
	issuer := p.Provider.Issuer()
	switch {
	case who.SID != "":
		for _, index := range m.Ring.Indexes("sid", issuer, p.ClientID, who.SID) {
			list = append(list, store.Query{SID: index})
		}
	default:
		for _, index := range m.Ring.Indexes("subject", issuer, p.ClientID, who.Subject) {
			list = append(list, store.Query{Subject: index})
		}
	}
	return list
}

// matches checks a record that an index gave against what it says itself.
func (w Who) matches(l listPart) bool {
	return (w.Provider == "" || l.Provider == w.Provider) && (w.Subject == "" || l.Subject == w.Subject) && (w.SID == "" || l.SID == w.SID)
}

// found is a record that belongs to who.
type found struct {
	id   store.ID
	head store.Head
	list listPart
}

// page finds up to limit records from a place on.
func (m *Manager) page(ctx context.Context, who Who, after string, limit int) (all []found, next string, err error) {
	queries := m.queries(who)
	number, place, _ := strings.Cut(after, "~")
	at := 0
	if after != "" {
		if at, err = strconv.Atoi(number); err != nil || at < 0 || at >= len(queries) {
			return nil, "", ErrCursor
		}
	}
	for ; at < len(queries); at, place = at+1, "" {
		q := queries[at]
		q.After, q.Limit = place, limit-len(all)
		p, err := m.Store.Find(ctx, q)
		if err != nil {
			return nil, "", &Unavailable{Err: err}
		}
		for _, rec := range p.Records {
			env, err := envelopeOf(rec)
			if err != nil {
				continue // no session: a mark, or of a newer version
			}
			list, err := m.decodeList(rec, env)
			if err != nil || !who.matches(list) {
				continue // of another frontend, or the index is older than the record
			}
			all = append(all, found{rec.ID, rec.Head, list})
		}
		switch {
		case p.Next != "":
			return all, strconv.Itoa(at) + "~" + p.Next, nil
		case len(all) >= limit && at+1 < len(queries):
			return all, strconv.Itoa(at+1) + "~", nil
		}
	}
	return all, "", nil
}

// List returns a page of sessions and where the next one begins, "" at the end. A page may be shorter than limit.
func (m *Manager) List(ctx context.Context, who Who, after string, limit int) ([]Entry, string, error) {
	all, next, err := m.page(ctx, who, after, limit)
	if err != nil {
		return nil, "", err
	}
	entries := make([]Entry, len(all))
	for i, f := range all {
		entries[i] = m.entry(f)
	}
	return entries, next, nil
}

// EntryOf is the entry of a session that is open here.
func EntryOf(l *Live) Entry {
	return Entry{Session: l.Session(), LastActive: l.LastActive(), Ends: l.ExpiresAt()}
}

func (m *Manager) entry(f found) Entry {
	head := f.head
	head.Idle -= head.Idle / 21 // what setHead added, because activity is written coarsely: nobody is promised that
	e := Entry{Session: f.list.session(m.Frontend), LastActive: head.LastActive, Ends: head.End()}
	if l := m.held(f.id); l != nil {
		if here := l.LastActive(); here.After(e.LastActive) { // not written yet
			e.LastActive, e.Ends = here, l.ExpiresAt()
		}
	}
	return e
}

// Show returns the session with this handle. ErrEnded: there is none.
func (m *Manager) Show(ctx context.Context, handle string) (Entry, error) {
	id, ok := idOfHandle(handle)
	if !ok {
		return Entry{}, ErrEnded
	}
	rec, err := m.Store.Load(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return Entry{}, ErrEnded
	}
	if err != nil {
		return Entry{}, &Unavailable{Err: err}
	}
	env, err := envelopeOf(rec)
	if err != nil {
		return Entry{}, ErrEnded
	}
	list, err := m.decodeList(rec, env)
	if errors.Is(err, errKeyMissing) {
		return Entry{}, &Unavailable{Err: err}
	}
	if err != nil {
		return Entry{}, ErrEnded
	}
	return m.entry(found{rec.ID, rec.Head, list}), nil
}

// endPage is how many sessions are ended with one call to the store.
const endPage = 1000

// EndAll ends every session of who except the one with this handle ("" = none is spared) and returns how many.
func (m *Manager) EndAll(ctx context.Context, who Who, except, reason string) (int, error) {
	return m.endWhere(ctx, who, func(l listPart) bool { return l.Handle != except }, reason)
}

func (m *Manager) endWhere(ctx context.Context, who Who, condemned func(listPart) bool, reason string) (total int, err error) {
	return m.endFound(ctx, who, func(f found) bool { return condemned(f.list) }, reason)
}

// endFound looks as many times as the ring has keys: a record that a rewrap moves from one key's index to another's
// while the first look goes over them is met by the second.
func (m *Manager) endFound(ctx context.Context, who Who, condemned func(found) bool, reason string) (total int, err error) {
	ended := map[store.ID]bool{}
	for range len(m.queries(who)) {
		for after, more := "", true; more; more = after != "" {
			all, next, err := m.page(ctx, who, after, endPage)
			if err != nil {
				return total, err
			}
			var list []found
			for _, f := range all {
				if !ended[f.id] && condemned(f) {
					ended[f.id] = true
					list = append(list, f)
				}
			}
			if err := m.endMany(ctx, list, reason); err != nil {
				return total, err
			}
			total, after = total+len(list), next
		}
	}
	return total, nil
}

// endMany ends sessions with one call to the store. Those that are open in this process are revoked at their
// provider, in the background; the tokens of the others are destroyed with their records.
func (m *Manager) endMany(ctx context.Context, list []found, reason string) error {
	if len(list) == 0 {
		return nil
	}
	ids := make([]store.ID, len(list))
	held := map[store.ID]*Live{}
	for i, f := range list {
		ids[i] = f.id
		if l := m.held(f.id); l != nil && l.ending.CompareAndSwap(nil, &reason) {
			held[f.id] = l
		}
	}
	if err := m.Store.Delete(ctx, ids...); err != nil {
		for _, l := range held {
			l.ending.CompareAndSwap(&reason, nil)
		}
		return &Unavailable{Err: err}
	}
	var open []*Live
	for _, f := range list {
		m.Feed.ended(m, f.id)
		m.forget(f.id, reason)
		if l := held[f.id]; l != nil && l.settled.CompareAndSwap(false, true) {
			open = append(open, l)
			continue
		}
		m.emit(event.Audit{Kind: event.SessionEnded, Provider: f.list.Provider, Session: f.list.Handle, Reason: reason, Revoked: "no"})
	}
	if len(open) > 0 {
		m.work.Go(func() { m.revokeMany(open, reason) })
	}
	return nil
}

// revokeMany tells the provider of ended sessions, a few at a time.
func (m *Manager) revokeMany(ended []*Live, reason string) {
	each(context.Background(), ended, func(l *Live) {
		l.mu.Lock()
		s, tokens := l.open.session, l.open.tokens
		l.mu.Unlock()
		revoked := m.revoke(context.Background(), s.Provider, tokens)
		m.emit(event.Audit{Kind: event.SessionEnded, Provider: s.Provider, Session: s.Handle, Reason: reason, Revoked: yesNo(revoked)})
	})
}
