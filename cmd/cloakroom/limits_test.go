package main

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloakroom/cloakroom/internal/testserver"
)

// TestSlowClients: how long a connection lives that sends its header byte by byte, nothing at all, or nothing more.
func TestSlowClients(t *testing.T) {
	const whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, tc := range map[string]struct {
		send  string
		every time.Duration // after each byte
		life  time.Duration
	}{
		"nothing":      {"", 0, 10 * time.Second},
		"half":         {"GET / HT", 0, 10 * time.Second},
		"slowloris":    {"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: b\r\n", 1000), time.Second, 10 * time.Second},
		"a whole one":  {whole, 0, 2 * time.Minute},
		"then half":    {whole + "GET /", 0, 10 * time.Second},
		"a slow whole": {whole, 300 * time.Millisecond, 2*time.Minute + time.Duration(len(whole))*300*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := testserver.NewMemory()
				server := newServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), slog.New(slog.DiscardHandler))
				go func() { _ = server.Serve(ln) }()
				began := time.Now()
				client, err := ln.Dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				var writer sync.WaitGroup
				writer.Go(func() {
					for i := range len(tc.send) {
						if _, err := io.WriteString(client, tc.send[i:i+1]); err != nil {
							return
						}
						time.Sleep(tc.every)
					}
				})
				_, _ = io.Copy(io.Discard, client)
				if life := time.Since(began); life < tc.life-2*time.Second || life > tc.life+2*time.Second {
					t.Errorf("it lived %v, want about %v", life, tc.life)
				}
				client.Close()
				_ = server.Close()
				writer.Wait()
			})
		})
	}
}
