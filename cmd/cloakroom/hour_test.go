package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/internal/testserver"
)

// TestAnHourOfEvents: no time-out of the listener ends a stream that says something every five minutes.
func TestAnHourOfEvents(t *testing.T) {
	for _, major := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP/%d", major), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := testserver.NewMemory()
				server := newServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/event-stream")
					for i := range 13 {
						_, _ = fmt.Fprintf(w, ": %d\n", i)
						_ = http.NewResponseController(w).Flush()
						time.Sleep(5 * time.Minute)
					}
				}), slog.New(slog.DiscardHandler))
				go func() { _ = server.Serve(ln) }()
				client := &http.Transport{DialContext: ln.Dial, Protocols: new(http.Protocols)}
				client.Protocols.SetHTTP1(major == 1)
				client.Protocols.SetUnencryptedHTTP2(major == 2)
				req, err := http.NewRequestWithContext(t.Context(), "GET", "http://app.example/", nil)
				if err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				res, err := client.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(res.Body)
				if took := time.Since(begun); err != nil || strings.Count(string(text), "\n") != 13 || took != 65*time.Minute {
					t.Errorf("%q after %v: %v", text, took, err)
				}
				_ = res.Body.Close()
				client.CloseIdleConnections()
				_ = server.Close()
			})
		})
	}
}
