package upstream

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestDialsArePaced(t *testing.T) {
	for _, tc := range []struct {
		name        string
		takes, most time.Duration
		atOnce      int64
	}{
		{"an upstream that is quick", time.Millisecond, 13 * time.Millisecond, dialsAtOnce},
		{"one that does not answer holds nobody up", 10 * time.Second, 10*time.Second + dialPause, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var running, most atomic.Int64
				do := paced(func(context.Context, string, string) (net.Conn, error) {
					if n := running.Add(1); n > most.Load() {
						most.Store(n)
					}
					time.Sleep(tc.takes)
					running.Add(-1)
					return nil, nil
				})
				began := time.Now()
				var work sync.WaitGroup
				for range 200 {
					work.Go(func() { _, _ = do(t.Context(), "tcp", "upstream") })
				}
				work.Wait()
				if took := time.Since(began); took > tc.most || most.Load() > tc.atOnce {
					t.Errorf("%v, %d at once", took, most.Load())
				}
			})
		})
	}
}

func TestADialIsGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	do := paced(func(ctx context.Context, _, _ string) (net.Conn, error) { return nil, ctx.Err() })
	if _, err := do(ctx, "tcp", "upstream"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
