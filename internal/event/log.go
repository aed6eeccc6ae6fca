package event

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Logger writes events to a slog.Logger: one line each. Request events go through a bounded buffer with one
// writer, so that a slow disk slows no request; what does not fit is dropped and counted. Audit events are never
// dropped.
type Logger struct {
	log      *slog.Logger
	lines    io.Writer // where request events go, as lines of JSON; nil = log
	requests string    // all | errors | none
	queue    chan *Request
	buf      []byte // of the one writer
	dropped  atomic.Int64
	quit     chan struct{}
	done     chan struct{}
	once     sync.Once
}

// NewLogger makes a logger. With lines, request events are written there as lines of JSON, many at a time, and not to
// log. requests says which request events are written: all, errors (status 500 and above,
// and problems), or none.
func NewLogger(log *slog.Logger, lines io.Writer, requests string) *Logger {
	l := &Logger{log: log, lines: lines, requests: requests, queue: make(chan *Request, 4096)}
	l.quit, l.done = make(chan struct{}), make(chan struct{})
	go l.write()
	return l
}

// Sink takes events.
func (l *Logger) Sink(e Event) {
	switch e := e.(type) {
	case *Request:
		if l.requests == "none" || l.requests == "errors" && e.Status < 500 && e.Code == "" {
			return
		}
		select {
		case l.queue <- e:
		default:
			l.dropped.Add(1)
		}
	case *Audit:
		if l.log != nil {
			l.audit(e)
		}
	case *Call:
		if l.log == nil {
			return
		}
		level := slog.LevelInfo
		if e.Outcome != "ok" {
			level = slog.LevelWarn
		}
		l.log.LogAttrs(context.Background(), level, "provider", attrs(
			"provider", e.Provider, "act", e.Act, "outcome", e.Outcome, "session", e.Session,
		).add(slog.Int("status", e.Status), slog.Duration("duration", e.Duration))...)
	}
}

// Close writes what is queued and stops. Request events that come later are lost.
func (l *Logger) Close() {
	l.once.Do(func() { close(l.quit) })
	<-l.done
}

func (l *Logger) write() {
	defer close(l.done)
	for {
		select {
		case e := <-l.queue:
			l.together(e)
		case <-l.quit:
			select {
			case e := <-l.queue:
				l.together(e)
			default:
				l.tellDropped()
				return
			}
		}
	}
}

func (l *Logger) tellDropped() {
	if n := l.dropped.Swap(0); n > 0 && l.log != nil {
		l.log.Warn("request events were dropped", "count", n)
	}
}

const (
	// maxWrite is the size of a write from which on no more lines wait for it.
	maxWrite = 32 << 10
	// gather is how long a line waits for others: to wake the writer for each of them, and a write(2) for each, would cost
	// more than the lines.
	gather = 10 * time.Millisecond
)

// together writes an event, with those that wait in the queue.
func (l *Logger) together(e *Request) {
	l.tellDropped()
	if l.lines == nil {
		l.request(e)
		return
	}
	select {
	case <-time.After(gather):
	case <-l.quit:
	}
	l.buf = appendLine(l.buf[:0], e)
	for n := len(l.queue); n > 0; n-- { // nobody else takes from it
		if len(l.buf) >= maxWrite {
			_, _ = l.lines.Write(l.buf)
			l.buf = l.buf[:0]
		}
		l.buf = appendLine(l.buf, <-l.queue)
	}
	_, _ = l.lines.Write(l.buf) // where would one say that the log cannot be written
}

func (l *Logger) request(e *Request) {
	level := slog.LevelInfo
	if e.Status >= 500 {
		level = slog.LevelError
	}
	l.log.LogAttrs(context.Background(), level, "request", attrs(
		"request_id", e.ID, "frontend", e.Frontend, "method", e.Method, "path", e.Path, "route", e.Route,
		"code", e.Code, "session", e.Session, "client", e.Client, "cause", e.Cause,
	).add(slog.Int("status", e.Status), slog.Int64("bytes", e.Bytes), slog.Duration("duration", e.Duration.Round(time.Microsecond)))...)
}

func (l *Logger) audit(e *Audit) {
	l.log.LogAttrs(context.Background(), slog.LevelInfo, "audit", attrs(
		"audit", e.Kind, "request_id", e.RequestID, "frontend", e.Frontend, "provider", e.Provider,
		"session", e.Session, "client", e.Client, "reason", e.Reason, "revoked", e.Revoked, "detail", e.Detail,
	)...)
}

type attrList []slog.Attr

// attrs pairs names with values and leaves the empty ones out.
func attrs(pairs ...string) attrList {
	list := make(attrList, 0, len(pairs)/2+3)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			list = append(list, slog.String(pairs[i], pairs[i+1]))
		}
	}
	return list
}

func (a attrList) add(more ...slog.Attr) attrList { return append(a, more...) }
