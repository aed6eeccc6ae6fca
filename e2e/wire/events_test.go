package wire

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// events is an upstream of server-sent events that writes one whenever it is told to.
type events struct {
	next chan int
	left chan struct{} // a reader is gone
}

func (e events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	for {
		select {
		case n := <-e.next:
			fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", n, n)
			_ = flush.Flush()
		case <-r.Context().Done():
			e.left <- struct{}{}
			return
		}
	}
}

// TestEvents writes each event only after the one before has been read: what anybody on the way held back would never come.
func TestEvents(t *testing.T) {
	a := newAuthority(t)
	for _, k := range []kind{secure, plain} {
		for _, upstream := range []string{"http", "h2c", "standard"} {
			for _, h2 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s h2=%t to %s", k, h2, upstream), func(t *testing.T) {
					if long {
						t.Parallel() // the minutes of silence
					}
					api := events{make(chan int), make(chan struct{}, 1)}
					address, connection := serveUpstream(t, upstream, a, api)
					f := startFront(t, k, a, fmt.Sprintf("{path: /events, upstream: %q%s}", address, connection))
					client := f.client(h2)
					defer client.CloseIdleConnections()
					through := api.read(t, client, f.request("GET", "/events", nil), long)
					if upstream != "http" {
						return
					}
					req, err := http.NewRequest("GET", address+"/events", nil)
					if err != nil {
						t.Fatal(err)
					}
					direct := api.read(t, http.DefaultClient, req, false)
					t.Logf("first event after %s, directly %s: %.1f times", through, direct, float64(through)/float64(direct))
				})
			}
		}
	}
}

// read takes a hundred events one by one, goes away, which the server has to hear of, and returns the time to the first.
func (e events) read(t *testing.T, client *http.Client, req *http.Request, silence bool) time.Duration {
	t.Helper()
	begun := time.Now()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		res.Body.Close()
		receive(t, "the reader's leaving at the server", e.left)
	}()
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %v", res.Status, res.Header)
	}
	lines := make(chan string, 3)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(res.Body); s.Scan(); {
			lines <- s.Text()
		}
	}()
	var first time.Duration
	for n := range 100 {
		if n == 50 && silence {
			time.Sleep(time.Minute) // nobody on the way may take silence for the end
		}
		e.next <- n
		var got [3]string
		for i := range got {
			got[i] = receive(t, fmt.Sprintf("event %d", n), lines)
		}
		if want := fmt.Sprintf("id: %d|data: event %d|", n, n); strings.Join(got[:], "|") != want {
			t.Fatalf("%q instead of %q", got, want)
		}
		if n == 0 {
			first = time.Since(begun)
		}
	}
	return first
}
