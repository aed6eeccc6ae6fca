// Package wire holds tests alone: real clients speak to real servers through the real binary (gRPC, gRPC-Web, WebSocket,
// server-sent events, large bodies, a thousand streams on one connection) and while it drains. It is a module of its own,
// so that Cloakroom's own dependencies do not grow by what its clients need.
//
// CLOAKROOM_BIN names the binary; without it one is built. WIRE=long takes 10,000 WebSockets, 5 GiB and a silent minute.
package wire
