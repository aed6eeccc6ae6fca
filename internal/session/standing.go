package session

import (
	"github.com/cloakroom/cloakroom/store"
)

// How the change feed stands.
const (
	FeedStands = "ok"     // what others change is heard within a second, or there are no others
	FeedBroken = "broken" // every request asks the store until it stands again
	FeedNone   = "none"   // the store has no feed: every request asks it
)

// Standing says how the feed stands.
func (f *Feed) Standing() string {
	if f.trusted(f.clock()) {
		return FeedStands
	}
	if _, ok := f.store.(store.Watcher); ok {
		return FeedBroken
	}
	return FeedNone
}
