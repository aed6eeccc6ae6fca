package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// socketMode lets the owner and the group connect: a proxy's user belongs into Cloakroom's group.
const socketMode = 0o660

// listenSocket listens on a socket file. One that is left over from a process that was killed is replaced; one that
// somebody listens on, and what is no socket, are errors.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	if err := freeSocket(ctx, path); err != nil {
		return nil, err
	}
	// It is made in a folder of its own that nobody else may enter, and put in place when its mode is right: there is no
	// moment in which others could connect.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() //nolint:gosec // made above
	hidden := filepath.Join(dir, "s")
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", hidden)
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)                                             // it would remove the other name
	if err := errors.Join(os.Chmod(hidden, socketMode), os.Rename(hidden, path)); err != nil { //nolint:gosec // the operator names the path
		return nil, errors.Join(err, ln.Close())
	}
	file, err := os.Lstat(path) //nolint:gosec // as above
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return &socket{ln, path, file}, nil
}

// freeSocket reports why a path cannot be taken, nil if it can.
func freeSocket(ctx context.Context, path string) error {
	info, err := os.Lstat(path) //nolint:gosec // the operator names the path
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket", path)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("somebody listens on %s already", path), conn.Close())
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	return err
}

// socket is a listener that takes its file away.
type socket struct {
	net.Listener
	path string
	file fs.FileInfo
}

func (s *socket) Close() error {
	err := s.Listener.Close()
	if now, statErr := os.Lstat(s.path); statErr == nil && os.SameFile(now, s.file) { // else it is a successor's
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}
