package web

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestHurry: a body that does not come ends the request; one that came does not end what takes longer than it may.
func TestHurry(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Hurry(w, r, 200*time.Millisecond)
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusRequestTimeout)
			return
		}
		select {
		case <-r.Context().Done():
		case <-time.After(400 * time.Millisecond): // longer than the body may take
		}
		fmt.Fprint(w, r.Context().Err())
	}))
	defer server.Close()
	for body, want := range map[string]string{"abcd": "200 <nil>", "ab": "408 "} {
		c, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for range 2 { // the bound does not outlive its request
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"+body)
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(body, err)
			}
			text, _ := io.ReadAll(res.Body)
			if got := fmt.Sprint(res.StatusCode, " ", string(text)); got != want {
				t.Errorf("%s: %s, want %s", body, got, want)
			}
			if res.Close || len(body) < 4 {
				break
			}
		}
	}
}
