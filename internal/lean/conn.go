package lean

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// conn is a connection to the upstream, used by one request at a time.
type conn struct {
	t      *Transport
	nc     net.Conn
	socket net.Conn // what nc is over, the same if it is not TLS
	raw    syscall.RawConn
	tls    *tls.ConnectionState
	br     *bufio.Reader
	closed atomic.Bool

	reused    bool
	idleSince time.Time
	limited   bool    // whether a deadline for reading may be set
	out       []byte  // what the header of a request is put together in
	fields    []field // what it is sorted in
	kill      func()  // closes at once, whoever uses it
	probe     func(fd uintptr)
	healthy   bool // what probe found
	byte1     [1]byte
}

func (t *Transport) newConn(nc net.Conn) *conn {
	c := &conn{t: t, nc: nc, socket: nc, br: bufio.NewReaderSize(nc, t.opt.ReadBuffer)}
	for {
		over, ok := c.socket.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c.socket = over.NetConn()
	}
	if sc, ok := c.socket.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	if s, ok := nc.(interface{ ConnectionState() tls.ConnectionState }); ok {
		state := s.ConnectionState()
		c.tls = &state
	}
	c.kill = func() { c.close(c.socket) }
	c.probe = c.look
	return c
}

// retire closes a connection in order: over TLS with an alert, which may take a while if the upstream does not read.
func (c *conn) retire() { c.close(c.nc) }

func (c *conn) close(what net.Conn) {
	if !c.closed.CompareAndSwap(false, true) {
		return
	}
	_ = what.Close()
	c.t.gone()
}

// usable says whether the upstream has left a connection open and silent. An answer that nobody asked for would be taken
// for that to the next request.
func (c *conn) usable() bool {
	if c.closed.Load() || c.br.Buffered() > 0 {
		return false
	}
	if c.socket != c.nc && !c.silent() {
		return false
	}
	if c.raw == nil {
		return true
	}
	c.healthy = false
	err := c.raw.Control(c.probe)
	return err == nil && c.healthy
}

// silent asks what is over the socket, without waiting, whether it has something read already.
func (c *conn) silent() bool {
	if c.nc.SetReadDeadline(longAgo) != nil {
		return false
	}
	n, err := c.nc.Read(c.byte1[:])
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.nc.SetReadDeadline(time.Time{}) == nil
}

// unlimited takes back a deadline for reading.
func (c *conn) unlimited() error {
	if !c.limited {
		return nil
	}
	c.limited = false
	return c.nc.SetReadDeadline(time.Time{})
}

// limit sets a deadline for reading.
func (c *conn) limit(d time.Duration) error {
	c.limited = true
	return c.nc.SetReadDeadline(time.Now().Add(d))
}

// unexpected is the error for an end that came too early.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
