// Package cloakroom lets a single-page app keep its own login form on its own domain while no OAuth token ever
// reaches the browser. The tokens stay in a server-side session; the browser holds one opaque HttpOnly ticket;
// access tokens are refreshed unseen; the API is reached through the [Handler].
//
// # Use
//
// Most people run the server, cmd/cloakroom. A Go program may embed the same thing:
//
//	cfg, err := config.Load("cloakroom.yaml") // or fill config.Config
//	h, err := cloakroom.New(cfg, cloakroom.Options{Store: store})
//	mux.Handle("/reports/", h.Protect(reports)) // own routes behind the same gate
//	mux.Handle("/", h)                          // /auth/, and the routes of the configuration
//
// # The tour
//
// A request is data that walks through rooms, one step each:
//
//	facts(request) -> gate.Decide -> Session, TokenSet (or a problem) -> proxy.match -> Route -> rewrite -> upstream
//
// The gate (internal/gate) is the only way from a browser's request to a session. Sessions, and the rules that
// keep their tokens fresh, live in internal/session and know nothing of HTTP requests. A login is data, too:
//
//	start(provider, return_to) -> Transaction -> callback -> Exchange -> TokenSet, Claims -> Create -> Ticket
//
// It happens in internal/login; what a browser can do with its session is internal/account; what goes to the API
// is internal/proxy. The provider's protocol is internal/oidc, secrets at rest are internal/seal, the store's
// contract is the public package store. docs/architecture.md has the picture.
package cloakroom
