package testserver_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/internal/testserver"
)

func TestServersComeAndGo(t *testing.T) {
	for name, start := range map[string]func(testing.TB, ...string) *testserver.Server{"redis": testserver.Redis, "postgres": testserver.Postgres} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.Kill()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if c, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr); err == nil {
				t.Error("it still listens", c.Close())
			}
			s.Start()
			s.Pause()
			s.Continue()
			s.Stop()
		})
	}
}
