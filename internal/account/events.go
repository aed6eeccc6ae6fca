package account

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cloakroom/cloakroom/internal/gate"
	"github.com/cloakroom/cloakroom/internal/session"
)

const (
	// beatEvery keeps proxies from taking a silent stream for a dead one.
	beatEvery = 20 * time.Second
	// writeTime is how long a client may take to read what is sent. One that is gone without a word is noticed by it.
	writeTime = 10 * time.Second
	// retryTime is when a browser asks again after a stream that broke off, for example because the server restarts.
	retryTime = 2 * time.Second
)

// Events of a stream.
const (
	eventEnding  = "session_ending"
	eventEnded   = "session_ended"
	eventChanged = "session_changed"
)

// superseded is the end of a stream that a newer one of the same session took the place of. It is not to be opened
// again: else the two would drive each other out for ever. A client that does not know the event comes back after an
// hour.
const superseded = "retry: 3600000\nevent: superseded\ndata: {}\n\n"

// Stream serves GET /auth/events: what becomes of the session, as server-sent events. An open stream is not activity.
func (h *Handler) Stream(w http.ResponseWriter, r *http.Request) {
	pass, refusal := h.Gate.Decide(r.Context(), h.Gate.Facts(r), gate.Requirement{Session: gate.Required, Action: true, Quiet: true})
	if refusal != nil {
		h.Gate.Refuse(w, r, refusal)
		return
	}
	gate.Vary(w)
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	defer pass.Live.Watch()()
	mine, leave := h.streams.join(pass.Live.Session().Handle, r)
	defer leave()
	s := stream{w: w, out: http.NewResponseController(w)}
	defer s.out.SetWriteDeadline(time.Time{})     //nolint:errcheck // the connection may serve further requests
	_ = h.follow(r.Context(), s, pass.Live, mine) // an error means that the client is gone
}

// follow writes until the session ends, a newer stream takes its place, the server shuts down, or the client leaves.
// All of it happens on the request's own goroutine.
func (h *Handler) follow(ctx context.Context, s stream, l *session.Live, mine *place) error {
	if err := s.write(fmt.Sprintf("retry: %d\n\n", retryTime.Milliseconds())); err != nil {
		return err
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	var told warning
	changed := l.Changed()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-mine.draining:
			return nil
		case <-h.streams.closed:
			return nil
		case <-l.Done():
			return s.send(eventEnded, struct {
				Reason string `json:"reason"`
			}{l.Why()})
		case <-mine.superseded:
			return s.write(superseded)
		case <-changed:
			changed = l.Changed() // before anything is said of it: a change that comes meanwhile is told next
			next.Reset(0)
			err = s.send(eventChanged, expiry{whole(l.ExpiresAt())})
		case <-beat.C:
			if told.pending() { // activity at another replica takes the warning back, and is no change that is told
				h.Sessions.Sync(ctx, l)
				next.Reset(0)
			}
			err = s.write(":\n\n")
		case <-next.C:
			err = h.warn(ctx, s, l, &told)
			next.Reset(told.wait(h.Sessions.Now(), l.ExpiresAt()))
		}
		if err != nil {
			return err
		}
	}
}

// warn says that the session is about to end, or that it is not any more.
func (h *Handler) warn(ctx context.Context, s stream, l *session.Live, told *warning) error {
	if told.due(h.Sessions.Now(), l.ExpiresAt()) && !h.Sessions.Sync(ctx, l) {
		return nil // over: Done says it
	}
	end := l.ExpiresAt() // the store may have known of later activity
	switch told.look(h.Sessions.Now(), end) {
	case eventEnding:
		return s.send(eventEnding, expiry{whole(end)})
	case eventChanged:
		return s.send(eventChanged, expiry{whole(end)})
	}
	return nil
}

// expiry is the data of session_ending and session_changed.
type expiry struct {
	ExpiresAt time.Time `json:"expires_at"`
}

// stream writes server-sent events (HTML Standard, section 9.2).
type stream struct {
	w   io.Writer
	out *http.ResponseController
}

func (s stream) send(event string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return s.write("event: " + event + "\ndata: " + string(b) + "\n\n")
}

// write sends at once, and gives up on a client that does not read.
func (s stream) write(text string) error {
	_ = s.out.SetWriteDeadline(time.Now().Add(writeTime)) // not every ResponseWriter can
	if _, err := io.WriteString(s.w, text); err != nil {
		return err
	}
	return s.out.Flush()
}
