package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/testserver"
	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/redisstore"
	"github.com/cloakroom/cloakroom/store/storetest"
)

func open(t *testing.T, url string) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(t.Context(), url, redisstore.Options{})
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

func TestContract(t *testing.T) {
	server := testserver.Redis(t)
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, fmt.Sprintf("redis://%s?prefix=t%d:", server.Addr, n.Add(1)))
	})
}

func TestContractOnACluster(t *testing.T) {
	addr := testserver.RedisCluster(t)
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, fmt.Sprintf("redis://%s?prefix=t%d:", addr, n.Add(1)))
	})
}

// aclUser is the rule of docs/operate.md, as it stands there.
func aclUser(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "operate.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rule, _ := strings.Cut(string(raw), "```acl\n")
	rule, _, found := strings.Cut(rule, "\n```")
	if !found {
		t.Fatal("docs/operate.md has no rule")
	}
	return strings.Fields(rule)
}

// With a user that may touch nothing but its own prefix.
func TestContractWithAnACLUser(t *testing.T) {
	server := testserver.Redis(t, append([]string{"--user", "default", "off", "--user"}, aclUser(t)...)...)
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T) store.Store {
		return open(t, fmt.Sprintf("redis://cloakroom:secret@%s?prefix=own:%d:", server.Addr, n.Add(1)))
	})
}

func TestEvictionIsRefused(t *testing.T) {
	server := testserver.Redis(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	_, err := redisstore.Open(t.Context(), "redis://"+server.Addr, redisstore.Options{})
	if !errors.Is(err, redisstore.ErrEviction) || errors.Is(err, store.ErrUnreachable) {
		t.Errorf("%v", err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	server := testserver.Redis(t, "--requirepass", "right")
	for url, unreachable := range map[string]bool{
		"redis://127.0.0.1:" + testserver.FreePort(t):  true,
		"redis://:wrong-pw@" + server.Addr:             false,
		"redis://:right@" + server.Addr + "?prefix={x": false,
		"redis://:pw%zz@" + server.Addr:                false,
	} {
		_, err := redisstore.Open(t.Context(), url, redisstore.Options{})
		if err == nil || errors.Is(err, store.ErrUnreachable) != unreachable {
			t.Errorf("%s: %v", url, err)
		} else if strings.Contains(err.Error(), "wrong-pw") || strings.Contains(err.Error(), "pw%zz") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
	open(t, "redis://:right@"+server.Addr)
}

// A store that is full refuses, and what is there stays.
func TestFull(t *testing.T) {
	server := testserver.Redis(t, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
	s := open(t, "redis://"+server.Addr)
	first := record(1)
	if _, err := s.Save(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 2; i < 100 && err == nil; i++ {
		r := record(i)
		r.Blob = make([]byte, 100<<10)
		_, err = s.Save(t.Context(), r)
	}
	if err == nil || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := s.Load(t.Context(), first.ID); err != nil {
		t.Error(err)
	}
}

func record(n int) store.Record {
	now := time.Now().Truncate(time.Millisecond)
	r := store.Record{Head: store.Head{Created: now, LastActive: now, Idle: time.Hour, Expires: now.Add(24 * time.Hour), Subject: "s"}, Blob: []byte("x")}
	r.ID[0], r.ID[1] = byte(n>>8), byte(n)
	return r
}

// Killed and started again: calls fail meanwhile and the feed says that it is broken; then everything is there.
func TestRestart(t *testing.T) {
	server := testserver.Redis(t)
	s := open(t, "redis://"+server.Addr)
	r := record(1)
	if _, err := s.Save(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	begun, broke := make(chan struct{}), make(chan error, 1)
	go func() {
		broke <- s.Watch(t.Context(), store.Feed{Begun: func() { close(begun) }, Changed: func(store.Change) {}, Alive: func(time.Time) {}})
	}()
	<-begun
	server.Kill()
	select {
	case err := <-broke:
		if err == nil {
			t.Error("no reason")
		}
	case <-time.After(5 * time.Second):
		t.Error("the feed of a dead server goes on")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := s.Load(ctx, r.ID); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("a dead server says %v", err)
	}
	server.Start()
	for began := time.Now(); ; <-time.After(50 * time.Millisecond) {
		if _, err := s.Load(t.Context(), r.ID); err == nil {
			break
		} else if errors.Is(err, store.ErrNotFound) || time.Since(began) > 10*time.Second {
			t.Fatal(err)
		}
	}
}

// A server that stands still with its connections open: the feed may prove nothing meanwhile, and breaks.
func TestHalfOpenFeed(t *testing.T) {
	server := testserver.Redis(t)
	s := open(t, "redis://"+server.Addr)
	begun, broke := make(chan struct{}), make(chan error, 1)
	var alive atomic.Int64
	go func() {
		broke <- s.Watch(t.Context(), store.Feed{Begun: func() { close(begun) }, Changed: func(store.Change) {}, Alive: func(since time.Time) { alive.Store(since.UnixNano()) }})
	}()
	<-begun
	for alive.Load() == 0 {
		runtime.Gosched()
	}
	server.Pause()
	paused := time.Now()
	select {
	case <-broke:
	case <-time.After(2 * 3 * time.Second):
		t.Error("the feed goes on without a heartbeat")
	}
	if last := time.Unix(0, alive.Load()); alive.Load() == 0 || last.After(paused.Add(10*time.Millisecond)) {
		t.Errorf("alive %v after the pause", last.Sub(paused))
	}
	server.Continue()
}
