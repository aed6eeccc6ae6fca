package wire

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

var (
	command string                        // the command under test
	long    = os.Getenv("WIRE") == "long" // the sizes of the acceptance, not those of each run
	files   uint64                        // how many descriptors this process and each of its children may have
	people  *provider                     // who logs people in
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "wire")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if command = os.Getenv("CLOAKROOM_BIN"); command == "" {
		command = filepath.Join(dir, "cloakroom")
		build := exec.Command("go", "build", "-o", command, "./cmd/cloakroom")
		build.Dir = filepath.Join("..", "..")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	if files, err = raiseFiles(); err != nil {
		return 0, err
	}
	if people, err = startProvider(dir); err != nil {
		return 0, err
	}
	defer people.stop()
	return m.Run(), nil
}

// raiseFiles takes all descriptors that may be had. Go lowers the limit again for children unless it was set by hand.
func raiseFiles() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	limit.Cur = limit.Max
	if more := (syscall.Rlimit{Cur: 32768, Max: 32768}); limit.Max < more.Max && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) == nil {
		return more.Cur, nil // root may
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("setrlimit: %w", err)
	}
	return limit.Cur, nil
}
