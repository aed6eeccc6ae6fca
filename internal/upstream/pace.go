package upstream

import (
	"context"
	"net"
	"time"
)

// When many requests come at once, net/http begins a connection for each. Those that wait a moment instead take the
// connections that the first ones are done with: a burst of 200 is over a fifth sooner (../shared/bench, stampede).
const (
	dialsAtOnce = 16                    // to one upstream
	dialPause   = 50 * time.Millisecond // then it is no burst: the upstream is slow, and nobody waits for others
)

type dial = func(ctx context.Context, network, address string) (net.Conn, error)

// paced lets a few dials run at the same time, and the others a little later.
func paced(do dial) dial {
	slots := make(chan struct{}, dialsAtOnce)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		pause := time.NewTimer(dialPause)
		defer pause.Stop()
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-pause.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return do(ctx, network, address)
	}
}
