//go:build !unix

package lean

// look trusts the socket: a failed request is sent again where that is allowed.
func (c *conn) look(uintptr) { c.healthy = true }
