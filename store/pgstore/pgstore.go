// Package pgstore keeps records in PostgreSQL 13 or later, for any number of Cloakroom processes.
//
// A record is one row; the blob is stored beside it where it is large, so a touch does not rewrite it. The time by which
// records end is the server's. Every call is one statement, so PgBouncer in transaction mode may stand in between:
// nothing is prepared, no session lock is held, nobody listens. The change feed is a table that each process polls
// twenty times a second (see watch.go for why it misses nothing).
//
// Open makes the tables cloakroom_schema, cloakroom_records, cloakroom_changes and cloakroom_once in the first schema
// of the user's search_path, and brings older ones up to date; processes that start together wait for each other. A user
// who may not create tables is fine when an owner's process was there before:
//
//	GRANT SELECT ON cloakroom_schema TO app;
//	GRANT SELECT, INSERT, UPDATE, DELETE ON cloakroom_records, cloakroom_changes, cloakroom_once TO app;
//
// What is acknowledged survives a crash of the server unless synchronous_commit is off; it survives a failover if the
// standby is in synchronous_standby_names. What a failover loses all the same, every Cloakroom process repairs from its
// memory of the last minutes.
package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloakroom/cloakroom/store"
)

// ErrFormat says that the tables were made by a newer version.
var ErrFormat = errors.New("the tables were made by a newer version of Cloakroom")

// errReadOnly says that the server takes no writes: a standby, most often.
var errReadOnly = errors.New("the server is a standby and takes no writes")

// Options are for Open. The zero value works.
type Options struct {
	Log *slog.Logger // hears that tables were made or changed; nil = nobody
}

// Store is a pool of connections to PostgreSQL, and a small one for the feed: a burst of requests that takes all the
// others must not make the feed look broken, or every request would ask the store on top of it.
type Store struct {
	pool *pgxpool.Pool
	feed *pgxpool.Pool
	log  *slog.Logger
}

const (
	// openTime bounds what Open asks of the server.
	openTime = 10 * time.Second
	// poolSize is how many connections a process has at most, unless the URL says pool_max_conns. Each is in use for one
	// statement only.
	poolSize = 16
)

// Open connects by a URL, with what github.com/jackc/pgx/v5/pgxpool understands:
//
//	postgres://user:password@host:5432/database?sslmode=verify-full&sslrootcert=ca.pem
//	postgres://user:password@host1,host2/database?target_session_attrs=read-write   whichever takes writes
//	postgres://user:password@pgbouncer:6432/database?pool_max_conns=8               through PgBouncer
//
// An error wraps [store.ErrUnreachable] when nobody answers, and [ErrFormat] when the tables are of a newer version.
func Open(ctx context.Context, address string, o Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, fmt.Errorf("pgstore: %w", err) // pgx leaves the password out
	}
	// Unnamed statements only: a pooler may give each statement another connection.
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	cfg.ConnConfig.StatementCacheCapacity, cfg.ConnConfig.DescriptionCacheCapacity = 0, 0
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = openTime / 2
	}
	if cfg.MaxConns <= 4 { // pgxpool's own default on small machines
		cfg.MaxConns = max(cfg.MaxConns, poolSize)
	}
	if _, set := cfg.ConnConfig.RuntimeParams["application_name"]; !set {
		cfg.ConnConfig.RuntimeParams["application_name"] = "cloakroom"
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		return nil, fmt.Errorf("pgstore: %w", err)
	}
	one := cfg.Copy()
	one.MinConns, one.MinIdleConns, one.MaxConns = 0, 0, 2
	feed, err := pgxpool.NewWithConfig(context.Background(), one)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("pgstore: %w", err)
	}
	s := &Store{pool: pool, feed: feed, log: o.Log}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	if err := s.migrate(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("pgstore: %w", unreachable(err))
	}
	return s, nil
}

// Close ends the connections.
func (s *Store) Close() error {
	s.feed.Close()
	s.pool.Close()
	return nil
}

// Ping says whether the server answers and takes writes.
func (s *Store) Ping(ctx context.Context) error {
	var standby bool
	if err := s.pool.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return wrap(ctx, err)
	}
	if standby {
		return wrap(ctx, errReadOnly)
	}
	return nil
}

// Now is the server's time.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var micro int64
	err := s.pool.QueryRow(ctx, "SELECT (extract(epoch from clock_timestamp()) * 1000000)::bigint").Scan(&micro)
	return time.UnixMicro(micro), wrap(ctx, err)
}

// unreachable marks an error of the network; an answer of the server, as to a wrong password, is none. A server that is
// starting, stopping or full answers, too.
func unreachable(err error) error {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch answer.Code[:min(2, len(answer.Code))] {
		case "53", "57", "08": // insufficient resources, operator intervention, connection exception
		default:
			return err
		}
	}
	if errors.Is(err, ErrFormat) {
		return err
	}
	return fmt.Errorf("%w: %w", store.ErrUnreachable, err)
}

// wrap names the room where the error is not one of the contract. A call whose context is over says so.
func wrap(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("pgstore: %w", ctx.Err())
	}
	return fmt.Errorf("pgstore: %w", err)
}
