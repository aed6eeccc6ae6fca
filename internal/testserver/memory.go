package testserver

import (
	"context"
	"net"
	"sync"
)

// Memory is a listener without a network, whose connections work in fake time (testing/synctest).
type Memory struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

// NewMemory makes one. In a bubble of fake time it is to be made there.
func NewMemory() *Memory { return &Memory{conns: make(chan net.Conn), over: make(chan struct{})} }

// Accept is net.Listener's.
func (m *Memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.over:
		return nil, net.ErrClosed
	}
}

// Close is net.Listener's.
func (m *Memory) Close() error {
	m.once.Do(func() { close(m.over) })
	return nil
}

// Addr is net.Listener's.
func (m *Memory) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// Dial connects; it fits http.Transport.DialContext.
func (m *Memory) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	if err := m.Hand(ctx, there); err != nil {
		return nil, err
	}
	return here, nil
}

// Hand gives the listener a connection.
func (m *Memory) Hand(ctx context.Context, c net.Conn) error {
	select {
	case m.conns <- c:
		return nil
	case <-m.over:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
