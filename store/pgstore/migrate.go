package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// migrations bring the tables from the version of their index to the next. One that was released never changes.
//
// Times are microseconds since 1970. A tombstone is a row without a blob. The column ends is made by the server, so that
// no writer can get it wrong.
var migrations = []string{`
CREATE TABLE cloakroom_records (
	id          bytea PRIMARY KEY,
	version     bigint NOT NULL,
	created     bigint NOT NULL,
	last_active bigint NOT NULL,
	idle        bigint NOT NULL,
	expires     bigint NOT NULL,
	ends        bigint NOT NULL GENERATED ALWAYS AS (
		CASE WHEN idle > 0 THEN least(expires, last_active + idle) ELSE expires END) STORED,
	subject     text,
	sid         text,
	blob        bytea
) WITH (fillfactor = 85);
ALTER TABLE cloakroom_records ALTER COLUMN blob SET STORAGE EXTERNAL; -- sealed bytes cannot be compressed
CREATE INDEX cloakroom_records_ends ON cloakroom_records (ends);
CREATE INDEX cloakroom_records_subject ON cloakroom_records (subject, id) WHERE subject IS NOT NULL;
CREATE INDEX cloakroom_records_sid ON cloakroom_records (sid, id) WHERE sid IS NOT NULL;

CREATE TABLE cloakroom_changes (
	xid     xid8 NOT NULL DEFAULT pg_current_xact_id(),
	id      bytea NOT NULL,
	version bigint NOT NULL
);
CREATE INDEX cloakroom_changes_xid ON cloakroom_changes (xid);

CREATE TABLE cloakroom_once (
	key     text PRIMARY KEY,
	expires bigint NOT NULL
);
CREATE INDEX cloakroom_once_expires ON cloakroom_once (expires);
`}

// migrationLock keeps processes that start together from making the tables twice. It lasts for a transaction, which a
// pooler keeps on one connection.
const migrationLock = 0x636c6f616b726f6f

// migrate brings the tables up to date. Where they are, nothing is asked that needs more than reading.
func (s *Store) migrate(ctx context.Context) error {
	at, err := s.schemaVersion(ctx)
	if err != nil || at == len(migrations) {
		return err
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "CREATE TABLE IF NOT EXISTS cloakroom_schema (version integer NOT NULL)"); err != nil {
			return explain(err)
		}
		at, err := versionOf(ctx, tx) // another may have been faster
		if err != nil {
			return err
		}
		for _, statements := range migrations[at:] {
			if _, err := tx.Exec(ctx, statements, pgx.QueryExecModeSimpleProtocol); err != nil {
				return explain(err)
			}
		}
		if _, err := tx.Exec(ctx, "DELETE FROM cloakroom_schema"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO cloakroom_schema (version) VALUES ($1)", len(migrations)); err != nil {
			return err
		}
		if s.log != nil {
			s.log.Info("the store's tables are made", "from", at, "to", len(migrations))
		}
		return nil
	})
}

// querier is a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// schemaVersion is the version of the tables, 0 = there are none. In a transaction that has looked before, to_regclass
// would answer from memory.
func (s *Store) schemaVersion(ctx context.Context) (int, error) {
	var there bool
	if err := s.pool.QueryRow(ctx, "SELECT to_regclass('cloakroom_schema') IS NOT NULL").Scan(&there); err != nil || !there {
		return 0, err
	}
	return versionOf(ctx, s.pool)
}

func versionOf(ctx context.Context, q querier) (int, error) {
	var at int
	if err := q.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM cloakroom_schema").Scan(&at); err != nil {
		return 0, err
	}
	if at > len(migrations) {
		return 0, fmt.Errorf("%w: version %d, this one knows %d", ErrFormat, at, len(migrations))
	}
	return at, nil
}

// explain says what to do when the user may not make tables.
func explain(err error) error {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok && answer.Code == "42501" {
		return fmt.Errorf("%w; let an owner of the schema start once, then grant the rights of the package's comment", err)
	}
	return err
}
