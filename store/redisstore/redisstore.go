// Package redisstore keeps records in Redis or Valkey, for any number of Cloakroom processes: one server, a
// primary with replicas under Sentinel, or a Cluster.
//
// A record is one string: a header in digits, which the scripts read, and the sealed blob. Redis forgets it when its
// time is over. Indexes are sorted sets beside it; an entry is written before its record, carries its end, and is
// only a hint: what is found is checked against the record. Every change is a script, so that comparing, writing and
// telling the others are one step; the time in them is the server's.
//
// Durable is what the server is configured for (appendonly, appendfsync). Where it has replicas, saves and deletes
// wait up to 100 ms for one of them. What a failover loses all the same, every Cloakroom process repairs from its
// memory of the last minutes.
package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/cloakroom/cloakroom/store"
)

// ErrEviction says that the server throws sessions away when its memory is full.
var ErrEviction = errors.New("the server's maxmemory-policy evicts keys at will, which would log people out at random; " +
	"set it to noeviction, or give the sessions a server of their own")

// Options are for Open. The zero value works.
type Options struct {
	Log *slog.Logger // hears of eviction policies and missing replicas; nil = nobody
}

// Store is a connection to Redis.
type Store struct {
	client   rueidis.Client
	prefix   string
	name     string // this process in the feed
	log      *slog.Logger
	nodes    atomic.Pointer[map[string]rueidis.Client] // the primaries, as last seen
	replicas atomic.Bool                               // some of them has replicas
	unacked  atomic.Int64
	stop     context.CancelFunc
	work     sync.WaitGroup
	once     sync.Once
}

// openTime bounds what Open asks of the server.
const openTime = 5 * time.Second

// Open connects by a URL, with what github.com/redis/rueidis understands:
//
//	redis://user:password@host:6379/0                             one server; rediss:// with TLS
//	redis://host1:6379?addr=host2:6379&addr=host3:6379            a Cluster, by some of its nodes
//	redis://sentinel1:26379?addr=sentinel2:26379&master_set=main  a primary under Sentinel
//
// A further parameter prefix (default "cr:") begins the name of every key and channel, for servers that are shared.
// The user needs ~prefix* for keys, &prefix* for channels, and the commands of docs/operate.md. An error wraps
// [store.ErrUnreachable] when nobody answers, and [ErrEviction] when the server would throw sessions away.
func Open(ctx context.Context, address string, o Options) (*Store, error) {
	option, prefix, err := parse(address)
	if err != nil {
		return nil, err
	}
	client, err := rueidis.NewClient(option)
	if err != nil {
		return nil, fmt.Errorf("redisstore: %s: %w", strings.Join(option.InitAddress, ", "), unreachable(err))
	}
	s := &Store{client: client, prefix: prefix, name: rand.Text(), log: o.Log}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	if err := s.inspect(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("redisstore: %s: %w", strings.Join(option.InitAddress, ", "), err)
	}
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.work.Go(func() { s.watchReplicas(background) })
	return s, nil
}

func parse(address string) (option rueidis.ClientOption, prefix string, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return option, "", errors.New("redisstore: the URL cannot be read") // its text may hold a password
	}
	q := u.Query()
	prefix = "cr:"
	if q.Has("prefix") {
		prefix = q.Get("prefix")
	}
	if strings.ContainsAny(prefix, "{}*?[] \t\r\n") {
		return option, "", errors.New("redisstore: a prefix has no braces, patterns or spaces")
	}
	q.Del("prefix")
	u.RawQuery = q.Encode()
	option, err = rueidis.ParseURL(u.String())
	if err != nil {
		return option, "", fmt.Errorf("redisstore: %w", err)
	}
	option.DisableCache = true // the feed is our own: it also tells what was deleted
	option.ReadBufferEachConn, option.WriteBufferEachConn, option.RingScaleEachConn = 64<<10, 64<<10, 9
	option.Dialer.Timeout = openTime
	option.ConnWriteTimeout = openTime
	option.Sentinel.TopologyRefreshInterval = 5 * time.Second
	option.ClusterOption.ShardsRefreshInterval = 5 * time.Second
	option.Sentinel.Username, option.Sentinel.Password, option.Sentinel.TLSConfig = option.Username, option.Password, option.TLSConfig
	if option.ClientName == "" {
		option.ClientName = "cloakroom"
	}
	return option, prefix, nil
}

// unreachable marks an error of the network; an answer of the server, as to a wrong password, is none.
func unreachable(err error) error {
	if _, answered := rueidis.IsRedisErr(err); answered {
		return err
	}
	return fmt.Errorf("%w: %w", store.ErrUnreachable, err)
}

// primaries asks which servers take writes.
func (s *Store) primaries(ctx context.Context) (map[string]rueidis.Client, error) {
	nodes := s.client.Nodes()
	found := map[string]rueidis.Client{}
	var last error
	for addr, node := range nodes {
		role, err := node.Do(ctx, node.B().Role().Build()).ToArray()
		if err != nil {
			last = err
			continue
		}
		if len(role) > 0 {
			if kind, _ := role[0].ToString(); kind == "master" {
				found[addr] = node
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.Join(errors.New("no server that takes writes"), last)
	}
	s.nodes.Store(&found)
	return found, nil
}

// inspect looks at how the servers are set up.
func (s *Store) inspect(ctx context.Context) error {
	nodes, err := s.primaries(ctx)
	if err != nil {
		return unreachable(err)
	}
	for addr, node := range nodes {
		info, err := node.Do(ctx, node.B().Info().Section("memory").Build()).ToString()
		if err != nil {
			return unreachable(err)
		}
		policy := field(info, "maxmemory_policy")
		switch {
		case strings.HasPrefix(policy, "allkeys-"):
			return fmt.Errorf("%s: %w (it is %s)", addr, ErrEviction, policy)
		case strings.HasPrefix(policy, "volatile-") && field(info, "maxmemory") != "0" && s.log != nil:
			s.log.Warn("Redis will throw sessions away when its memory is full: every session has an end, so a volatile policy may evict it. Set maxmemory-policy to noeviction.",
				"server", addr, "policy", policy)
		}
	}
	return s.countReplicas(ctx)
}

// field is one value of an INFO answer.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func (s *Store) countReplicas(ctx context.Context) error {
	nodes, err := s.primaries(ctx)
	if err != nil {
		return unreachable(err)
	}
	some := false
	for _, node := range nodes {
		info, err := node.Do(ctx, node.B().Info().Section("replication").Build()).ToString()
		if err != nil {
			return unreachable(err)
		}
		n := field(info, "connected_slaves")
		some = some || n != "" && n != "0"
	}
	s.replicas.Store(some)
	return nil
}

// watchReplicas keeps up with servers that come and go.
func (s *Store) watchReplicas(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ask, cancel := context.WithTimeout(ctx, time.Second)
		_ = s.countReplicas(ask) // the next one will tell
		cancel()
		if n := s.unacked.Swap(0); n > 0 && s.log != nil {
			s.log.Warn("no replica confirmed in time what was written; a failover now would lose it", "writes", n)
		}
	}
}

// Close ends the connection.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.stop()
		s.work.Wait()
		s.client.Close()
	})
	return nil
}

// Ping says whether the servers answer.
func (s *Store) Ping(ctx context.Context) error {
	nodes, err := s.primaries(ctx)
	if err != nil {
		return wrap(ctx, err)
	}
	for _, node := range nodes {
		if err := node.Do(ctx, node.B().Ping().Build()).Error(); err != nil {
			return wrap(ctx, err)
		}
	}
	return nil
}

// Now is the server's time, with the monotonic reading of this process's clock.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	nodes, err := s.primaries(ctx)
	if err != nil {
		return time.Time{}, wrap(ctx, err)
	}
	for _, node := range nodes {
		v, err := node.Do(ctx, node.B().Time().Build()).AsStrSlice()
		if err != nil || len(v) != 2 {
			return time.Time{}, wrap(ctx, errors.Join(err, errors.New("TIME")))
		}
		var sec, micro int64
		if _, err := fmt.Sscan(v[0]+" "+v[1], &sec, &micro); err != nil {
			return time.Time{}, wrap(ctx, err)
		}
		return time.Unix(sec, micro*1000), nil
	}
	return time.Time{}, errors.New("redisstore: no server")
}

// record is the key of a record. The braces keep everything of one record in one slot of a Cluster.
func (s *Store) record(id store.ID) string { return s.prefix + "{" + hex.EncodeToString(id[:]) + "}" }

func (s *Store) subject(hash string) string { return s.prefix + "subject:{" + hash + "}" }
func (s *Store) sid(hash string) string     { return s.prefix + "sid:{" + hash + "}" }

// shards is how many sets list all records: several, so that they are on several nodes of a Cluster.
const shards = 16

func (s *Store) shard(n int) string { return s.prefix + fmt.Sprintf("all:{%x}", n) }

func (s *Store) changes() string { return s.prefix + "changes" }
func (s *Store) beats() string   { return s.prefix + "beats:" + s.name }

// wrap names the room where the error is not one of the contract. A call whose context is over says so.
func wrap(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("redisstore: %w", ctx.Err())
	}
	return fmt.Errorf("redisstore: %w", err)
}
