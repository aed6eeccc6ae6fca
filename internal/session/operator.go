package session

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// Operator is the operator's view of the sessions of all frontends that share a store.
type Operator struct {
	Store    store.Store
	Managers []*Manager // at least one, in an order that stays
}

// Filter selects sessions. The zero value selects all.
type Filter struct {
	Frontend      string    // its URL
	Provider      string    // its name
	Subject       string    // with Provider: found by an index
	SID           string    // with Provider: found by an index
	CreatedBefore time.Time // zero = whenever
	IdleSince     time.Time // not active since then; zero = whenever
}

// ErrFilter says that a filter names what is not configured.
var ErrFilter = errors.New("session: the filter names nothing here")

// indexed reports whether an index leads to what is meant.
func (f Filter) indexed() bool { return f.Subject != "" || f.SID != "" }

func (f Filter) who() Who { return Who{Provider: f.Provider, Subject: f.Subject, SID: f.SID} }

func (f Filter) matches(e Entry) bool {
	s := e.Session
	return (f.Provider == "" || s.Provider == f.Provider) && (f.Subject == "" || s.Subject == f.Subject) &&
		(f.SID == "" || s.SID == f.SID) &&
		(f.CreatedBefore.IsZero() || s.Created.Before(f.CreatedBefore)) &&
		(f.IdleSince.IsZero() || e.LastActive.Before(f.IdleSince))
}

// meant are the managers whose sessions a filter may select.
func (o *Operator) meant(f Filter) ([]*Manager, error) {
	if f.indexed() && f.Provider == "" {
		return nil, fmt.Errorf("%w: a subject or sid means something only with its provider", ErrFilter)
	}
	var list []*Manager
	known := false
	for _, m := range o.Managers {
		if f.Frontend != "" && m.Frontend != f.Frontend {
			continue
		}
		known = true
		if _, ok := m.Providers[f.Provider]; ok || f.Provider == "" {
			list = append(list, m)
		}
	}
	switch {
	case !known:
		return nil, fmt.Errorf("%w: no frontend %q is configured", ErrFilter, f.Frontend)
	case len(list) == 0:
		return nil, fmt.Errorf("%w: no provider %q is configured there", ErrFilter, f.Provider)
	}
	return list, nil
}

// owned is a record with the manager whose it is.
type owned struct {
	manager *Manager
	found
}

// mine opens what of a record needs no ticket. ok is false for another frontend's record, and for none of a session.
func (m *Manager) mine(rec store.Record) (found, bool) {
	env, err := envelopeOf(rec)
	if err != nil {
		return found{}, false
	}
	list, err := m.decodeList(rec, env)
	return found{rec.ID, rec.Head, list}, err == nil
}

// ownersOf finds the owners of records, and leaves out what a filter does not select.
func ownersOf(f Filter, managers []*Manager, records []store.Record) (list []owned) {
	for _, rec := range records {
		for _, m := range managers {
			if one, ok := m.mine(rec); ok {
				if f.matches(m.entry(one)) {
					list = append(list, owned{m, one})
				}
				break
			}
		}
	}
	return list
}

// listLooks bounds how often one call of List asks the store, however few records a filter selects.
const listLooks = 20

// List returns a page of sessions and where the next one begins, "" at the end. A page may be shorter than limit, even
// empty. ErrFilter, ErrCursor: the caller's mistake.
func (o *Operator) List(ctx context.Context, f Filter, after string, limit int) (list []Entry, next string, err error) {
	managers, err := o.meant(f)
	if err != nil {
		return nil, "", err
	}
	place, err := o.placeIn(f, after)
	if err != nil {
		return nil, "", err
	}
	for range listLooks {
		var page []owned
		if page, place, err = o.look(ctx, f, managers, place, limit-len(list)); err != nil {
			return nil, "", err
		}
		for _, one := range page {
			list = append(list, one.manager.entry(one.found))
		}
		if place == "" || len(list) >= limit {
			break
		}
	}
	return list, o.cursor(f, place), nil
}

// cursor is a place as callers see it. It is signed with its filter, so that neither foreign bytes nor another query's
// place come to a store.
func (o *Operator) cursor(f Filter, place string) string {
	if place == "" {
		return ""
	}
	return o.Managers[0].Ring.Index("cursor", f.Frontend, f.Provider, f.Subject, f.SID, place) + "." + base64.RawURLEncoding.EncodeToString([]byte(place))
}

// placeIn is the place of a cursor that any replica made.
func (o *Operator) placeIn(f Filter, cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	index, text, _ := strings.Cut(cursor, ".")
	place, err := base64.RawURLEncoding.DecodeString(text)
	signed := o.Managers[0].Ring.Indexes("cursor", f.Frontend, f.Provider, f.Subject, f.SID, string(place))
	if err != nil || !slices.Contains(signed, index) {
		return "", ErrCursor
	}
	return string(place), nil
}

// look asks the store once. A place is the number of a manager, for those whose index is asked one after the other,
// and the place there.
func (o *Operator) look(ctx context.Context, f Filter, managers []*Manager, after string, limit int) ([]owned, string, error) {
	at, place := 0, ""
	if number, inner, ok := strings.Cut(after, "/"); ok {
		var err error
		if at, err = strconv.Atoi(number); err != nil || at < 0 || at >= len(managers) {
			return nil, "", ErrCursor // of another configuration
		}
		place = inner
	}
	if !f.indexed() {
		page, err := o.Store.Find(ctx, store.Query{After: place, Limit: limit})
		if err != nil {
			return nil, "", &Unavailable{Err: err}
		}
		list := ownersOf(f, managers, page.Records)
		if page.Next == "" {
			return list, "", nil
		}
		return list, placeOf(at, page.Next), nil
	}
	page, next, err := managers[at].page(ctx, f.who(), place, limit)
	if err != nil {
		return nil, "", err
	}
	var list []owned
	for _, one := range page {
		if f.matches(managers[at].entry(one)) {
			list = append(list, owned{managers[at], one})
		}
	}
	if next == "" && at+1 < len(managers) {
		return list, placeOf(at+1, ""), nil
	}
	if next == "" {
		return list, "", nil
	}
	return list, placeOf(at, next), nil
}

func placeOf(at int, inner string) string { return strconv.Itoa(at) + "/" + inner }

// Show returns the session with this handle, of whichever frontend. ErrEnded: there is none.
func (o *Operator) Show(ctx context.Context, handle string) (Entry, error) {
	one, err := o.find(ctx, handle)
	if err != nil {
		return Entry{}, err
	}
	return one.manager.entry(one.found), nil
}

func (o *Operator) find(ctx context.Context, handle string) (owned, error) {
	id, ok := idOfHandle(handle)
	if !ok {
		return owned{}, ErrEnded
	}
	rec, err := o.Store.Load(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return owned{}, ErrEnded
	case err != nil:
		return owned{}, &Unavailable{Err: err}
	}
	if list := ownersOf(Filter{}, o.Managers, []store.Record{rec}); len(list) == 1 {
		return list[0], nil
	}
	if env, err := envelopeOf(rec); err == nil {
		if err := o.Managers[0].unopened(env); errors.Is(err, errKeyMissing) {
			return owned{}, &Unavailable{Err: err}
		}
	}
	return owned{}, ErrEnded
}

// End ends the session with this handle. ErrEnded: there is none.
func (o *Operator) End(ctx context.Context, handle string) error {
	one, err := o.find(ctx, handle)
	if err != nil {
		return err
	}
	return one.manager.endMany(ctx, []found{one.found}, ReasonOperator)
}

// EndAll ends every session that a filter selects and returns how many, also beside an error.
func (o *Operator) EndAll(ctx context.Context, f Filter) (total int, err error) {
	managers, err := o.meant(f)
	if err != nil {
		return 0, err
	}
	if !f.indexed() {
		err := scan(ctx, o.Store, func(records []store.Record) error {
			n, err := endOwned(ctx, ownersOf(f, managers, records))
			total += n
			return err
		})
		return total, err
	}
	for _, m := range managers {
		n, err := m.endFound(ctx, f.who(), func(one found) bool { return f.matches(m.entry(one)) }, ReasonOperator)
		if total += n; err != nil {
			return total, err
		}
	}
	return total, nil
}

// endOwned ends sessions with one call to the store for each manager.
func endOwned(ctx context.Context, list []owned) (total int, err error) {
	slices.SortStableFunc(list, func(a, b owned) int { return strings.Compare(a.manager.Frontend, b.manager.Frontend) })
	for len(list) > 0 {
		m, n := list[0].manager, 0
		var condemned []found
		for n < len(list) && list[n].manager == m {
			condemned = append(condemned, list[n].found)
			n++
		}
		if err := m.endMany(ctx, condemned, ReasonOperator); err != nil {
			return total, err
		}
		total, list = total+n, list[n:]
	}
	return total, nil
}
