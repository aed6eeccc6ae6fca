// Command embed shows Cloakroom inside of a Go program: its own routes behind the same gate as the configured ones.
//
//	PROVIDER=https://tenant.example.com/ CLIENT_ID=app CLIENT_SECRET=… go run ./examples/embed
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/cloakroom/cloakroom"
	"github.com/cloakroom/cloakroom/config"
)

func main() {
	handler, h, err := newApp("http://127.0.0.1:8080", config.Provider{
		Issuer:       os.Getenv("PROVIDER"),
		ClientID:     os.Getenv("CLIENT_ID"),
		ClientSecret: config.NewSecret(os.Getenv("CLIENT_SECRET")),
	}, "examples/embed/app")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	err = server.ListenAndServe()
	log.Fatal(errors.Join(err, h.Shutdown(context.Background())))
}

// newApp wires the program: /reports/ is our own handler, everything else is Cloakroom's.
func newApp(url string, provider config.Provider, files string) (http.Handler, *cloakroom.Handler, error) {
	h, err := cloakroom.New(config.Config{
		Frontends: []config.Frontend{{
			URL:       url,
			Providers: []config.Provider{provider},
			Routes:    []config.Route{{Path: "/", Files: files}},
		}},
	}, cloakroom.Options{Log: slog.Default()})
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/reports/", h.Protect(http.HandlerFunc(reports)))
	mux.Handle("/", h)
	return mux, h, nil
}

// reports answers for the user that is logged in, and could call an API as that user.
func reports(w http.ResponseWriter, r *http.Request) {
	user, _ := cloakroom.UserFrom(r.Context()) // Protect has let nobody else through
	token, err := cloakroom.AccessToken(r.Context())
	if err != nil {
		http.Error(w, "the provider cannot be reached", http.StatusServiceUnavailable)
		return
	}
	var name string
	user.Claim("name", &name)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"user": user.Subject, "name": name, "calls_the_api_with": fmt.Sprintf("a token of %d characters", len(token)),
	})
}
