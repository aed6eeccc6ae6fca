package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cloakroom/cloakroom/store"
	"github.com/cloakroom/cloakroom/store/boltstore"
	"github.com/cloakroom/cloakroom/store/pgstore"
	"github.com/cloakroom/cloakroom/store/redisstore"
)

// place is where a store keeps its records: a folder, and for Redis and PostgreSQL a server of its own on loopback.
type place struct {
	kind, dir, port string
	command         []string
	as              *syscall.Credential
	server          *exec.Cmd
}

// closer is a store that can be closed.
type closer interface {
	store.Store
	Close() error
}

func newPlace(kind string) (*place, error) {
	dir, err := os.MkdirTemp("", "cloakroom-bench-")
	if err != nil {
		return nil, err
	}
	p := &place{kind: kind, dir: dir, port: freePort()}
	switch kind {
	case "file":
	case "redis":
		p.command = []string{"redis-server", "--bind", "127.0.0.1", "--port", p.port, "--dir", dir, "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"}
	case "postgres":
		err = p.initPostgres()
	default:
		err = fmt.Errorf("no store %q: file, redis or postgres", kind)
	}
	return p, err
}

func (p *place) initPostgres() error {
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(p.dir, int(p.as.Uid), int(p.as.Gid)); err != nil {
			return err
		}
	}
	data := filepath.Join(p.dir, "data")
	setup := exec.Command(program("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-locale", "-E", "UTF8") //nolint:gosec,noctx // of this file
	setup.Dir, setup.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: p.as}
	if out, err := setup.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	p.command = []string{program("postgres"), "-D", data, "-p", p.port, "-h", "127.0.0.1", "-k", p.dir, "-c", "shared_buffers=512MB", "-c", "max_wal_size=4GB"}
	return nil
}

// program finds one of Debian's, which may be outside of the PATH.
func program(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) == 0 {
		return name
	}
	return found[len(found)-1]
}

func freePort() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		return "0"
	}
	defer ln.Close() //nolint:errcheck // nothing was sent
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
}

// start starts the server and opens the store as soon as that answers.
func (p *place) start(ctx context.Context) (closer, error) {
	if p.command == nil {
		return boltstore.Open(filepath.Join(p.dir, "sessions.db"), boltstore.Options{Log: slog.Default()})
	}
	p.server = exec.Command(p.command[0], p.command[1:]...) //nolint:gosec,noctx // of this file; ended by stop
	p.server.Dir, p.server.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: p.as, Setpgid: true}
	if err := p.server.Start(); err != nil {
		return nil, err
	}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		st, err := p.open(ctx)
		if err == nil || time.Since(began) > 5*time.Minute {
			return st, err
		}
	}
}

func (p *place) open(ctx context.Context) (closer, error) {
	if p.kind == "redis" {
		return redisstore.Open(ctx, "redis://127.0.0.1:"+p.port, redisstore.Options{})
	}
	return pgstore.Open(ctx, "postgres://postgres@127.0.0.1:"+p.port+"/postgres", pgstore.Options{})
}

// stop ends the server in an orderly way.
func (p *place) stop() {
	if p.server != nil {
		_ = p.server.Process.Signal(syscall.SIGINT)
		_ = p.server.Wait()
		p.server = nil
	}
}

func (p *place) remove() {
	p.stop()
	_ = os.RemoveAll(p.dir)
}

// size is what is on disk.
func (p *place) size() (total int64) {
	_ = filepath.Walk(p.dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			total += info.Size()
		}
		return nil
	})
	return total
}

// memory is the resident memory of the server and its children, in bytes; what processes share counts once.
func (p *place) memory() (total int64) {
	if p.server == nil {
		return 0
	}
	pids := []int{p.server.Process.Pid}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(raw), ") ")
		if f := strings.Fields(after); len(f) > 1 && f[1] == strconv.Itoa(pids[0]) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	for _, pid := range pids {
		total += field(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
	}
	return total
}

// field reads a number of kilobytes from a file of /proc.
func field(file, name string) int64 {
	raw, _ := os.ReadFile(file)
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}
