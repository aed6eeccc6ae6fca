package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// scaling measures how the cost grows with the work.
type scaling struct {
	out      io.Writer
	upstream string
	length   time.Duration // of a sample
	rounds   int
	idle     []int   // connections that are open and say nothing
	sockets  int     // WebSockets
	sizes    []int64 // of bodies
	sessions []int
}

// scale prints the tables of one part, or of all.
func scale(out io.Writer, part string, quick bool, sessions int) error {
	up, err := start("upstream")
	if err != nil {
		return err
	}
	defer up.stop()
	s := &scaling{
		out: out, upstream: "UPSTREAM=" + up.address, length: 2 * time.Second, rounds: 3,
		idle: []int{1000, 9000}, sockets: 5000, sizes: []int64{1e3, 1e5, 1e7, 1e9}, sessions: []int{1, 1000, sessions},
	}
	if quick {
		s.length, s.rounds, s.idle, s.sockets = 500*time.Millisecond, 1, []int{100, 900}, 500
		s.sizes, s.sessions = []int64{1e3, 1e5, 1e7, 1e8}, []int{1, 100, min(sessions, 10_000)}
	}
	switch part {
	case "sessions":
		return s.bySessions()
	case "connections":
		return s.byConnections()
	case "bodies":
		return s.byBody()
	case "all":
		return errors.Join(s.bySessions(), s.byConnections(), s.byBody())
	}
	return fmt.Errorf("-scale %q: write sessions, connections, bodies or all", part)
}

// pair is a bare proxy and Cloakroom with this many sessions in a file, both collecting garbage seldom.
type pair struct {
	both    []*contender
	tickets []string
	stop    func()
}

func (s *scaling) pair(sessions int) (*pair, error) {
	folder, err := os.MkdirTemp("", "cloakroom-scale-")
	if err != nil {
		return nil, err
	}
	p := &pair{both: []*contender{{name: "bare", bare: true}, {name: "Cloakroom"}}}
	stops := []func(){func() { _ = os.RemoveAll(folder) }}
	p.stop = func() {
		for _, stop := range slices.Backward(stops) {
			stop()
		}
	}
	for _, c := range p.both {
		stop, err := c.start(s.upstream, "GOGC=400", "FOLDER="+folder, "SESSIONS="+strconv.Itoa(sessions))
		if err != nil {
			p.stop()
			return nil, err
		}
		stops = append(stops, stop)
	}
	raw, err := os.ReadFile(folder + "/tickets")
	if err != nil {
		p.stop()
		return nil, err
	}
	_, port, _ := net.SplitHostPort(p.both[1].address)
	for ticket := range strings.SplitSeq(string(raw), "\n") {
		p.tickets = append(p.tickets, "cloakroom-"+port+"="+ticket)
	}
	p.use(len(p.tickets))
	return p, nil
}

// use makes the requests come from the first n sessions.
func (p *pair) use(n int) {
	for _, c := range p.both {
		c.cookies = p.tickets[:min(n, len(p.tickets))]
	}
}

// load runs the rounds, after a shorter one to get warm, and prints a line.
func (s *scaling) load(p *pair, conns int, label string) error {
	for _, c := range p.both {
		c.samples = nil
		if _, err := c.run(s.length/2, conns); err != nil { // what each session does once does not count
			return fmt.Errorf("%s, %s: %w", label, c.name, err)
		}
	}
	for range s.rounds {
		for _, c := range p.both {
			one, err := c.run(s.length, conns)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", label, c.name, err)
			}
			c.samples = append(c.samples, one)
		}
	}
	cost := func(c *contender) float64 { return median(c.samples, func(s sample) float64 { return s.cpu }) }
	p99 := median(p.both[1].samples, func(s sample) float64 { return float64(s.p99) / 1e6 })
	fmt.Fprintf(s.out, "| %s | %.1f | %.1f | %.2f | %.1f |\n", label, cost(p.both[0]), cost(p.both[1]), p.both[1].ratio(p.both[0]), p99)
	return nil
}

const loadHead = "\n| %s | bare, CPU µs | Cloakroom, CPU µs | ratio | Cloakroom, p99 ms |\n|---|---:|---:|---:|---:|\n"

func (s *scaling) bySessions() error {
	fmt.Fprintf(s.out, loadHead, "sessions in the file store")
	for _, n := range s.sessions {
		p, err := s.pair(n)
		if err != nil {
			return err
		}
		if n > 1000 {
			p.use(1000)
			err = s.load(p, 64, fmt.Sprintf("%d, of which 1000 are active", n))
			p.use(n)
		}
		if err == nil {
			err = s.load(p, 64, fmt.Sprintf("%d, one after the other", n))
		}
		p.stop()
		if err != nil {
			return err
		}
	}
	return nil
}

// byConnections measures with more and more connections that are open and say nothing, and what one of them keeps.
func (s *scaling) byConnections() error {
	p, err := s.pair(200)
	if err != nil {
		return err
	}
	defer p.stop()
	fmt.Fprintf(s.out, loadHead, "connections")
	if err := errors.Join(s.load(p, 1, "1"), s.load(p, 64, "64")); err != nil {
		return err
	}
	kept := map[string]string{}
	var held []func()
	letGo := func() {
		for _, stop := range held {
			stop()
		}
		held = nil
	}
	defer func() { letGo() }()
	total := 0
	for _, more := range s.idle {
		total += more
		for _, c := range p.both {
			stop, each, err := c.hold(more, c.request("GET", "/api/hello", c.cookies[0]), "HTTP/1.1 200")
			if err != nil {
				return fmt.Errorf("%d idle connections, %s: %w", more, c.name, err)
			}
			held, kept[c.name] = append(held, stop), each
		}
		if err := s.load(p, 64, fmt.Sprintf("64, beside %d idle", total)); err != nil {
			return err
		}
	}
	letGo()
	fmt.Fprintf(s.out, "\n| resident kB of the proxy for each | bare | Cloakroom |\n|---|---:|---:|\n| idle connection (the last %d) | %s | %s |\n",
		s.idle[len(s.idle)-1], kept["bare"], kept["Cloakroom"])
	for _, c := range p.both {
		handshake := c.request("GET", "/api/ws", c.cookies[0]) + "Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://" + c.address +
			"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
		stop, each, err := c.hold(s.sockets, handshake, "HTTP/1.1 101")
		if err != nil {
			return fmt.Errorf("%d WebSockets, %s: %w", s.sockets, c.name, err)
		}
		stop()
		kept[c.name] = each
	}
	fmt.Fprintf(s.out, "| idle WebSocket (%d) | %s | %s |\n", s.sockets, kept["bare"], kept["Cloakroom"])
	return nil
}

// hold lets a process open connections, send one request on each, and leave them open: one process may not have as many
// as both proxies together. It says how many kB each is to the proxy.
func (c *contender) hold(n int, request, want string) (stop func(), each string, err error) {
	before, err := c.resident()
	if err != nil {
		return nil, "", err
	}
	holder, err := start("hold", "ADDRESS="+c.address, "COUNT="+strconv.Itoa(n), "REQUEST="+request, "WANT="+want)
	if err != nil {
		return nil, "", err
	}
	after, err := c.resident()
	if err != nil {
		holder.stop()
		return nil, "", err
	}
	return holder.stop, fmt.Sprintf("%.1f", float64(after-before)/1024/float64(n)), nil
}

// holdRole is that process. It ends when it is killed.
func holdRole() error {
	n, err := strconv.Atoi(os.Getenv("COUNT"))
	if err != nil {
		return fmt.Errorf("COUNT: %w", err)
	}
	conns := make([]net.Conn, 0, n)
	buf := make([]byte, 16<<10)
	for range n {
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", os.Getenv("ADDRESS"))
		if err != nil {
			return err
		}
		if _, err := io.WriteString(conn, os.Getenv("REQUEST")+"\r\n"); err != nil {
			return err
		}
		if err := head(conn, buf, os.Getenv("WANT")); err != nil {
			return err
		}
		conns = append(conns, conn)
	}
	fmt.Println(len(conns), "open")
	for { // conns stay open for as long as this is
		time.Sleep(time.Hour)
		runtime.KeepAlive(conns)
	}
}

// head reads an answer that begins with want, and all of it if it has a length.
func head(conn net.Conn, buf []byte, want string) error {
	if want == "HTTP/1.1 200" {
		return answer(conn, buf)
	}
	n := 0
	for !bytes.Contains(buf[:n], []byte("\r\n\r\n")) {
		m, err := conn.Read(buf[n:])
		if err != nil {
			return err
		}
		n += m
	}
	if !bytes.HasPrefix(buf[:n], []byte(want)) {
		return fmt.Errorf("answer: %.60q", buf[:n])
	}
	return nil
}

// resident are the bytes of memory that the process holds, after it gave back what it does not use.
func (c *contender) resident() (int64, error) {
	time.Sleep(200 * time.Millisecond) // what was closed is being taken down
	if err := syscall.Kill(c.pid, syscall.SIGUSR1); err != nil {
		return 0, err
	}
	time.Sleep(time.Second)
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm: %q", raw)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
