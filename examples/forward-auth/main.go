// Command forward-auth is the service behind the proxy in the forward-auth examples: it answers with what reached it.
//
//	go run ./examples/forward-auth
package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"time"
)

func main() {
	server := &http.Server{Addr: "127.0.0.1:3000", Handler: http.HandlerFunc(echo), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func echo(w http.ResponseWriter, r *http.Request) {
	dump, err := httputil.DumpRequest(r, false)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "private, no-store")
	_, _ = w.Write(dump) //nolint:gosec // plain text
}
