package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloakroom/cloakroom/store"
)

// sqlNow is the server's time, the same for a whole statement, so that an index can be used.
const sqlNow = "(extract(epoch from statement_timestamp()) * 1000000)::bigint"

// sqlTell begins with a comma: it tells the feed of what the part "done" changed.
const sqlTell = ", told AS (INSERT INTO cloakroom_changes (id, version) SELECT id, version FROM done)"

const (
	sqlLoad = `SELECT id, version, created, last_active, idle, expires, coalesce(subject, ''), coalesce(sid, ''), blob
FROM cloakroom_records WHERE id = $1 AND blob IS NOT NULL AND ends > ` + sqlNow

	// What is over gives its place to a new record of the same id, a tombstone too.
	sqlCreate = `WITH done AS (
INSERT INTO cloakroom_records AS r (id, version, created, last_active, idle, expires, subject, sid, blob)
VALUES ($1, 1, $2, $3, $4, $5, nullif($6, ''), nullif($7, ''), $8)
ON CONFLICT (id) DO UPDATE SET version = 1, created = excluded.created, last_active = excluded.last_active,
	idle = excluded.idle, expires = excluded.expires, subject = excluded.subject, sid = excluded.sid, blob = excluded.blob
WHERE r.ends <= ` + sqlNow + `
RETURNING id, version)` + sqlTell + ` SELECT version FROM done`

	sqlReplace = `WITH done AS (
UPDATE cloakroom_records SET version = version + 1, created = $2, last_active = greatest(last_active, $3),
	idle = $4, expires = $5, subject = nullif($6, ''), sid = nullif($7, ''), blob = $8
WHERE id = $1 AND version = $9 AND blob IS NOT NULL AND ends > ` + sqlNow + `
RETURNING id, version)` + sqlTell + ` SELECT version FROM done`

	// The ids are taken in their order, so that two processes cannot wait for each other.
	sqlDelete = `WITH done AS (
INSERT INTO cloakroom_records (id, version, created, last_active, idle, expires)
SELECT d.id, 0, ` + sqlNow + `, 0, 0, ` + sqlNow + ` + $2 FROM (SELECT DISTINCT unnest($1::bytea[]) AS id ORDER BY 1) d
ON CONFLICT (id) DO UPDATE SET version = 0, last_active = 0, idle = 0, expires = excluded.expires, subject = NULL,
	sid = NULL, blob = NULL
RETURNING id, version)` + sqlTell + ` SELECT count(*) FROM done`

	sqlTouch = `WITH given AS (
	SELECT id, max(at) AS at FROM unnest($1::bytea[], $2::bigint[]) AS g (id, at) GROUP BY id
), due AS (
	SELECT r.id, given.at FROM cloakroom_records r JOIN given USING (id)
	WHERE r.last_active < given.at AND r.blob IS NOT NULL AND r.ends > ` + sqlNow + `
	ORDER BY r.id FOR NO KEY UPDATE OF r
)
UPDATE cloakroom_records r SET last_active = due.at FROM due WHERE r.id = due.id`

	sqlOnce = `INSERT INTO cloakroom_once AS o (key, expires) VALUES ($1, $2)
ON CONFLICT (key) DO UPDATE SET expires = excluded.expires WHERE o.expires <= ` + sqlNow
)

// chunk is how many records one statement deletes or touches: a long one would hold its locks for long.
const chunk = 500

// Load implements store.Store.
func (s *Store) Load(ctx context.Context, id store.ID) (store.Record, error) {
	rec, err := scan(s.pool.QueryRow(ctx, sqlLoad, id[:]))
	if errors.Is(err, pgx.ErrNoRows) {
		return store.Record{}, store.ErrNotFound
	}
	return rec, wrap(ctx, err)
}

func scan(row pgx.Row) (store.Record, error) {
	var r store.Record
	var id []byte
	var version, created, active, idle, expires int64
	err := row.Scan(&id, &version, &created, &active, &idle, &expires, &r.Head.Subject, &r.Head.SID, &r.Blob)
	if err != nil {
		return store.Record{}, err
	}
	if len(id) != len(r.ID) || version < 1 {
		return store.Record{}, errors.New("a record has a form that is not known here")
	}
	r.ID, r.Version = store.ID(id), uint64(version)
	r.Head.Created, r.Head.LastActive, r.Head.Expires = time.UnixMicro(created), time.UnixMicro(active), time.UnixMicro(expires)
	r.Head.Idle = time.Duration(idle) * time.Microsecond
	return r, nil
}

// Save implements store.Store.
func (s *Store) Save(ctx context.Context, rec store.Record) (uint64, error) {
	h := rec.Head
	if len(rec.Blob) > store.MaxBlob {
		return 0, fmt.Errorf("pgstore: the blob has %d bytes, more than %d", len(rec.Blob), store.MaxBlob)
	}
	blob := rec.Blob
	if blob == nil {
		blob = []byte{} // a row without one is a tombstone
	}
	args := []any{
		rec.ID[:], h.Created.UnixMicro(), h.LastActive.UnixMicro(), h.Idle.Microseconds(), h.Expires.UnixMicro(),
		h.Subject, h.SID, blob,
	}
	statement := sqlCreate
	if rec.Version > 0 {
		statement, args = sqlReplace, append(args, int64(rec.Version)) //nolint:gosec // counts up from one
	}
	var version int64
	err := s.pool.QueryRow(ctx, statement, args...).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, s.refused(ctx, rec)
	}
	if err != nil {
		return 0, wrap(ctx, err)
	}
	return uint64(version), nil //nolint:gosec // counts up from one
}

// refused says why a save changed nothing.
func (s *Store) refused(ctx context.Context, rec store.Record) error {
	var live bool
	err := s.pool.QueryRow(ctx, `SELECT blob IS NOT NULL AND ends > `+sqlNow+` FROM cloakroom_records WHERE id = $1`, rec.ID[:]).Scan(&live)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && !live:
		return store.ErrNotFound
	case err == nil:
		return store.ErrConflict
	}
	return wrap(ctx, err)
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, ids ...store.ID) error {
	for len(ids) > 0 {
		part := ids[:min(chunk, len(ids))]
		ids = ids[len(part):]
		raw := make([][]byte, len(part))
		for i := range part {
			raw[i] = part[i][:]
		}
		if _, err := s.pool.Exec(ctx, sqlDelete, raw, store.Tombstone.Microseconds()); err != nil {
			return wrap(ctx, err)
		}
	}
	return wrap(ctx, ctx.Err())
}

// Touch implements store.Store.
func (s *Store) Touch(ctx context.Context, touches []store.Touch) error {
	for len(touches) > 0 {
		part := touches[:min(chunk, len(touches))]
		touches = touches[len(part):]
		ids, at := make([][]byte, len(part)), make([]int64, len(part))
		for i, t := range part {
			ids[i], at[i] = part[i].ID[:], t.LastActive.UnixMicro()
		}
		if _, err := s.pool.Exec(ctx, sqlTouch, ids, at); err != nil {
			return wrap(ctx, err)
		}
	}
	return wrap(ctx, ctx.Err())
}

// Once implements store.Store.
func (s *Store) Once(ctx context.Context, key string, expires time.Time) (bool, error) {
	done, err := s.pool.Exec(ctx, sqlOnce, key, expires.UnixMicro())
	if err != nil {
		return false, wrap(ctx, err)
	}
	return done.RowsAffected() == 1, nil
}
