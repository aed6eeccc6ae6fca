package event

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

var full = Request{
	Time: time.Now(), ID: "AbC-_9", Frontend: "https://app.example", Method: "GET", Path: "/api/ü \" \\ \n\t\b\f\r\x00\x1f\x7f</script>\u2028🔑", Route: "/api/",
	Status: 503, Code: "provider_unavailable", Duration: 1234567 * time.Nanosecond, Bytes: 1 << 40, Session: "h", Client: "2001:db8::1", Cause: "x: \xff\xfe y",
}

// TestLineIsSlogs: the fast line is the one that slog writes, byte for byte but for the time.
func TestLineIsSlogs(t *testing.T) {
	for name, e := range map[string]Request{"full": full, "empty": {}, "a yes": {ID: "1", Method: "GET", Path: "/", Status: 200, Bytes: 3}} {
		var slow bytes.Buffer
		(&Logger{log: slog.New(slog.NewJSONHandler(&slow, nil))}).request(&e)
		fast := string(appendLine(nil, &e))
		_, want, _ := strings.Cut(slow.String(), `","level"`)
		_, got, _ := strings.Cut(fast, `","level"`)
		if got != want {
			t.Errorf("%s:\n%s\n%s", name, got, want)
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(fast), &m); err != nil || strings.Count(fast, "\n") != 1 {
			t.Errorf("%s: not one line of JSON: %v", name, err)
		}
		if _, err := time.Parse(time.RFC3339Nano, m["time"].(string)); err != nil {
			t.Error(err)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("/x", "cause")
	f.Add(full.Path, full.Cause)
	f.Fuzz(func(t *testing.T, path, cause string) {
		e := Request{Path: path, Cause: cause, Status: 200}
		var slow bytes.Buffer
		(&Logger{log: slog.New(slog.NewJSONHandler(&slow, nil))}).request(&e)
		_, want, _ := strings.Cut(slow.String(), `","level"`)
		if _, got, _ := strings.Cut(string(appendLine(nil, &e)), `","level"`); got != want {
			t.Errorf("\n%s\n%s", got, want)
		}
	})
}

// slowWriter tells how often it was called.
type slowWriter struct {
	bytes.Buffer
	writes int
	gate   chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	<-w.gate
	w.writes++
	return w.Buffer.Write(p)
}

// TestLinesGoTogether: many lines are one write, nothing is lost that was taken, and what does not fit is counted.
func TestLinesGoTogether(t *testing.T) {
	out := &slowWriter{gate: make(chan struct{})}
	var log bytes.Buffer
	l := NewLogger(slog.New(slog.NewJSONHandler(&log, nil)), out, "all")
	for range 10000 {
		l.Sink(&full)
	}
	close(out.gate)
	l.Close()
	lines := strings.Count(out.String(), "\n")
	if lines < 4096 || out.writes > lines/20 {
		t.Errorf("%d lines in %d writes", lines, out.writes)
	}
	dropped := 0
	for line := range strings.Lines(log.String()) {
		var said struct{ Count int }
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			t.Fatal(err)
		}
		dropped += said.Count
	}
	if dropped+lines != 10000 {
		t.Errorf("%d lines, %d dropped", lines, dropped)
	}
}

func BenchmarkLine(b *testing.B) {
	b.Run("slog", func(b *testing.B) {
		l := &Logger{log: slog.New(slog.NewJSONHandler(io.Discard, nil))} //nolint:sloglint // what it costs is the question
		b.ReportAllocs()
		for b.Loop() {
			l.request(&full)
		}
	})
	b.Run("own", func(b *testing.B) {
		buf := make([]byte, 0, 4096)
		b.ReportAllocs()
		for b.Loop() {
			buf = appendLine(buf[:0], &full)
		}
	})
}
