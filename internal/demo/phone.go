package demo

import (
	"fmt"
	"net/http"
)

// NewPhone stands for the phone that people of the demo hold in their hands: GET shows the codes of their authenticator
// apps. Messages are in the log.
func NewPhone(users []string, code func(user string) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, "The authenticator apps of the demo's users show now (reload for the next one):\n\n")
		for _, u := range users {
			c := code(u)
			if c == "" {
				c = "was used: wait for the next"
			}
			fmt.Fprintf(w, "  %-10s %s\n", u, c)
		}
	})
}
