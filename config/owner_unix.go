//go:build unix

package config

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a draft to the owner of the file that it replaces: a key file that root has rewritten must not be
// closed to the server's own user.
func keepOwner(path, draft string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Getuid() {
		return nil
	}
	return os.Chown(draft, int(owner.Uid), int(owner.Gid))
}
