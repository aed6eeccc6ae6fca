package store

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/storetest"
)

func open(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, filepath.Join(t.TempDir(), "log")) })
}

// What was acknowledged is there after a restart; a line that a crash cut off never was.
func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, path)
	now := time.Now()
	kept := store.Record{ID: store.ID{1}, Head: store.Head{Created: now, LastActive: now, Expires: now.Add(time.Hour)}, Blob: []byte("kept")}
	gone := kept
	gone.ID = store.ID{2}
	for _, r := range []store.Record{kept, gone} {
		if _, err := l.Save(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Delete(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(`{"saved":{"ID":`); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, path)
	if r, err := again.Load(t.Context(), kept.ID); err != nil || string(r.Blob) != "kept" || r.Version != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := again.Save(t.Context(), gone); err == nil {
		t.Error("what was deleted came back after a restart")
	}
	if _, err := again.Save(t.Context(), store.Record{ID: store.ID{3}, Head: kept.Head}); err != nil {
		t.Error(err)
	}
	open(t, path)
}
