// Command demoop runs the demo's provider over https for the browser suite, which runs once against it and once against
// a certified third-party provider. It tells on standard output, one JSON object a line, what it issued and was asked,
// so that the suite can count and search. For tests only.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/cloakroom/cloakroom/internal/idp"
)

func main() {
	listen := flag.String("listen", "", "address")
	app := flag.String("app", "", "the app's origin")
	cert := flag.String("cert", "", "certificate file")
	key := flag.String("key", "", "key file")
	life := flag.Duration("life", time.Minute, "life of access tokens")
	client := flag.String("client", "", "JSON object of id and secret")
	users := flag.String("users", "", "JSON object of user name and password")
	flag.Parse()
	if err := serve(*listen, *app, [2]string{*cert, *key}, *life, [2]string{*client, *users}); err != nil {
		fmt.Fprintln(os.Stderr, "demoop:", err)
		os.Exit(1)
	}
}

// loopback is a client for which every name is this computer, as for the suite's browser. It trusts the throw-away
// authority by SSL_CERT_FILE.
func loopback() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	}}}
}

// serve runs the provider until the process is ended.
func serve(listen, app string, files [2]string, life time.Duration, people [2]string) error {
	var client struct{ ID, Secret string }
	var users map[string]string
	if err := json.Unmarshal([]byte(people[0]), &client); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(people[1]), &users); err != nil {
		return err
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(line map[string]string) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(line)
	}
	c := idp.Config{
		Issuer: "https://" + listen, AccessTokenLife: life,
		Clients: []idp.Client{{
			ID: client.ID, Secret: client.Secret, RedirectURIs: []string{app + "/auth/callback"},
			PostLogoutRedirectURIs: []string{app + "/"}, BackchannelLogoutURI: app + "/auth/backchannel-logout",
		}},
		HTTP:    loopback(),
		Log:     func(e idp.Entry) { say(map[string]string{"act": e.Act, "outcome": e.Outcome}) },
		Witness: func(what, value string) { say(map[string]string{"what": what, "value": value}) },
	}
	for name, password := range users {
		c.Users = append(c.Users, idp.User{Username: name, Password: password, Name: name, Email: name + "@example.test"})
	}
	p, err := idp.New(c)
	if err != nil {
		return err
	}
	return (&http.Server{Addr: listen, Handler: p, ReadHeaderTimeout: 10 * time.Second}).ListenAndServeTLS(files[0], files[1])
}
