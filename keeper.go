package cloakroom

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/internal/event"
	"github.com/cloakroom/cloakroom/internal/seal"
	"github.com/cloakroom/cloakroom/internal/session"
	"github.com/cloakroom/cloakroom/store"
)

// keeper takes part in rotations of the key ring: it announces this process's keys to the other replicas, looks at
// theirs, and puts sessions under the key that seals now.
type keeper struct {
	store     store.Store
	ring      *seal.Ring
	managers  []*session.Manager
	announcer *session.Announcer
	events    event.Sink

	mu      sync.Mutex
	lacking error // a replica that works seals with a key that is not here
}

const (
	// announceRetry is how soon a beat that failed is tried again.
	announceRetry = 5 * time.Second
	// rewrapEvery is how often the store is looked through for what names an older key.
	rewrapEvery = 10 * time.Minute
	// farewellTime bounds the last announcement.
	farewellTime = 2 * time.Second
)

// run works until ctx ends.
func (k *keeper) run(ctx context.Context) {
	names := k.ring.Names()
	k.events.Emit(&event.Audit{
		Time: time.Now(), Kind: event.KeyRing, Detail: strings.TrimSpace("seals with " + names[0] + opensToo(names[1:])),
	})
	var rewrap time.Time
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			k.farewell(ctx)
			return
		case <-time.After(wait):
		}
		agreed, err := k.look(ctx)
		if wait = session.ReplicaBeat; err != nil {
			wait = announceRetry
			continue
		}
		if agreed && k.ring.Keys() > 1 && time.Now().After(rewrap) {
			rewrap = time.Now().Add(rewrapEvery + rand.N(rewrapEvery/10)) //nolint:gosec // spread, no secret
			_, _ = session.RewrapAll(ctx, k.store, k.managers)            // what fails now is done next time
		}
	}
}

func opensToo(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ", opens what was sealed with " + strings.Join(names, ", ")
}

// look announces this process and looks at the others.
func (k *keeper) look(ctx context.Context) (agreed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, announceRetry)
	defer cancel()
	if err := k.announcer.Beat(ctx); err != nil {
		return false, err
	}
	replicas, now, err := k.announcer.Replicas(ctx)
	if err != nil {
		return false, err
	}
	var lacking error
	for _, r := range replicas {
		if r.Lives(now) && !slices.Contains(k.ring.Names(), r.Seals()) {
			lacking = fmt.Errorf("another replica seals with the key %s, which is not in this one's ring", r.Seals())
		}
	}
	k.mu.Lock()
	k.lacking = lacking
	k.mu.Unlock()
	return session.Agree(replicas, now, k.ring.Names()[0]), nil
}

// complete reports the key that is lacking here, as of the last look.
func (k *keeper) complete() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lacking
}

func (k *keeper) farewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTime)
	defer cancel()
	_ = k.announcer.End(ctx) // without it the others wait until it is silent for long enough
}
