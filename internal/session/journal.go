package session

import (
	"container/list"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

const (
	// journalTime is how long a process remembers what it wrote, to repair what a failover lost. It is shorter than
	// store.Tombstone, so that a repair never brings back what somebody ended.
	journalTime = 10 * time.Minute
	// journalSize bounds what the journal may take; with more, the oldest is forgotten early.
	journalSize = 64 << 20
	// journalEntry is what an entry takes besides its blob, rounded up.
	journalEntry = 512
)

// journal is what this process wrote in the last minutes: its last word on each record.
type journal struct {
	mu      sync.Mutex
	entries map[store.ID]*list.Element // of order
	order   list.List                  // *written, the oldest first
	size    int
}

// written is one entry: a token set that was saved, or an end.
type written struct {
	at         time.Time // monotonic
	manager    *Manager
	id         store.ID
	ended      bool
	record     store.Record // as it was saved
	generation uint64       // of its token set
	key        [32]byte     // opens the record that another may have saved over it
}

func (w *written) size() int { return journalEntry + len(w.record.Blob) }

// note adds an entry in the place of an older one for the same record. An end is the last word.
func (j *journal) note(w *written) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.entries == nil {
		j.entries = map[store.ID]*list.Element{}
	}
	if old := j.entries[w.id]; old != nil {
		if old.Value.(*written).ended && !w.ended {
			return
		}
		j.remove(old)
	}
	j.entries[w.id] = j.order.PushBack(w)
	j.size += w.size()
	j.forget(w.at)
}

// forget drops what is too old, and the oldest of what is too much. j.mu is held.
func (j *journal) forget(now time.Time) {
	for e := j.order.Front(); e != nil; e = j.order.Front() {
		if j.size <= journalSize && now.Sub(e.Value.(*written).at) <= journalTime {
			return
		}
		j.remove(e)
	}
}

func (j *journal) remove(e *list.Element) {
	w := j.order.Remove(e).(*written)
	delete(j.entries, w.id)
	j.size -= w.size()
}

// recent are the entries of the last minutes, the oldest first.
func (j *journal) recent(now time.Time) []*written {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.forget(now)
	all := make([]*written, 0, j.order.Len())
	for e := j.order.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*written))
	}
	return all
}
