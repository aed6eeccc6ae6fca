//go:build !(linux || darwin || freebsd || netbsd)

package proxy

import (
	"io/fs"
	"time"
)

// changeTime is not the same on all systems; the time of modification has to do here.
func changeTime(fs.FileInfo) time.Time { return time.Time{} }
