package pgstore

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloakroom/cloakroom/internal/testserver"
	"github.com/cloakroom/cloakroom/store"
)

// Every statement finds its rows by an index, whatever the size of the tables.
func TestPlans(t *testing.T) {
	server := testserver.Postgres(t)
	s, err := Open(t.Context(), "postgres://postgres@"+server.Addr+"/postgres", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, statement := range []string{
		`INSERT INTO cloakroom_records (id, version, created, last_active, idle, expires, subject, sid, blob)
SELECT sha256(n::text::bytea), 1, 0, 0, 0, 9e15, 's' || n % 5000, 'i' || n, 'x' FROM generate_series(1, 20000) n`,
		`INSERT INTO cloakroom_changes (xid, id, version) SELECT '1', sha256(n::text::bytea), 1 FROM generate_series(1, 20000) n`,
		`INSERT INTO cloakroom_once (key, expires) SELECT n::text, 9e15 FROM generate_series(1, 20000) n`,
		`ANALYZE`,
	} {
		if _, err := s.pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	bySubject, subjectArgs := findBy(store.Query{Subject: "s17"}, []byte{}, 101)
	bySID, sidArgs := findBy(store.Query{SID: "i17"}, []byte{}, 101)
	byBoth, bothArgs := findBy(store.Query{Subject: "s17", SID: "i17"}, []byte{}, 101)
	all, allArgs := findBy(store.Query{}, []byte{}, 101)
	id := make([]byte, 32)
	for name, tc := range map[string]struct {
		statement string
		args      []any
	}{
		"load": {sqlLoad, []any{id}}, "by subject": {bySubject, subjectArgs}, "by sid": {bySID, sidArgs},
		"by both": {byBoth, bothArgs}, "all": {all, allArgs},
		"prune": {sqlPruneRecords, []any{100}}, "prune once": {sqlPruneOnce, []any{100}},
		"replace": {sqlReplace, []any{id, int64(0), int64(0), int64(0), int64(0), "", "", []byte{}, int64(1)}},
		"touch":   {sqlTouch, []any{[][]byte{id}, []int64{1}}},
		"feed":    {sqlChanges, []any{"1000000", []string{"999999"}}},
	} {
		rows, err := s.pool.Query(t.Context(), "EXPLAIN "+tc.statement, tc.args...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var plan strings.Builder
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&plan, line)
		}
		if err := rows.Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(plan.String(), "Seq Scan on cloakroom") {
			t.Errorf("%s reads a whole table:\n%s", name, plan.String())
		}
	}
}

func TestParseSnapshot(t *testing.T) {
	for text, want := range map[string]string{"10:20:": "10 20 []", "10:20:10,14": "10 20 [10 14]", "": "error", "1:2": "error", "1:2:3:4": "error"} {
		s, err := parseSnapshot(text)
		got := fmt.Sprint(s.xmin, " ", s.xmax, " ", s.xip)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
