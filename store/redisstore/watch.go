package redisstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/cloakroom/cloakroom/store"
)

const (
	beatEvery = 200 * time.Millisecond
	// silence is how long no heartbeat may come back before the feed counts as broken: a half-open connection says
	// nothing by itself.
	silence = 3 * time.Second
)

// Watch implements store.Watcher. Changes are published by the scripts that make them, and a server delivers what it
// publishes in order: when a heartbeat that was published through every primary has come back, so has every change
// before it.
func (s *Store) Watch(ctx context.Context, f store.Feed) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, release := s.client.Dedicate()
	defer func() { // a server that stands still must not hold us up
		c.Close()
		go release()
	}()
	messages := make(chan rueidis.PubSubMessage, 4096)
	overrun := make(chan struct{}, 1)
	broken := c.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(m rueidis.PubSubMessage) {
		select {
		case messages <- m:
		default: // whoever reads is too slow: what is lost makes the feed worthless
			select {
			case overrun <- struct{}{}:
			default:
			}
		}
	}})
	if err := c.Do(ctx, c.B().Subscribe().Channel(s.changes(), s.beats()).Build()).Error(); err != nil {
		return wrap(ctx, err)
	}
	if _, err := s.primaries(ctx); err != nil {
		return wrap(ctx, err)
	}
	f.Begun()
	b := beats{store: s, sent: map[uint64]*round{}, last: time.Now()}
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	b.publish(ctx)
	for {
		select {
		case <-ctx.Done():
			return wrap(ctx, ctx.Err())
		case err := <-broken:
			return wrap(ctx, errors.Join(errors.New("the feed's connection is gone"), err))
		case <-overrun:
			return errors.New("redisstore: changes came faster than they were read")
		case m := <-messages:
			if m.Channel == s.changes() {
				if change, ok := parseChange(m.Message); ok {
					f.Changed(change)
				}
			} else if since, whole := b.came(m.Message); whole {
				f.Alive(since)
			}
		case <-tick.C:
			if time.Since(b.last) > silence {
				return fmt.Errorf("redisstore: the feed has been silent for %v", silence)
			}
			b.publish(ctx)
		}
	}
}

func parseChange(text string) (store.Change, bool) {
	id, version, _ := strings.Cut(text, " ")
	raw, err := hex.DecodeString(id)
	n, err2 := strconv.ParseUint(version, 10, 64)
	if err != nil || err2 != nil || len(raw) != len(store.ID{}) {
		return store.Change{}, false
	}
	return store.Change{ID: store.ID(raw), Version: n}, true
}

// beats are the heartbeats that are on their way.
type beats struct {
	store *Store
	next  uint64
	sent  map[uint64]*round
	last  time.Time // the time of the newest whole round
}

// round is one heartbeat through every primary.
type round struct {
	at      time.Time
	waiting map[string]bool // primaries whose beat has not come back
}

// publish sends a heartbeat through every primary, without waiting for the answers.
func (b *beats) publish(ctx context.Context) {
	r := &round{at: time.Now(), waiting: map[string]bool{}}
	b.next++
	for n := range b.sent { // what is older than the silence will not come any more
		if b.next-n > uint64(silence/beatEvery) {
			delete(b.sent, n)
		}
	}
	nodes := *b.store.nodes.Load()
	for addr := range nodes {
		r.waiting[addr] = true
	}
	b.sent[b.next] = r
	number := strconv.FormatUint(b.next, 10)
	go func() {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		for addr, node := range nodes {
			_ = node.Do(ask, node.B().Publish().Channel(b.store.beats()).Message(number+" "+addr).Build()).Error() // it does not come back then
		}
	}()
}

// came notes a heartbeat that came back, and tells when a round is whole and newer than the last.
func (b *beats) came(text string) (since time.Time, whole bool) {
	number, addr, _ := strings.Cut(text, " ")
	n, err := strconv.ParseUint(number, 10, 64)
	r := b.sent[n]
	if err != nil || r == nil {
		return since, false
	}
	delete(r.waiting, addr)
	if len(r.waiting) > 0 {
		return since, false
	}
	delete(b.sent, n)
	if !r.at.After(b.last) {
		return since, false
	}
	b.last = r.at
	return r.at, true
}
