package redisstore_test

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/testserver"
	"github.com/cloakroom/cloakroom/store"
)

// A primary dies, and the replica in its place lacks the last writes: calls go on there, the feed breaks and stands again,
// and what was lost is as if it had never been written. (To write it again is what session.Feed does.)
func TestFailover(t *testing.T) {
	primary := testserver.Redis(t)
	_, port, _ := net.SplitHostPort(primary.Addr)
	replica := testserver.Redis(t, "--replicaof", "127.0.0.1 "+port)
	sentinel := testserver.Sentinel(t, primary)
	awaitText(t, "the sentinel knows the replica", func() string { return cli(t, sentinel, "sentinel", "master", "main") }, "num-slaves\n1\n")
	s := open(t, "redis://"+sentinel.Addr+"?master_set=main")
	kept, lost := record(1), record(2)
	if _, err := s.Save(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	awaitText(t, "the replica has it", func() string { return cli(t, replica, "exists", "cr:{"+kept.ID.String()+"}") }, "1")
	first := standing(t, s)
	cli(t, replica, "replicaof", "127.0.0.1", testserver.FreePort(t)) // what is written from here on is lost
	if _, err := s.Save(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), kept.ID); err != nil {
		t.Fatal(err)
	}
	primary.Kill()
	select {
	case <-first:
	case <-time.After(20 * time.Second):
		t.Fatal("the feed of a dead primary goes on")
	}
	for began := time.Now(); ; <-time.After(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := s.Load(ctx, kept.ID)
		cancel()
		if err == nil {
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("no failover: %v", err)
		}
	}
	if _, err := s.Load(t.Context(), lost.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("this test loses nothing: %v", err)
	}
	standing(t, s)
	if err := s.Delete(t.Context(), kept.ID); err != nil {
		t.Errorf("the new primary takes no writes: %v", err)
	}
}

func cli(t *testing.T, s *testserver.Server, args ...string) string {
	t.Helper()
	host, port, _ := net.SplitHostPort(s.Addr)
	out, err := exec.Command("redis-cli", append([]string{"-h", host, "-p", port}, args...)...).CombinedOutput()
	if err != nil {
		t.Logf("redis-cli: %v", err)
	}
	return string(out)
}

func awaitText(t *testing.T, what string, get func() string, want string) {
	t.Helper()
	for began := time.Now(); !strings.Contains(get(), want); <-time.After(50 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%s: %s", what, get())
		}
	}
}

// standing watches until the feed stands; the channel is closed when it breaks.
func standing(t *testing.T, s store.Watcher) <-chan struct{} {
	t.Helper()
	for began := time.Now(); time.Since(began) < 20*time.Second; {
		begun, broke := make(chan struct{}), make(chan struct{})
		ctx, stop := context.WithCancel(context.Background())
		t.Cleanup(stop)
		go func() {
			defer close(broke)
			_ = s.Watch(ctx, store.Feed{Begun: func() { close(begun) }, Changed: func(store.Change) {}, Alive: func(time.Time) {}})
		}()
		select {
		case <-begun:
			return broke
		case <-broke:
			<-time.After(50 * time.Millisecond)
		}
	}
	t.Fatal("the feed does not stand")
	return nil
}
