//go:build darwin || freebsd || netbsd

package proxy

import (
	"io/fs"
	"syscall"
	"time"
)

// changeTime is when the file was last written to or renamed; unlike its time of modification nobody can set it.
func changeTime(info fs.FileInfo) time.Time {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(s.Ctimespec.Unix())
	}
	return time.Time{}
}
