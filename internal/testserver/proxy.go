package testserver

import (
	"context"
	"path/filepath"
	"testing"
)

// Proxy starts a reverse proxy (nginx, caddy, haproxy) and waits until it listens at addr. Its working directory is
// dir; args come after its name. It ends in an orderly way, so that its workers do, too.
func Proxy(t testing.TB, name, dir, addr string, args ...string) *Server {
	t.Helper()
	program := need(t, name, "/usr/sbin/"+name, "/usr/local/sbin/"+name)
	s := &Server{t: t, Addr: addr, Dir: dir, Log: filepath.Join(dir, name+".log"), command: append([]string{program}, args...)}
	s.ready = func(ctx context.Context) error { return dial(addr)(ctx) }
	t.Cleanup(s.Stop)
	s.Start()
	return s
}
