package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloakroom/cloakroom/internal/testserver"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/pgstore"
	"github.com/cloakroom/cloakroom/store/storetest"
)

// url names a new, empty database of the server.
func url(t *testing.T, addr string, settings ...string) string {
	t.Helper()
	name := fmt.Sprintf("t%d", databases.Add(1))
	exec(t, "postgres://postgres@"+addr+"/postgres", "CREATE DATABASE "+name)
	return "postgres://postgres@" + addr + "/" + name + "?" + strings.Join(settings, "&")
}

var databases atomic.Int64

// exec runs statements as somebody else than the store.
func exec(t *testing.T, address string, statements ...string) {
	t.Helper()
	c := connect(t, address)
	for _, statement := range statements {
		if _, err := c.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func open(t *testing.T, address string) *pgstore.Store {
	t.Helper()
	s, err := pgstore.Open(t.Context(), address, pgstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func record(n int) store.Record {
	now := time.Now().Truncate(time.Millisecond)
	r := store.Record{Head: store.Head{Created: now, LastActive: now, Idle: time.Hour, Expires: now.Add(24 * time.Hour), Subject: "s"}, Blob: []byte("x")}
	r.ID[0], r.ID[1] = byte(n>>8), byte(n)
	return r
}

func save(t *testing.T, s *pgstore.Store, r store.Record) store.Record {
	t.Helper()
	v, err := s.Save(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	r.Version = v
	return r
}

// One server and one PgBouncer serve all that can share them: to make one takes seconds.
func TestOnOneServer(t *testing.T) {
	server := testserver.Postgres(t, "max_connections=300", "fsync=off") // no crash is tested here
	bouncer := testserver.PgBouncer(t, server.Addr)
	exec(t, "postgres://postgres@"+server.Addr+"/postgres", "CREATE USER app")
	for name, test := range map[string]func(t *testing.T, server, bouncer string){
		"the contract": contract, "the contract through PgBouncer": contractThroughPgBouncer,
		"the contract with few rights": contractWithFewRights, "many start together": manyStartTogether,
		"open says what is wrong": openSaysWhatIsWrong, "a late commit": lateCommit, "cut connections": cutConnections,
		"read only": readOnly, "many prune together": manyPruneTogether, "no deadlock": noDeadlock,
	} {
		t.Run(name, func(t *testing.T) { test(t, server.Addr, bouncer.Addr) })
	}
}

func contract(t *testing.T, server, _ string) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, url(t, server)) })
}

// Through PgBouncer in transaction mode, where each statement may get another connection.
func contractThroughPgBouncer(t *testing.T, _, bouncer string) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, url(t, bouncer, "pool_max_conns=8")) })
}

// With a user that has the rights of the package's comment and no more.
func contractWithFewRights(t *testing.T, server, _ string) {
	storetest.Run(t, func(t *testing.T) store.Store {
		owner := url(t, server)
		open(t, owner)
		exec(t, owner, "REVOKE ALL ON SCHEMA public FROM PUBLIC", "GRANT USAGE ON SCHEMA public TO app",
			"GRANT SELECT ON cloakroom_schema TO app",
			"GRANT SELECT, INSERT, UPDATE, DELETE ON cloakroom_records, cloakroom_changes, cloakroom_once TO app")
		return open(t, strings.Replace(owner, "postgres@", "app@", 1))
	})
}

// Processes that start together make the tables once.
func manyStartTogether(t *testing.T, server, bouncer string) {
	for _, address := range []string{url(t, server), url(t, bouncer)} {
		var work sync.WaitGroup
		for range 8 {
			work.Go(func() {
				s, err := pgstore.Open(t.Context(), address, pgstore.Options{})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Find(t.Context(), store.Query{}); err != nil {
					t.Error(err)
				}
				_ = s.Close()
			})
		}
		work.Wait()
	}
}

func openSaysWhatIsWrong(t *testing.T, server, _ string) {
	newer := url(t, server)
	open(t, newer)
	exec(t, newer, "UPDATE cloakroom_schema SET version = 1000")
	for _, tc := range []struct {
		address     string
		unreachable bool
		says        string
	}{
		{"postgres://app:wrong-pw@127.0.0.1:" + testserver.FreePort(t) + "/x", true, ""},
		{"postgres://app:wrong-pw@" + server + "/nowhere", false, "nowhere"},
		{"postgres://app:wrong-pw@" + server + "/postgres", false, "let an owner"},
		{"postgres://app:wrong-pw@" + server + "/postgres?sslmode=nonsense", false, "sslmode"},
		{newer, false, "newer version"},
	} {
		_, err := pgstore.Open(t.Context(), tc.address, pgstore.Options{})
		switch {
		case err == nil || errors.Is(err, store.ErrUnreachable) != tc.unreachable || !strings.Contains(err.Error(), tc.says):
			t.Errorf("%s: %v", tc.address, err)
		case strings.Contains(err.Error(), "wrong-pw"):
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

// watch runs a feed until the test ends, and hands on what it says.
type feed struct {
	begun   chan struct{}
	broke   chan error
	mu      sync.Mutex
	changes []store.Change
	alive   time.Time
}

func watch(t *testing.T, s *pgstore.Store) *feed {
	t.Helper()
	f := &feed{begun: make(chan struct{}), broke: make(chan error, 1)}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	go func() {
		f.broke <- s.Watch(ctx, store.Feed{
			Begun: func() { close(f.begun) },
			Changed: func(c store.Change) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.changes = append(f.changes, c)
			},
			Alive: func(since time.Time) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.alive = since
			},
		})
	}()
	select {
	case <-f.begun:
	case err := <-f.broke:
		t.Fatal(err)
	}
	return f
}

func (f *feed) times(id store.ID) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.changes {
		if c.ID == id {
			n++
		}
	}
	return n
}

func (f *feed) provedAfter(at time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.alive.After(at)
}

func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); <-time.After(10 * time.Millisecond) {
		if time.Since(began) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// A transaction that began before others and commits after them is told, once, and holds nobody up; neither does one
// that lasts.
func lateCommit(t *testing.T, server, _ string) {
	address := url(t, server)
	s := open(t, address)
	f := watch(t, s)
	late, lasting := connect(t, address), connect(t, address)
	begin := func(c *pgx.Conn, id store.ID) pgx.Tx {
		tx, err := c.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "INSERT INTO cloakroom_changes (id, version) VALUES ($1, 7)", id[:]); err != nil {
			t.Fatal(err)
		}
		return tx
	}
	one, two := record(1001).ID, record(1002).ID
	begin(lasting, two)
	tx := begin(late, one)
	for i := range 20 {
		r := save(t, s, record(i))
		within(t, 2*time.Second, "a change beside an open transaction", func() bool { return f.times(r.ID) == 1 })
	}
	if f.times(one) != 0 {
		t.Error("told before it was committed")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, 2*time.Second, "the late change", func() bool { return f.times(one) == 1 })
	committed := time.Now()
	within(t, 2*time.Second, "a sign of life", func() bool { return f.provedAfter(committed) })
	for i := range 20 {
		if n := f.times(record(i).ID); n != 1 {
			t.Errorf("change %d came %d times", i, n)
		}
	}
	if f.times(one) != 1 || f.times(two) != 0 {
		t.Errorf("%d and %d", f.times(one), f.times(two))
	}
}

// Stopped and started again: calls fail meanwhile and the feed says that it is broken; then everything is there.
func TestRestart(t *testing.T) {
	server := testserver.Postgres(t)
	s := open(t, url(t, server.Addr))
	r := save(t, s, record(1))
	f := watch(t, s)
	server.Kill()
	select {
	case err := <-f.broke:
		if err == nil {
			t.Error("no reason")
		}
	case <-time.After(10 * time.Second):
		t.Error("the feed of a dead server goes on")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for what, err := range map[string]error{
		"load":   func() error { _, err := s.Load(ctx, r.ID); return err }(),
		"save":   func() error { _, err := s.Save(ctx, r); return err }(),
		"delete": s.Delete(ctx, r.ID),
		"ping":   s.Ping(ctx),
	} {
		if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
			t.Errorf("%s at a dead server: %v", what, err)
		}
	}
	server.Start()
	within(t, 20*time.Second, "the record", func() bool {
		_, err := s.Load(t.Context(), r.ID)
		if errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	})
	watch(t, s)
}

// A server that stands still with its connections open: the feed proves nothing meanwhile, and breaks.
func TestHalfOpenFeed(t *testing.T) {
	server := testserver.Postgres(t)
	s := open(t, url(t, server.Addr))
	f := watch(t, s)
	began := time.Now()
	within(t, 5*time.Second, "a sign of life", func() bool { return f.provedAfter(began) })
	server.Pause()
	defer server.Continue()
	paused := time.Now()
	select {
	case <-f.broke:
	case <-time.After(15 * time.Second):
		t.Error("the feed goes on without an answer")
	}
	if f.provedAfter(paused.Add(100 * time.Millisecond)) {
		t.Error("alive after the pause")
	}
}

// Connections that are cut in mid-work lose nothing that was acknowledged, and nothing is done twice.
func cutConnections(t *testing.T, server, _ string) {
	address := url(t, server)
	s := open(t, address)
	ctx, stop := context.WithCancel(t.Context())
	saboteur := connect(t, address)
	r := save(t, s, record(1)) // before the first cut
	var work sync.WaitGroup
	defer func() { stop(); work.Wait() }() // also after a failure: its connection is closed with the test
	work.Go(func() {
		for ctx.Err() == nil {
			_, _ = saboteur.Exec(context.Background(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cloakroom' AND datname = current_database()")
			<-time.After(150 * time.Millisecond)
		}
	})
	acknowledged, failed := r.Version, 0
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		v, err := s.Save(t.Context(), r)
		switch {
		case err == nil:
			if v != r.Version+1 {
				t.Fatalf("version %d after %d", v, r.Version)
			}
			acknowledged, r.Version = v, v
		case errors.Is(err, store.ErrNotFound):
			t.Fatal(err)
		default: // done or not: look
			failed++
			got, err := s.Load(t.Context(), r.ID)
			if err != nil {
				continue
			}
			if got.Version < acknowledged {
				t.Fatalf("version %d, acknowledged %d", got.Version, acknowledged)
			}
			r.Version = got.Version
		}
	}
	stop()
	work.Wait()
	if failed == 0 || acknowledged < 5 {
		t.Errorf("%d failed, %d acknowledged: nothing was tried", failed, acknowledged)
	}
}

// A server that takes no writes says so, and what is there can be read.
func readOnly(t *testing.T, server, _ string) {
	address := url(t, server)
	r := save(t, open(t, address), record(1))
	s := open(t, address+"options=-c%20default_transaction_read_only%3Don")
	if _, err := s.Save(t.Context(), r); err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
		t.Errorf("save: %v", err)
	}
	if err := s.Delete(t.Context(), r.ID); err == nil {
		t.Error("deleted")
	}
	if _, err := s.Load(t.Context(), r.ID); err != nil {
		t.Errorf("load: %v", err)
	}
}

// The work of every process that prunes is its own: together they remove what is over, once, while others write.
func manyPruneTogether(t *testing.T, server, _ string) {
	address := url(t, server)
	s := open(t, address)
	exec(t, address, `INSERT INTO cloakroom_records (id, version, created, last_active, idle, expires, blob)
SELECT sha256(n::text::bytea), 1, 0, 0, 0, 1, 'x' FROM generate_series(1, 5000) n`)
	live := save(t, s, record(1))
	var total atomic.Int64
	var work sync.WaitGroup
	for range 4 {
		other := open(t, address)
		work.Go(func() {
			for {
				n, err := other.Prune(t.Context(), 300)
				if err != nil {
					t.Error(err)
				}
				if total.Add(int64(n)); n == 0 {
					return
				}
			}
		})
	}
	work.Wait()
	if total.Load() != 5000 {
		t.Errorf("%d of 5000", total.Load())
	}
	if _, err := s.Load(t.Context(), live.ID); err != nil {
		t.Error(err)
	}
}

// Two processes that delete and touch the same records in other orders do not wait for each other.
func noDeadlock(t *testing.T, server, _ string) {
	address := url(t, server)
	one, two := open(t, address), open(t, address)
	ids := make([]store.ID, 300)
	for round := range 6 {
		touches := make([]store.Touch, len(ids))
		for i := range ids {
			ids[i] = save(t, one, record(1000*(round+1)+i)).ID
			touches[i] = store.Touch{ID: ids[i], LastActive: time.Now().Add(time.Minute)}
		}
		var work sync.WaitGroup
		for n, s := range []*pgstore.Store{one, two, one, two} {
			work.Go(func() {
				for k := range 5 {
					mine := append([]store.Touch(nil), touches...)
					for i := range mine {
						mine[i].LastActive = mine[i].LastActive.Add(time.Duration(10*k+n) * time.Second)
					}
					if n%2 == 1 {
						for i, j := 0, len(mine)-1; i < j; i, j = i+1, j-1 {
							mine[i], mine[j] = mine[j], mine[i]
						}
					}
					if err := s.Touch(t.Context(), mine); err != nil {
						t.Error(err)
					}
				}
				if err := s.Delete(t.Context(), ids...); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
	}
}
