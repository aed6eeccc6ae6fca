package redisstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/cloakroom/cloakroom/store"
)

// cursor is where a page begins: after this entry of this shard. Entries are ordered by end, then by id.
type cursor struct {
	shard int
	score string // "" = from the start
	id    string
}

var errAfter = errors.New("redisstore: the query's After is not a Next of mine")

func parseCursor(s string) (cursor, error) {
	if s == "" {
		return cursor{}, nil
	}
	part := strings.Split(s, ".")
	if len(part) != 3 {
		return cursor{}, errAfter
	}
	shard, err := strconv.Atoi(part[0])
	if err != nil || shard < 0 || shard >= shards {
		return cursor{}, errAfter
	}
	if _, err := strconv.ParseUint(part[1], 10, 53); err != nil && part[1] != "" {
		return cursor{}, errAfter
	}
	if id, err := hex.DecodeString(part[2]); err != nil || len(id) != 0 && len(id) != len(store.ID{}) {
		return cursor{}, errAfter
	}
	return cursor{shard, part[1], part[2]}, nil
}

func (c cursor) String() string { return fmt.Sprintf("%d.%s.%s", c.shard, c.score, c.id) }

// Find implements store.Store. Pages are in the order of the records' ends.
func (s *Store) Find(ctx context.Context, q store.Query) (page store.Page, err error) {
	if err := ctx.Err(); err != nil {
		return page, wrap(ctx, err)
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)
	at, err := parseCursor(q.After)
	if err != nil {
		return page, err
	}
	last := 0
	if q.Subject == "" && q.SID == "" {
		last = shards - 1
	}
	for at.shard <= last {
		more, err := s.scan(ctx, q, &at, limit, &page)
		if err != nil {
			return store.Page{}, wrap(ctx, err)
		}
		if len(page.Records) == limit && (more || at.shard < last) {
			page.Next = at.String()
			return page, nil
		}
		if !more {
			at = cursor{shard: at.shard + 1}
		}
	}
	return page, nil
}

// scan reads one stretch of one index, moves the cursor behind it, and adds the records that live and match. more:
// the index goes on.
func (s *Store) scan(ctx context.Context, q store.Query, at *cursor, limit int, page *store.Page) (more bool, err error) {
	key := s.shard(at.shard)
	switch {
	case q.Subject != "":
		key = s.subject(q.Subject)
	case q.SID != "":
		key = s.sid(q.SID)
	}
	ids, more, err := s.entries(ctx, key, *at, limit-len(page.Records))
	if err != nil || len(ids) == 0 {
		return false, err
	}
	*at = cursor{at.shard, ids[len(ids)-1].score, ids[len(ids)-1].id}
	commands := make(rueidis.Commands, len(ids))
	parsed := make([]store.ID, len(ids))
	for i, e := range ids {
		raw, err := hex.DecodeString(e.id)
		if err != nil || len(raw) != len(store.ID{}) {
			return false, errForm
		}
		parsed[i] = store.ID(raw)
		commands[i] = s.client.B().Get().Key(s.record(parsed[i])).Build()
	}
	for i, r := range s.client.DoMulti(ctx, commands...) {
		raw, err := r.ToString()
		if rueidis.IsRedisNil(err) {
			continue
		}
		if err != nil {
			return false, err
		}
		rec, err := decode(parsed[i], raw)
		if err != nil || q.Subject != "" && rec.Head.Subject != q.Subject || q.SID != "" && rec.Head.SID != q.SID {
			continue // a tombstone, a form that is not ours, or the index entry is older than the record
		}
		page.Records = append(page.Records, rec)
	}
	return more, nil
}

type entry struct{ id, score string }

// entries are up to n entries behind the cursor. Many entries may have the same end, so it reads on until it is past
// those it has had.
func (s *Store) entries(ctx context.Context, key string, at cursor, n int) (found []entry, more bool, err error) {
	from := "-inf"
	if at.score != "" {
		from = at.score
	}
	stretch := int64(n) + 1
	for offset := int64(0); len(found) <= n; offset += stretch {
		raw, err := s.client.Do(ctx, s.client.B().Zrangebyscore().Key(key).Min(from).Max("+inf").Withscores().Limit(offset, stretch).Build()).AsZScores()
		if err != nil {
			return nil, false, err
		}
		for _, z := range raw {
			score := strconv.FormatFloat(z.Score, 'f', 0, 64)
			if score == at.score && z.Member <= at.id {
				continue
			}
			found = append(found, entry{z.Member, score})
		}
		if int64(len(raw)) < stretch {
			break
		}
	}
	if len(found) > n {
		return found[:n], true, nil
	}
	return found, false, nil
}
