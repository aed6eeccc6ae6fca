package pgstore

import "context"

const (
	sqlPruneRecords = `DELETE FROM cloakroom_records WHERE id IN (
SELECT id FROM cloakroom_records WHERE ends <= ` + sqlNow + ` ORDER BY ends LIMIT $1 FOR UPDATE SKIP LOCKED)`
	sqlPruneOnce = `DELETE FROM cloakroom_once WHERE key IN (
SELECT key FROM cloakroom_once WHERE expires <= ` + sqlNow + ` ORDER BY expires LIMIT $1 FOR UPDATE SKIP LOCKED)`
)

// Prune implements store.Pruner. Several processes may do it at once: each takes what no other has taken.
func (s *Store) Prune(ctx context.Context, limit int) (int, error) {
	n := 0
	for _, statement := range []string{sqlPruneRecords, sqlPruneOnce} {
		if limit <= n {
			break
		}
		done, err := s.pool.Exec(ctx, statement, limit-n)
		if err != nil {
			return n, wrap(ctx, err)
		}
		n += int(done.RowsAffected())
	}
	return n, nil
}
