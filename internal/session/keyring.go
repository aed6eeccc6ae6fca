package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/store"
)

// What a rotation of keys needs to know and do over all records of a store.

// scanPage is how many records are read at once where all of them are.
const scanPage = 200

// scan hands all records of a store to visit, page by page.
func scan(ctx context.Context, st store.Store, visit func([]store.Record) error) error {
	for q := (store.Query{Limit: scanPage}); ; {
		page, err := st.Find(ctx, q)
		if err != nil {
			return &Unavailable{Err: err}
		}
		if err := visit(page.Records); err != nil {
			return err
		}
		if q.After = page.Next; q.After == "" {
			return nil
		}
	}
}

// KeysIn are the names of the keys that a record names, each once.
func KeysIn(rec store.Record) []string {
	env, err := envelopeOf(rec)
	if err != nil {
		return nil
	}
	var list []string
	seen := map[string]bool{"": true}
	for _, n := range []string{seal.NameIn(env.List), seal.NameIn(env.Key), seal.NameOf(rec.Head.Subject), seal.NameOf(rec.Head.SID)} {
		if !seen[n] {
			seen[n] = true
			list = append(list, n)
		}
	}
	return list
}

// CountKeys counts, for each key that a record of the store names, how many records name it.
func CountKeys(ctx context.Context, st store.Store) (map[string]int, error) {
	count := map[string]int{}
	err := scan(ctx, st, func(records []store.Record) error {
		for _, rec := range records {
			for _, name := range KeysIn(rec) {
				count[name]++
			}
		}
		return nil
	})
	return count, err
}

// rewrapPause is the pause after a page in which something was rewrapped, so that a large store is worked through
// beside the requests and not before them.
const rewrapPause = 20 * time.Millisecond

// RewrapAll puts every record of these frontends under the key that seals now, so that older ones can be retired, and
// returns how many it changed. It is for a time when all replicas agree on that key. It works beside everything else:
// a record that changes meanwhile was sealed anew by that change, and is met again next time.
func RewrapAll(ctx context.Context, st store.Store, managers []*Manager) (changed int, err error) {
	err = scan(ctx, st, func(records []store.Record) error {
		before := changed
		for _, rec := range records {
			saved, err := rewrapOne(ctx, st, managers, rec)
			if err != nil {
				return &Unavailable{Err: err}
			}
			if saved {
				changed++
			}
		}
		if changed == before {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rewrapPause):
			return nil
		}
	})
	if changed > 0 {
		managers[0].Events.Emit(&event.Audit{
			Time: time.Now(), Kind: event.KeysRewrapped,
			Detail: fmt.Sprintf("%d sessions were put under the key %s", changed, managers[0].Ring.Names()[0]),
		})
	}
	return changed, err
}

// rewrapOne rewraps a record, whosever it is.
func rewrapOne(ctx context.Context, st store.Store, managers []*Manager, rec store.Record) (saved bool, err error) {
	for _, m := range managers {
		out, changed, err := m.Rewrap(rec)
		if err != nil {
			continue // of another frontend
		}
		if !changed {
			return false, nil
		}
		_, err = st.Save(ctx, out)
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}
	return false, nil
}
