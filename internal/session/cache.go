package session

import (
	"github.com/cloakroom/cloakroom/store"
	"github.com/maypok86/otter/v2"
)

// Cache keeps opened sessions in memory, bounded by bytes, shared by the managers of all frontends (a record's id
// is of one frontend only).
type Cache struct{ entries *otter.Cache[store.ID, *Live] }

// liveSize is what a Live takes without its tokens and claims; measured, rounded up.
const liveSize = 2 << 10

// NewCache makes a cache of about this many bytes.
func NewCache(bytes int64) *Cache {
	if bytes <= 0 {
		bytes = 64 << 20
	}
	return &Cache{otter.Must(&otter.Options[store.ID, *Live]{
		MaximumWeight: uint64(bytes),
		Weigher: func(_ store.ID, l *Live) uint32 {
			return uint32(liveSize + l.weight()) //nolint:gosec // a record has at most 1 MiB
		},
	})}
}

// weight is the size of what was opened, about twice the sealed record.
func (l *Live) weight() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return 2 * len(l.open.record.Blob)
}

func (c *Cache) get(id store.ID) (*Live, bool) { return c.entries.GetIfPresent(id) }
func (c *Cache) put(id store.ID, l *Live)      { c.entries.Set(id, l) }
func (c *Cache) drop(id store.ID)              { c.entries.Invalidate(id) }
func (c *Cache) clear()                        { c.entries.InvalidateAll() }
