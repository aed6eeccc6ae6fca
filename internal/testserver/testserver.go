// Package testserver starts real servers for tests: Redis and PostgreSQL, on loopback, in a directory of their own,
// ended with the test; and a listener in memory. A test that finds no such program on the machine is skipped and says so.
package testserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a running server. It can be stopped and started again: what it keeps on disk stays.
type Server struct {
	Addr string // host:port
	Dir  string // its working directory
	Log  string // the file that it writes to

	t       testing.TB
	command []string
	as      *syscall.Credential
	ready   func(context.Context) error
	process *exec.Cmd
	gone    chan struct{}
}

const startTime = 30 * time.Second

// FreePort is a TCP port on loopback that nobody has right now.
func FreePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck // nothing was sent
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
}

// Start starts the server (again) and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(s.command[0], s.command[1:]...) //nolint:gosec,noctx // of this package; ended by Kill
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setpgid: true}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); _ = log.Close(); close(gone) }()
	s.process, s.gone = cmd, gone
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	for {
		err := s.ready(ctx)
		if err == nil {
			return
		}
		select {
		case <-gone:
			err = fmt.Errorf("it ended: %w", err)
			cancel()
		case <-time.After(20 * time.Millisecond):
		}
		if ctx.Err() != nil {
			text, _ := os.ReadFile(s.Log)
			s.t.Fatalf("%s does not answer: %v\n%s", s.command[0], err, text)
		}
	}
}

// Kill ends the server without a word, as a power cut would.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop ends the server in an orderly way.
func (s *Server) Stop() { s.end(syscall.SIGINT) }

func (s *Server) end(sig syscall.Signal) {
	if s.process == nil {
		return
	}
	pid, children := s.process.Process.Pid, s.children()
	s.signal(syscall.SIGCONT)
	_ = syscall.Kill(pid, sig)
	select {
	case <-s.gone:
	case <-time.After(10 * time.Second):
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		<-s.gone
	}
	outlived(children)
	s.process = nil
}

// Pause stops the server where it stands, with its connections open: to others it looks slow, or half dead.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Continue lets it go on.
func (s *Server) Continue() { s.signal(syscall.SIGCONT) }

// signal reaches the server and its children.
func (s *Server) signal(sig syscall.Signal) {
	for _, pid := range append([]int{s.process.Process.Pid}, s.children()...) {
		_ = syscall.Kill(pid, sig)
	}
}

// children are the processes that the server has started: those of PostgreSQL are process groups of their own.
func (s *Server) children() (pids []int) {
	parent := strconv.Itoa(s.process.Process.Pid)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(raw), ") ") // the name before may hold anything
		fields := strings.Fields(after)
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && len(fields) > 1 && fields[1] == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// outlived waits until these processes are gone: PostgreSQL does not start while one of its old ones holds its memory.
func outlived(pids []int) {
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(5 * time.Millisecond) {
		alive := false
		for _, pid := range pids {
			alive = alive || syscall.Kill(pid, syscall.SIGKILL) == nil
		}
		if !alive {
			return
		}
	}
}

// need returns the path of a program, or skips the test.
func need(t testing.TB, name string, also ...string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, pattern := range also {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	t.Skip("skipped: needs " + name)
	return ""
}

// dial reports whether something listens at addr.
func dial(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// Redis starts a redis-server with these further settings ("--name", "value", ...). It writes every change to its
// append-only file before it answers, so that Kill and Start lose nothing.
func Redis(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := NewRedis(t, settings...)
	s.Start()
	return s
}

// NewRedis is Redis without starting it.
func NewRedis(t testing.TB, settings ...string) *Server {
	t.Helper()
	path, port, dir := need(t, "redis-server"), FreePort(t), t.TempDir()
	s := &Server{Addr: "127.0.0.1:" + port, Dir: dir, Log: filepath.Join(dir, "log"), t: t}
	s.command = append([]string{
		path, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--appendonly", "yes",
		"--appendfsync", "always", "--databases", "64",
	}, settings...)
	s.ready = s.pong
	t.Cleanup(s.Kill)
	return s
}

// pong asks whether Redis has read its files and serves. One that wants a password serves, too.
func (s *Server) pong(ctx context.Context) error {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // asked once
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer := make([]byte, 64)
	n, err := c.Read(answer)
	if err != nil {
		return err
	}
	if got := string(answer[:n]); got != "+PONG\r\n" && got[:min(n, 7)] != "-NOAUTH" && got[:min(n, 7)] != "-DENIED" {
		return fmt.Errorf("redis says %q", got)
	}
	return nil
}

// Sentinel starts a Sentinel that watches a Redis server under the name "main" and puts its replica in its place within
// about a second.
func Sentinel(t testing.TB, primary *Server) *Server {
	t.Helper()
	path, port, dir := need(t, "redis-sentinel"), FreePort(t), t.TempDir()
	host, at, _ := net.SplitHostPort(primary.Addr)
	file := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nsentinel monitor main %s %s 1\nsentinel down-after-milliseconds main 500\n"+
		"sentinel failover-timeout main 3000\n", port, dir, host, at)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: "127.0.0.1:" + port, Dir: dir, Log: filepath.Join(dir, "log"), t: t, command: []string{path, file}}
	s.ready = s.pong
	t.Cleanup(s.Kill)
	s.Start()
	return s
}

// Postgres starts a PostgreSQL server with an empty database "postgres" and the superuser "postgres" without a
// password.
func Postgres(t testing.TB, settings ...string) *Server {
	t.Helper()
	const debian = "/usr/lib/postgresql/*/bin/"
	initdb, postgres := need(t, "initdb", debian+"initdb"), need(t, "postgres", debian+"postgres")
	port, dir := FreePort(t), t.TempDir()
	s := &Server{Addr: "127.0.0.1:" + port, Dir: dir, Log: filepath.Join(dir, "log"), t: t}
	s.giveUpRoot("postgres", "nobody")
	data := filepath.Join(dir, "data")
	setup := exec.Command(initdb, "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8") //nolint:gosec,noctx // of this package
	setup.SysProcAttr, setup.Dir = &syscall.SysProcAttr{Credential: s.as}, dir
	if out, err := setup.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.command = []string{postgres, "-D", data, "-p", port, "-h", "127.0.0.1", "-k", dir}
	for _, setting := range settings {
		s.command = append(s.command, "-c", setting)
	}
	s.ready = func(ctx context.Context) error {
		if err := dial(s.Addr)(ctx); err != nil {
			return err
		}
		isready, err := exec.LookPath("pg_isready")
		if err != nil {
			found, _ := filepath.Glob(debian + "pg_isready")
			if len(found) == 0 {
				return nil
			}
			isready = found[len(found)-1]
		}
		return exec.CommandContext(ctx, isready, "-q", "-h", "127.0.0.1", "-p", port).Run() //nolint:gosec // of this package
	}
	t.Cleanup(s.Kill)
	s.Start()
	return s
}

// PgBouncer starts a PgBouncer in transaction mode in front of a PostgreSQL server.
func PgBouncer(t testing.TB, postgres string) *Server {
	t.Helper()
	path, port, dir := need(t, "pgbouncer", "/usr/sbin/pgbouncer"), FreePort(t), t.TempDir()
	s := &Server{Addr: "127.0.0.1:" + port, Dir: dir, Log: filepath.Join(dir, "log"), t: t}
	s.giveUpRoot("postgres", "nobody")
	host, to, _ := net.SplitHostPort(postgres)
	users, file := filepath.Join(dir, "users.txt"), filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf("[databases]\n* = host=%s port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %s\nunix_socket_dir =\n"+
		"auth_type = any\nauth_file = %s\npool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 1000\n", host, to, port, users)
	text = strings.Replace(text, "[databases]\n* = host", "[databases]\n* = user=postgres host", 1) // auth_type any has no user of its own
	for name, content := range map[string]string{users: "", file: text} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil { //nolint:gosec // another user reads it
			t.Fatal(err)
		}
	}
	s.command = []string{path, "-q", file}
	s.ready = dial(s.Addr)
	t.Cleanup(s.Kill)
	s.Start()
	return s
}

// giveUpRoot makes the server run as another user where this process is root, with a directory that is its own:
// PostgreSQL and PgBouncer refuse to run as root.
func (s *Server) giveUpRoot(names ...string) {
	s.t.Helper()
	if os.Getuid() != 0 {
		return
	}
	s.as = credentialOf(s.t, names...)
	for at := s.Dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil { //nolint:gosec // another user must get through
			s.t.Fatal(err)
		}
	}
	if err := os.Chown(s.Dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
		s.t.Fatal(err)
	}
}

func credentialOf(t testing.TB, names ...string) *syscall.Credential {
	t.Helper()
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Skip("skipped: needs a user that is not root, for PostgreSQL")
	return nil
}

// RedisCluster starts a Cluster of three primaries without replicas and returns the address of one.
func RedisCluster(t testing.TB) string {
	t.Helper()
	cli := need(t, "redis-cli")
	var addrs []string
	for range 3 {
		s := Redis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--databases", "1", "--cluster-port", FreePort(t))
		addrs = append(addrs, s.Addr)
	}
	args := append([]string{"--cluster", "create"}, addrs...)
	out, err := exec.Command(cli, append(args, "--cluster-yes")...).CombinedOutput() //nolint:gosec,noctx // of this package
	if err != nil {
		t.Fatalf("redis-cli: %v\n%s", err, out)
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		ok := 0
		for _, addr := range addrs {
			host, port, _ := net.SplitHostPort(addr)
			out, _ := exec.Command(cli, "-h", host, "-p", port, "cluster", "info").Output() //nolint:gosec,noctx // of this package
			if strings.Contains(string(out), "cluster_state:ok") && strings.Contains(string(out), "cluster_known_nodes:3") {
				ok++
			}
		}
		if ok == len(addrs) {
			return addrs[0]
		}
		if time.Since(began) > startTime {
			t.Fatal("the cluster does not come up")
		}
	}
}
