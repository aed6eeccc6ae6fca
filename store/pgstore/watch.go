package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloakroom/cloakroom/store"
)

const (
	// pollEvery is how often a process looks for changes: half of it is the usual delay of an end on another process.
	pollEvery = 50 * time.Millisecond
	// silence is how long one look may take before the feed counts as broken: a half-open connection says nothing by
	// itself.
	silence = 3 * time.Second
	// keepChanges is how long a change stays in its table after every transaction that was under way with it has ended.
	keepChanges = time.Minute
)

// A row becomes visible when its transaction commits, in another order than rows were written. So a look does not ask
// for rows after the last one, but for the rows of just those transactions that the snapshot of the look before could
// not see: what had not begun then (xid >= its xmax), and what was under way (its xip). That is exact: each change comes
// once, none is missed however long its transaction takes, and a transaction of somebody else that lasts for hours costs
// nothing. Notifications would be faster by a few milliseconds, and make every commit of the database take one lock.
const (
	sqlSnapshot = "SELECT pg_current_snapshot()::text"
	sqlChanges  = `SELECT pg_current_snapshot()::text, c.id, c.version FROM (SELECT) one LEFT JOIN (
SELECT id, version FROM cloakroom_changes WHERE xid >= $1::text::xid8 OR xid = ANY ($2::text[]::xid8[])) c ON true`
	sqlPruneChanges = "DELETE FROM cloakroom_changes WHERE xid < $1::text::xid8"
)

// snapshot is what one look could see: transactions before xmax, but not those of xip.
type snapshot struct {
	xmin, xmax string
	xip        []string
}

// parseSnapshot reads "xmin:xmax:xip,xip,...".
func parseSnapshot(text string) (snapshot, error) {
	part := strings.Split(text, ":")
	if len(part) != 3 {
		return snapshot{}, fmt.Errorf("pg_current_snapshot() says %q", text)
	}
	s := snapshot{xmin: part[0], xmax: part[1], xip: []string{}}
	if part[2] != "" {
		s.xip = strings.Split(part[2], ",")
	}
	return s, nil
}

// Watch implements store.Watcher.
func (s *Store) Watch(ctx context.Context, f store.Feed) error {
	first, err := s.begin(ctx)
	if err != nil {
		return err
	}
	f.Begun()
	seen := first
	old, oldAt := first, time.Now() // what had ended by then may be pruned a while later
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		since := time.Now()
		if seen, err = s.look(ctx, seen, f.Changed); err != nil {
			return wrap(ctx, err)
		}
		f.Alive(since)
		if since.Sub(oldAt) > keepChanges {
			if err := s.pruneChanges(ctx, old); err != nil {
				return wrap(ctx, err)
			}
			old, oldAt = seen, since
		}
		select {
		case <-ctx.Done():
			return wrap(ctx, ctx.Err())
		case <-tick.C:
		}
	}
}

func (s *Store) begin(ctx context.Context) (snapshot, error) {
	if err := s.Ping(ctx); err != nil {
		return snapshot{}, err
	}
	ask, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	var text string
	if err := s.feed.QueryRow(ask, sqlSnapshot).Scan(&text); err != nil {
		return snapshot{}, wrap(ctx, err)
	}
	return parseSnapshot(text)
}

// look tells what became visible since the last look, and returns what it could see itself.
func (s *Store) look(ctx context.Context, last snapshot, tell func(store.Change)) (snapshot, error) {
	ask, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	rows, err := s.feed.Query(ask, sqlChanges, last.xmax, last.xip)
	if err != nil {
		return last, err
	}
	defer rows.Close()
	var text string
	for rows.Next() {
		var id []byte
		var version *int64
		if err := rows.Scan(&text, &id, &version); err != nil {
			return last, err
		}
		if version != nil && len(id) == len(store.ID{}) {
			tell(store.Change{ID: store.ID(id), Version: uint64(max(0, *version))})
		}
	}
	if err := rows.Err(); err != nil {
		return last, err
	}
	if text == "" {
		return last, errors.New("the look for changes has no answer")
	}
	return parseSnapshot(text)
}

// pruneChanges removes what every process has seen that is not broken: what had ended at this snapshot, a while ago.
func (s *Store) pruneChanges(ctx context.Context, old snapshot) error {
	ask, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	_, err := s.feed.Exec(ask, sqlPruneChanges, old.xmin)
	return err
}

var _ pgx.Row = pgx.Rows(nil) // scan reads either
