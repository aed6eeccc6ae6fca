// Command grpc answers Envoy's ext_authz over gRPC by asking Cloakroom's verify listener, for meshes that speak nothing
// else. It is a module of its own, so that Cloakroom does not carry gRPC.
//
//	go run . -listen 127.0.0.1:9082 -verify http://127.0.0.1:9081
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9082", "the address that Envoy asks; it speaks plain gRPC: loopback, or inside of a mesh")
	verify := flag.String("verify", "http://127.0.0.1:9081", "Cloakroom's verify listener, http://HOST:PORT or unix:PATH; its token is read from CLOAKROOM_VERIFY_TOKEN")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, newAsker(*verify, os.Getenv("CLOAKROOM_VERIFY_TOKEN"))); err != nil {
		log.Print(err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then lets running checks finish.
func run(ctx context.Context, listen string, a *asker) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	auth.RegisterAuthorizationServer(server, a)
	go func() {
		<-ctx.Done()
		server.GracefulStop()
	}()
	log.Printf("listening at %s", ln.Addr())
	return server.Serve(ln)
}

// newAsker makes what asks the verify listener at this address.
func newAsker(verify, token string) *asker {
	transport := &http.Transport{MaxIdleConnsPerHost: 128, IdleConnTimeout: time.Minute, DisableCompression: true}
	if path, ok := strings.CutPrefix(verify, "unix:"); ok {
		verify = "http://verify"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
	}
	return &asker{url: strings.TrimSuffix(verify, "/") + "/verify/forwarded", token: token, client: &http.Client{
		Transport:     transport,
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // it is the browser's
	}}
}
