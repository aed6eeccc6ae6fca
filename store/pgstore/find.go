package pgstore

import (
	"context"
	"encoding/hex"
	"errors"

	"github.com/cloakroom/cloakroom/store"
)

var errAfter = errors.New("pgstore: the query's After is not a Next of mine")

const sqlFind = `SELECT id, version, created, last_active, idle, expires, coalesce(subject, ''), coalesce(sid, ''), blob
FROM cloakroom_records WHERE id > $1 AND blob IS NOT NULL AND ends > ` + sqlNow

// findBy is the statement of a query and its arguments: by an index each, in the order of ids.
func findBy(q store.Query, after []byte, limit int) (string, []any) {
	args := []any{after, limit}
	statement := sqlFind
	if q.Subject != "" {
		args = append(args, q.Subject)
		statement += " AND subject = $3"
	}
	if q.SID != "" {
		args = append(args, q.SID)
		statement += map[bool]string{true: " AND sid = $4", false: " AND sid = $3"}[q.Subject != ""]
	}
	return statement + " ORDER BY id LIMIT $2", args
}

// Find implements store.Store. Pages are in the order of ids.
func (s *Store) Find(ctx context.Context, q store.Query) (page store.Page, err error) {
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)
	after := []byte{}
	if q.After != "" {
		if after, err = hex.DecodeString(q.After); err != nil || len(after) != len(store.ID{}) {
			return page, errAfter
		}
	}
	statement, args := findBy(q, after, limit+1)
	rows, err := s.pool.Query(ctx, statement, args...)
	if err != nil {
		return page, wrap(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		rec, err := scan(rows)
		if err != nil {
			return store.Page{}, wrap(ctx, err)
		}
		page.Records = append(page.Records, rec)
	}
	if err := rows.Err(); err != nil {
		return store.Page{}, wrap(ctx, err)
	}
	if len(page.Records) > limit {
		page.Records = page.Records[:limit]
		page.Next = page.Records[limit-1].ID.String()
	}
	return page, nil
}
