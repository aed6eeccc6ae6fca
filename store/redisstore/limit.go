package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// KEYS: the counter, which holds the theoretical arrival time in microseconds of the server's clock. ARGV: what one costs,
// the most that may be owed. Returns the wait, 0 if it was taken.
var luaTake = newScript(`
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local tat = tonumber(redis.call('GET', KEYS[1]) or '0')
if tat < now then tat = now end
tat = tat + tonumber(ARGV[1])
local wait = tat - tonumber(ARGV[2]) - now
if wait > 0 then return wait end
redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000))
return 0
`)

// KEYS: the counter. ARGV: what one costs.
var luaGive = newScript(`
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local tat = tonumber(redis.call('GET', KEYS[1]) or '0') - tonumber(ARGV[1])
if tat <= now then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000))
end
return 0
`)

// Take implements store.Limiter. No replica's acknowledgement is waited for: what a failover forgets is some tries.
func (s *Store) Take(ctx context.Context, key string, r store.Rate) (time.Duration, error) {
	name, err := s.counter(key)
	if err != nil {
		return 0, err
	}
	wait, err := luaTake.Exec(ctx, s.client, []string{name}, []string{micros(r.Interval), micros(r.Limit)}).ToInt64()
	return time.Duration(wait) * time.Microsecond, wrap(ctx, err)
}

// Give implements store.Limiter.
func (s *Store) Give(ctx context.Context, key string, r store.Rate) error {
	name, err := s.counter(key)
	if err != nil {
		return err
	}
	return wrap(ctx, luaGive.Exec(ctx, s.client, []string{name}, []string{micros(r.Interval)}).Error())
}

func (s *Store) counter(key string) (string, error) {
	if key == "" || len(key) > maxIndex {
		return "", fmt.Errorf("redisstore: a key has 1 to %d bytes", maxIndex)
	}
	return s.prefix + "limit:{" + key + "}", nil
}

func micros(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }
