package main

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListenSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "verify.sock")
	listen := func() net.Listener {
		t.Helper()
		ln, err := listenOn(t.Context(), "unix:"+path)
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	ln := listen()
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeSocket || info.Mode().Perm() != 0o660 {
		t.Errorf("%v %v", info, err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("beside it: %v %v", files, err)
	}
	if _, err := listenOn(t.Context(), "unix:"+path); err == nil || !strings.Contains(err.Error(), "somebody listens") {
		t.Errorf("twice: %v", err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("after the second try: %v", err)
	}
	_ = conn.Close()

	_ = ln.(*socket).Listener.Close() // killed: the file stays
	second := listen()
	if err := ln.Close(); err == nil {
		t.Error("it was closed before")
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the first one's end took the second one's file: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the file is left: %v", err)
	}

	if err := os.WriteFile(path, []byte("a letter"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenOn(t.Context(), "unix:"+path); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file: %v", err)
	}
	if text, err := os.ReadFile(path); string(text) != "a letter" || err != nil {
		t.Errorf("the file is %q %v", text, err)
	}
}
