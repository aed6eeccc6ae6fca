package boltstore

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/storetest"
)

func mustOpen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return mustOpen(t, filepath.Join(t.TempDir(), "s.db")) })
}

func newRecord() store.Record {
	var r store.Record
	rand.Read(r.ID[:])
	now := time.Now()
	r.Head = store.Head{Created: now, LastActive: now, Expires: now.Add(time.Hour), Subject: "subject"}
	r.Blob = make([]byte, 4096)
	return r
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := mustOpen(t, path)
	r := newRecord()
	if _, err := s.Save(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if first, err := s.Once(t.Context(), "k", time.Now().Add(time.Hour)); !first || err != nil {
		t.Fatal(first, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, path)
	if _, err := s.Load(t.Context(), r.ID); err != nil {
		t.Error(err)
	}
	if first, err := s.Once(t.Context(), "k", time.Now().Add(time.Hour)); first || err != nil {
		t.Error("a key was forgotten", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestErrorsAtOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	mustOpen(t, path)
	if _, err := Open(path, Options{}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "none", "s.db"), Options{}); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("no directory: %v", err)
	}
	newer := filepath.Join(dir, "newer.db")
	s := mustOpen(t, newer)
	if err := s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyFormat, []byte("99")) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(newer, Options{}); !errors.Is(err, ErrFormat) {
		t.Errorf("a newer format: %v", err)
	}
	if _, err := os.Stat(newer); err != nil {
		t.Errorf("a newer file was moved: %v", err)
	}
}

func TestDamagedFileIsPutAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	s, err := Open(path, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Save(t.Context(), newRecord()); err != nil {
		t.Error(err)
	}
	if aside, err := filepath.Glob(path + ".damaged-*"); len(aside) != 1 || err != nil || !strings.Contains(log.String(), "damaged") {
		t.Errorf("%v %v %s", aside, err, log.String())
	}
}

// child runs this test binary in another role.
func child(t *testing.T, role, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), "BOLTSTORE_ROLE="+role, "BOLTSTORE_PATH="+path)
	return cmd
}

// TestChild is the other process of the tests below; on its own it has nothing to do.
func TestChild(t *testing.T) {
	path := os.Getenv("BOLTSTORE_PATH")
	switch os.Getenv("BOLTSTORE_ROLE") {
	case "crash":
		crash(mustOpen(t, path))
	case "full":
		full(t, mustOpen(t, path))
	}
}

// crash saves for ever and says what was acknowledged.
func crash(s *Store) {
	for {
		r := newRecord()
		for range 3 {
			v, err := s.Save(context.Background(), r)
			if err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
			r.Version = v
			fmt.Println("acknowledged", hex.EncodeToString(r.ID[:]), v)
		}
	}
}

// TestKilledInTheMiddle: whatever was acknowledged before a kill -9 is there afterwards.
func TestKilledInTheMiddle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	cmd := child(t, "crash", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[string]uint64{}
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		var id string
		var version uint64
		if _, err := fmt.Sscanf(lines.Text(), "acknowledged %s %d", &id, &version); err != nil {
			t.Fatal(lines.Text())
		}
		acknowledged[id] = version
		if n == 300 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	s := mustOpen(t, path)
	for id, version := range acknowledged {
		raw, err := hex.DecodeString(id)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := s.Load(t.Context(), store.ID(raw)); err != nil || r.Version < version {
			t.Errorf("%s: version %d, acknowledged %d, %v", id, r.Version, version, err)
		}
	}
	if len(acknowledged) < 100 {
		t.Errorf("only %d records", len(acknowledged))
	}
}

// full fills the file up to a limit of the process, as a full disk would.
func full(t *testing.T, s *Store) {
	good := newRecord()
	v, err := s.Save(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	limit := syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	var failed error
	for range 2000 {
		r := newRecord()
		if _, failed = s.Save(t.Context(), r); failed != nil {
			if _, err := s.Load(t.Context(), r.ID); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("a half-written record: %v", err)
			}
			break
		}
	}
	if failed == nil {
		t.Fatal("the limit was never reached")
	}
	if r, err := s.Load(t.Context(), good.ID); err != nil || r.Version != v {
		t.Fatalf("reading while it is full: %v", err)
	}
	fmt.Println("refused with:", failed)
}

// TestDiskFull: a clear error, no half-written record, and reading goes on.
func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	out, err := child(t, "full", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "refused with: boltstore:") {
		t.Fatalf("%v\n%s", err, out)
	}
	s := mustOpen(t, path) // and with space again it goes on
	if _, err := s.Save(t.Context(), newRecord()); err != nil {
		t.Error(err)
	}
}

// TestManySessionsOpenAtOnce opens a file of many sessions; the benchmark says how long 100,000 take.
func TestManySessionsOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	fill(t, path, 5000)
	began := time.Now()
	s := mustOpen(t, path)
	page, err := s.Find(t.Context(), store.Query{Limit: 1})
	if err != nil || len(page.Records) != 1 {
		t.Fatal(err)
	}
	t.Logf("5,000 sessions open in %v", time.Since(began))
}

func fill(t testing.TB, path string, n int) {
	t.Helper()
	s := mustOpen(t, path)
	s.db.NoSync = true // the content matters here, not its making
	for i := 0; i < n; {
		err := s.db.Update(func(tx *bbolt.Tx) error {
			for range min(1000, n-i) {
				if err := save(tx, newRecord()); err != nil {
					return err
				}
				i++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A large deletion is over at once for everybody, and nothing of it is left after the next sweep.
func TestLargeDeletion(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "s.db"))
	ids := fillWith(t, s, 3*many, func(r *store.Record) { r.Head.Subject, r.Head.SID = "one", rand.Text() })
	kept := fillWith(t, s, 2, func(*store.Record) {})
	if err := s.Delete(t.Context(), ids...); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), ids[1]); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it is still there: %v", err)
	}
	if page, err := s.Find(t.Context(), store.Query{Subject: "one"}); err != nil || len(page.Records) != 0 || page.Next != "" {
		t.Errorf("%d are still found, %v", len(page.Records), err)
	}
	if err := s.Touch(t.Context(), []store.Touch{{ID: ids[1], LastActive: time.Now().Add(time.Minute)}}); err != nil {
		t.Error(err)
	}
	for _, version := range []uint64{0, 1} {
		r := newRecord()
		r.ID, r.Version = ids[1], version
		if _, err := s.Save(t.Context(), r); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("it came back: %v", err)
		}
	}
	if n, err := s.Prune(t.Context(), 1000); err != nil || n != len(ids) {
		t.Errorf("%d removed, %v", n, err)
	}
	err := s.db.View(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketHeads, bucketBlobs, bucketEnds, bucketSubjects} {
			if n := tx.Bucket(name).Stats().KeyN; n != len(kept) {
				t.Errorf("%d keys are left in %s", n, name)
			}
		}
		for _, name := range [][]byte{bucketSIDs, bucketGraves} {
			if n := tx.Bucket(name).Stats().KeyN; n != 0 {
				t.Errorf("%d keys are left in %s", n, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := s.Load(t.Context(), kept[0]); err != nil {
		t.Error(err)
	}
}

// fillWith saves n records, and returns their ids.
func fillWith(t testing.TB, s *Store, n int, change func(*store.Record)) (ids []store.ID) {
	t.Helper()
	for len(ids) < n {
		err := s.db.Update(func(tx *bbolt.Tx) error {
			for range min(5000, n-len(ids)) {
				r := newRecord()
				change(&r)
				ids = append(ids, r.ID)
				if err := save(tx, r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// BenchmarkEndAll ends all sessions of one person among those of others.
func BenchmarkEndAll(b *testing.B) {
	const others, ofOne = 5000, 2000
	s := mustOpen(b, filepath.Join(b.TempDir(), "s.db"))
	s.db.NoSync = true // until it counts
	fillWith(b, s, others, func(r *store.Record) { r.Head.Subject, r.Head.SID = rand.Text(), rand.Text() })
	for b.Loop() {
		b.StopTimer()
		ids := fillWith(b, s, ofOne, func(r *store.Record) { r.Head.Subject, r.Head.SID = "one", rand.Text() })
		slices.SortFunc(ids, func(a, b store.ID) int { return bytes.Compare(a[:], b[:]) }) // as Find gives them
		s.db.NoSync = false
		if err := s.db.Sync(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for part := range slices.Chunk(ids, 1000) {
			if err := s.Delete(b.Context(), part...); err != nil {
				b.Fatal(err)
			}
		}
		s.db.NoSync = true
	}
}

func BenchmarkOpen100k(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s.db")
	fill(b, path, 100_000)
	for b.Loop() {
		s, err := Open(path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	s := mustOpen(b, filepath.Join(b.TempDir(), "s.db"))
	r := newRecord()
	if _, err := s.Save(b.Context(), r); err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Load(context.Background(), r.ID); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkSave(b *testing.B) {
	s := mustOpen(b, filepath.Join(b.TempDir(), "s.db"))
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Save(context.Background(), newRecord()); err != nil {
				b.Error(err)
			}
		}
	})
}
