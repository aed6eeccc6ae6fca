//go:build unix

package lean

import "syscall"

// SeesClosed says whether a connection that the upstream has closed is noticed before a request is written to it.
const SeesClosed = true

// look tries to read from a socket that should have nothing to read. A byte that it takes away does no harm: such a
// connection is closed.
func (c *conn) look(fd uintptr) {
	for {
		_, err := syscall.Read(int(fd), c.byte1[:])
		if err == syscall.EINTR {
			continue
		}
		c.healthy = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return
	}
}
