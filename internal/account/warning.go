package account

import "time"

// warnAhead is how long before a session's end its person is told.
const warnAhead = time.Minute

// warning remembers which end was announced. The end moves: activity puts it off, a provider may bring it forward.
type warning struct{ told time.Time }

// pending reports that an end is announced.
func (w *warning) pending() bool { return !w.told.IsZero() }

// due reports whether look would announce this end.
func (w *warning) due(now, end time.Time) bool {
	return end.Sub(now) <= warnAhead && !w.told.Equal(end)
}

// look returns what is to be said now of this end: that it is near, that it is not any more, or nothing.
func (w *warning) look(now, end time.Time) string {
	switch {
	case w.due(now, end):
		w.told = end
		return eventEnding
	case w.pending() && end.Sub(now) > warnAhead:
		w.told = time.Time{}
		return eventChanged
	}
	return ""
}

// wait is when to look again. While an end is announced, activity is to take it back at once.
func (w *warning) wait(now, end time.Time) time.Duration {
	if w.pending() {
		return time.Second
	}
	return max(end.Sub(now)-warnAhead, time.Millisecond)
}
