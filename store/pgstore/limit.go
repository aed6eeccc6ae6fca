package pgstore

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloakroom/cloakroom/store"
)

// A counter is a key that is forgotten when nothing is owed any more, so it rests where such keys rest: expires is its
// theoretical arrival time.
const (
	sqlTake = `INSERT INTO cloakroom_once AS o (key, expires) VALUES ($1, ` + sqlNow + ` + $2)
ON CONFLICT (key) DO UPDATE SET expires = greatest(o.expires, ` + sqlNow + `) + $2
WHERE greatest(o.expires, ` + sqlNow + `) + $2 - ` + sqlNow + ` <= $3`
	sqlOwed = `SELECT greatest(expires - ` + sqlNow + `, 0) FROM cloakroom_once WHERE key = $1`
	sqlGive = `UPDATE cloakroom_once SET expires = expires - $2 WHERE key = $1`
)

// Take implements store.Limiter.
func (s *Store) Take(ctx context.Context, key string, r store.Rate) (time.Duration, error) {
	name, cost, limit := "limit:"+key, r.Interval.Microseconds(), r.Limit.Microseconds()
	done, err := s.pool.Exec(ctx, sqlTake, name, cost, limit)
	if err != nil || done.RowsAffected() == 1 {
		return 0, wrap(ctx, err)
	}
	var owed int64
	if err := s.pool.QueryRow(ctx, sqlOwed, name).Scan(&owed); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, wrap(ctx, err)
	}
	return time.Duration(max(owed+cost-limit, 1)) * time.Microsecond, nil
}

// Give implements store.Limiter.
func (s *Store) Give(ctx context.Context, key string, r store.Rate) error {
	_, err := s.pool.Exec(ctx, sqlGive, "limit:"+key, r.Interval.Microseconds())
	return wrap(ctx, err)
}
