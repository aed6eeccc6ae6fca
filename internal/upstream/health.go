package upstream

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/config"
)

// watch asks each member from time to time whether it is well, until the returned function is called.
func (p *Pool) watch(h config.Health) func() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, m := range p.members {
		running.Go(func() { p.watchOne(ctx, m, h) })
	}
	return func() {
		cancel()
		running.Wait()
	}
}

func (p *Pool) watchOne(ctx context.Context, m *member, h config.Health) {
	failed, well, ill := 0, 0, false
	for {
		err := m.check(ctx, h)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failed, well = failed+1, 0
		} else {
			failed, well = 0, well+1
		}
		switch {
		case !ill && failed >= int(h.UnhealthyAfter):
			ill = true
			p.checked(m, err.Error())
		case ill && well >= int(h.HealthyAfter):
			ill = false
			p.checked(m, "")
		}
		pause := h.Interval.Std() + rand.N(h.Interval.Std()/10) //nolint:gosec // so that replicas do not ask in step
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// check asks once.
func (m *member) check(ctx context.Context, h config.Health) error {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout.Std())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, m.scheme+"://"+m.target.Host+h.Path, nil)
	if err != nil {
		return err
	}
	r.Header["User-Agent"] = []string{"cloakroom-health"}
	res, err := m.send(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("%s answers %d", h.Path, res.StatusCode)
	}
	return nil
}
