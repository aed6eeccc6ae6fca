package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/cloakroom/cloakroom/store"
)

// The header of a record: a letter for its form, then numbers of 15 digits, each with a space in front: version,
// last active, idle, expires, created (milliseconds), then the lengths of the two index values in 5 digits each, the
// values, and the blob. A tombstone is the single letter t.
const (
	form       = "1"
	numbers    = 5
	digits     = 15
	fixedSize  = len(form) + numbers*(1+digits) + 2*5
	maxIndex   = 1024
	activeFrom = len(form) + 1*(1+digits) + 1 // the offset of last active
)

// head reads the header in a script: version, last active, idle, expires; nil if there is no live record. now is the
// server's.
const luaHead = `
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local head = redis.call('GETRANGE', KEYS[1], 0, 64)
local buried = head == 't'
local version, active, idle, expires, ending
if head ~= '' and not buried then
  version, active = tonumber(string.sub(head, 3, 17)), tonumber(string.sub(head, 19, 33))
  idle, expires = tonumber(string.sub(head, 35, 49)), tonumber(string.sub(head, 51, 65))
  ending = expires
  if idle > 0 and active + idle < expires then ending = active + idle end
  if now >= ending then version = nil end
end
`

// KEYS: record. ARGV: version, last active, idle, expires, rest of the header after the expiry, blob, channel, id.
var luaSave = newScript(luaHead + `
if buried then return -2 end
local given = tonumber(ARGV[1])
if given == 0 then
  if version then return -1 end
elseif not version then return -2
elseif version ~= given then return -1
end
local seen, lasts, till = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if version and active > seen then seen = active end
local over = till
if lasts > 0 and seen + lasts < till then over = seen + lasts end
if over <= now then
  redis.call('DEL', KEYS[1])
else
  local text = string.format('1 %015.0f %015.0f %015.0f %015.0f', given + 1, seen, lasts, till) .. ARGV[5]
  redis.call('SET', KEYS[1], text .. ARGV[6], 'PX', over - now)
end
redis.call('PUBLISH', ARGV[7], ARGV[8] .. ' ' .. string.format('%.0f', given + 1))
return given + 1
`)

// KEYS: record. ARGV: tombstone's milliseconds, channel, id. Returns what was there of the header.
var luaDelete = newScript(`
local head = redis.call('GETRANGE', KEYS[1], 0, 2300)
redis.call('SET', KEYS[1], 't', 'PX', ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3] .. ' 0')
return head
`)

// KEYS: record. ARGV: last active.
var luaTouch = newScript(luaHead + `
local at = tonumber(ARGV[1])
if not version or at <= active then return 0 end
redis.call('SETRANGE', KEYS[1], ` + strconv.Itoa(activeFrom) + `, string.format('%015.0f', at))
local over = expires
if idle > 0 and at + idle < expires then over = at + idle end
redis.call('PEXPIRE', KEYS[1], over - now)
return 1
`)

// KEYS: index. ARGV: end, id. An entry never moves to an earlier end; what is over goes; the set ends with its last.
var luaIndex = newScript(`
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local at = redis.call('ZSCORE', KEYS[1], ARGV[2])
if at and tonumber(at) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if last[2] then redis.call('PEXPIRE', KEYS[1], math.max(1, tonumber(last[2]) - now)) end
return 1
`)

// Load implements store.Store.
func (s *Store) Load(ctx context.Context, id store.ID) (store.Record, error) {
	if err := ctx.Err(); err != nil {
		return store.Record{}, wrap(ctx, err)
	}
	raw, err := s.client.Do(ctx, s.client.B().Get().Key(s.record(id)).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return store.Record{}, store.ErrNotFound
	}
	if err != nil {
		return store.Record{}, wrap(ctx, err)
	}
	rec, err := decode(id, raw)
	return rec, wrap(ctx, err)
}

var errForm = errors.New("a record has a form that is not known here")

// decode reads a record as it is at rest. A tombstone is no record.
func decode(id store.ID, raw string) (store.Record, error) {
	rec := store.Record{ID: id}
	if raw == "t" {
		return rec, store.ErrNotFound
	}
	if len(raw) < fixedSize || !strings.HasPrefix(raw, form+" ") {
		return rec, errForm
	}
	var n [numbers]int64
	for i := range n {
		at := len(form) + i*(1+digits) + 1
		v, err := strconv.ParseInt(strings.TrimLeft(raw[at:at+digits-1], "0")+raw[at+digits-1:at+digits], 10, 64)
		if err != nil || v < 0 {
			return rec, errForm
		}
		n[i] = v
	}
	rest := raw[fixedSize-10:]
	subject, err1 := strconv.Atoi(rest[:5])
	sid, err2 := strconv.Atoi(rest[5:10])
	rest = rest[10:]
	if err1 != nil || err2 != nil || subject < 0 || sid < 0 || len(rest) < subject+sid {
		return rec, errForm
	}
	rec.Version = uint64(n[0]) //nolint:gosec // not negative
	rec.Head = store.Head{
		LastActive: time.UnixMilli(n[1]), Idle: time.Duration(n[2]) * time.Millisecond, Expires: time.UnixMilli(n[3]),
		Created: time.UnixMilli(n[4]), Subject: rest[:subject], SID: rest[subject : subject+sid],
	}
	rec.Blob = []byte(rest[subject+sid:])
	return rec, nil
}

// Save implements store.Store. The index entries come first: one too many is harmless, one too few is not.
func (s *Store) Save(ctx context.Context, rec store.Record) (uint64, error) {
	h := rec.Head
	if len(rec.Blob) > store.MaxBlob || len(h.Subject) > maxIndex || len(h.SID) > maxIndex {
		return 0, fmt.Errorf("redisstore: the record is too large: a blob has at most %d bytes, an index entry %d", store.MaxBlob, maxIndex)
	}
	if err := ctx.Err(); err != nil {
		return 0, wrap(ctx, err)
	}
	if err := s.index(ctx, rec); err != nil {
		return 0, wrap(ctx, err)
	}
	key := s.record(rec.ID)
	args := []string{
		strconv.FormatUint(rec.Version, 10), milli(h.LastActive), strconv.FormatInt(h.Idle.Milliseconds(), 10), milli(h.Expires),
		fmt.Sprintf(" %015d%05d%05d%s%s", max(0, h.Created.UnixMilli()), len(h.Subject), len(h.SID), h.Subject, h.SID),
		string(rec.Blob), s.changes(), rec.ID.String(),
	}
	answer, err := s.confirmed(ctx, luaSave, key, args)
	if err != nil {
		return 0, wrap(ctx, err)
	}
	version, err := answer.ToInt64()
	switch {
	case err != nil:
		return 0, wrap(ctx, err)
	case version == -1:
		return 0, store.ErrConflict
	case version == -2:
		return 0, store.ErrNotFound
	}
	return uint64(version), nil //nolint:gosec // not negative
}

func milli(t time.Time) string { return strconv.FormatInt(max(0, t.UnixMilli()), 10) }

// index writes the entries of a record that lives.
func (s *Store) index(ctx context.Context, rec store.Record) error {
	if rec.Head.Expires.UnixMilli() <= 0 {
		return nil
	}
	keys := []string{s.shard(int(rec.ID[0] >> 4))}
	if rec.Head.Subject != "" {
		keys = append(keys, s.subject(rec.Head.Subject))
	}
	if rec.Head.SID != "" {
		keys = append(keys, s.sid(rec.Head.SID))
	}
	all := make([]rueidis.LuaExec, len(keys))
	for i, key := range keys {
		all[i] = rueidis.LuaExec{Keys: []string{key}, Args: []string{milli(rec.Head.Expires), rec.ID.String()}}
	}
	for _, r := range luaIndex.ExecMulti(ctx, s.client, all...) {
		if err := r.Error(); err != nil {
			return err
		}
	}
	return nil
}

// waitMilli is how long a write waits for a replica.
const waitMilli = 100

// script is a Lua script with its text: one that runs on a connection of its own is sent whole.
type script struct {
	*rueidis.Lua
	text string
}

func newScript(text string) script { return script{rueidis.NewLuaScript(text), text} }

// confirmed runs a script and, where there are replicas, waits for one of them. That none confirms in time is no
// error: the write is done, and less safe than it should be.
func (s *Store) confirmed(ctx context.Context, lua script, key string, args []string) (rueidis.RedisMessage, error) {
	if !s.replicas.Load() {
		return lua.Exec(ctx, s.client, []string{key}, args).ToMessage()
	}
	var answer rueidis.RedisMessage
	err := s.client.Dedicated(func(c rueidis.DedicatedClient) error {
		var err error
		if answer, err = c.Do(ctx, c.B().Eval().Script(lua.text).Numkeys(1).Key(key).Arg(args...).Build()).ToMessage(); err != nil {
			return err
		}
		if n, err := c.Do(ctx, c.B().Wait().Numreplicas(1).Timeout(waitMilli).Build()).ToInt64(); err != nil || n < 1 {
			s.unacked.Add(1)
		}
		return nil
	})
	return answer, err
}

// Delete implements store.Store: first the records, which is the end, then what pointed to them.
func (s *Store) Delete(ctx context.Context, ids ...store.ID) error {
	if err := ctx.Err(); err != nil {
		return wrap(ctx, err)
	}
	if len(ids) == 1 {
		key, args := s.record(ids[0]), s.deleteArgs(ids[0])
		head, err := s.confirmed(ctx, luaDelete, key, args)
		if err != nil {
			return wrap(ctx, err)
		}
		s.unindex(ctx, ids, []rueidis.RedisMessage{head})
		return nil
	}
	const chunk = 512
	for len(ids) > 0 {
		part := ids[:min(chunk, len(ids))]
		ids = ids[len(part):]
		all := make([]rueidis.LuaExec, len(part))
		for i, id := range part {
			all[i] = rueidis.LuaExec{Keys: []string{s.record(id)}, Args: s.deleteArgs(id)}
		}
		heads := make([]rueidis.RedisMessage, len(part))
		for i, r := range luaDelete.ExecMulti(ctx, s.client, all...) {
			var err error
			if heads[i], err = r.ToMessage(); err != nil {
				return wrap(ctx, err)
			}
		}
		s.unindex(ctx, part, heads)
	}
	return nil
}

func (s *Store) deleteArgs(id store.ID) []string {
	return []string{strconv.FormatInt(store.Tombstone.Milliseconds(), 10), s.changes(), id.String()}
}

// unindex removes the entries of deleted records. One that stays is harmless: it is checked when it is read, and
// ends by itself.
func (s *Store) unindex(ctx context.Context, ids []store.ID, heads []rueidis.RedisMessage) {
	var all rueidis.Commands
	for i, head := range heads {
		raw, err := head.ToString()
		if err != nil {
			continue
		}
		id := ids[i]
		rec, err := decode(id, raw)
		if err != nil {
			continue
		}
		keys := []string{s.shard(int(id[0] >> 4))}
		if rec.Head.Subject != "" {
			keys = append(keys, s.subject(rec.Head.Subject))
		}
		if rec.Head.SID != "" {
			keys = append(keys, s.sid(rec.Head.SID))
		}
		for _, key := range keys {
			all = append(all, s.client.B().Zrem().Key(key).Member(id.String()).Build())
		}
	}
	if len(all) > 0 {
		s.client.DoMulti(ctx, all...)
	}
}

// Touch implements store.Store.
func (s *Store) Touch(ctx context.Context, touches []store.Touch) error {
	if err := ctx.Err(); err != nil {
		return wrap(ctx, err)
	}
	if len(touches) == 0 {
		return nil
	}
	all := make([]rueidis.LuaExec, len(touches))
	for i, t := range touches {
		all[i] = rueidis.LuaExec{Keys: []string{s.record(t.ID)}, Args: []string{milli(t.LastActive)}}
	}
	for _, r := range luaTouch.ExecMulti(ctx, s.client, all...) {
		if err := r.Error(); err != nil {
			return wrap(ctx, err)
		}
	}
	return nil
}

// Once implements store.Store.
func (s *Store) Once(ctx context.Context, key string, expires time.Time) (bool, error) {
	if key == "" || len(key) > maxIndex {
		return false, fmt.Errorf("redisstore: a key has 1 to %d bytes", maxIndex)
	}
	life := time.Until(expires).Milliseconds()
	if life <= 0 {
		return true, wrap(ctx, ctx.Err())
	}
	answer, err := s.confirmed(ctx, luaOnce, s.prefix+"once:{"+key+"}", []string{strconv.FormatInt(life, 10)})
	if err != nil {
		return false, wrap(ctx, err)
	}
	n, err := answer.ToInt64()
	return n == 1, wrap(ctx, err)
}

// KEYS: the key. ARGV: milliseconds.
var luaOnce = newScript(`
if redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[1]) then return 1 end
return 0
`)
