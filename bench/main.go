// Command bench measures what a request pays for being authenticated: Cloakroom (a session looked up, a fresh token
// attached) against a bare, tuned httputil.ReverseProxy over the same transport, with both transports that Cloakroom has,
// in one interleaved run.
//
//	go run ./bench -rounds 5 -secs 3
//	go run ./bench -scale all [-quick] [-sessions 1000000]
//
// Upstream, proxies and load share the machine, so only the ratios mean something. CPU per request is the proxy
// process's own user and system time; it is the robust figure.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	role := flag.String("role", "", "internal: which process this is")
	rounds := flag.Int("rounds", 5, "interleaved rounds")
	secs := flag.Float64("secs", 3, "seconds of each sample")
	conns := flag.Int("conns", 64, "connections")
	sessions := flag.Int("sessions", 0, "sessions; 0 = 200, with -scale up to 100,000")
	scaling := flag.String("scale", "", "measure how the cost grows with: sessions, connections, bodies or all")
	quick := flag.Bool("quick", false, "with -scale: a tenth of everything, in a minute")
	flag.Parse()
	var err error
	switch {
	case *role != "":
		err = serveRole(*role)
	case *scaling != "":
		err = scale(os.Stdout, *scaling, *quick, cmp.Or(*sessions, 100_000))
	default:
		*sessions = cmp.Or(*sessions, 200)
		err = measure(*rounds, time.Duration(*secs*float64(time.Second)), *conns, *sessions)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// contender is one process under measurement.
type contender struct {
	name    string
	bare    bool // a ReverseProxy alone
	gogc    string
	against int // which one in the list it is compared with
	address string
	pid     int
	cookies []string
	visited int // which cookie the next run begins with
	samples []sample
}

// sample is one measurement.
type sample struct {
	cpu  float64 // µs per request
	rate float64 // requests per second
	p50  time.Duration
	p99  time.Duration
}

// measure starts everything, runs the rounds and prints the table.
func measure(rounds int, length time.Duration, conns, sessions int) error {
	upstream, err := start("upstream")
	if err != nil {
		return err
	}
	defer upstream.stop()
	var list []*contender
	for _, transport := range []string{"standard", "lean"} {
		bare := &contender{name: "bare, " + transport, bare: true, against: len(list)}
		ours := &contender{name: "Cloakroom, " + transport, against: len(list)}
		group := []*contender{bare, ours}
		if list == nil {
			group = append(group, &contender{name: "bare, standard, GOGC=100", bare: true, gogc: "100", against: 0})
		}
		for _, c := range group {
			stop, err := c.start("UPSTREAM="+upstream.address, "TRANSPORT="+transport, "GOGC="+cmp.Or(c.gogc, "400"))
			if err != nil {
				return err
			}
			defer stop()
		}
		for range sessions {
			cookie, err := login(ours.address)
			if err != nil {
				return err
			}
			ours.cookies = append(ours.cookies, cookie)
		}
		for _, c := range group {
			c.cookies = ours.cookies // the same bytes come in, whoever is in front
		}
		list = append(list, group...)
	}
	for range rounds {
		for _, c := range list {
			s, err := c.run(length, conns)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.samples = append(c.samples, s)
		}
	}
	report(os.Stdout, list)
	return nil
}

// start starts the contender's process.
func (c *contender) start(env ...string) (stop func(), err error) {
	role := "cloakroom"
	if c.bare {
		role = "bare"
	}
	p, err := start(role, env...)
	if err != nil {
		return nil, err
	}
	c.address, c.pid = p.address, p.cmd.Process.Pid
	return p.stop, nil
}

func report(out io.Writer, list []*contender) {
	fmt.Fprintf(out, "%-24s %14s %12s %10s %10s %20s %22s\n", "", "CPU µs/request", "requests/s", "p50 ms", "p99 ms", "to bare, same way", "to standard, GOGC=100")
	for _, c := range list {
		fmt.Fprintf(out, "%-24s %14.1f %12.0f %10.2f %10.2f %20.2f %22.2f\n", c.name,
			median(c.samples, func(s sample) float64 { return s.cpu }), median(c.samples, func(s sample) float64 { return s.rate }),
			median(c.samples, func(s sample) float64 { return float64(s.p50) / 1e6 }), median(c.samples, func(s sample) float64 { return float64(s.p99) / 1e6 }),
			c.ratio(list[c.against]), c.ratio(list[2]))
	}
}

// ratio is the median of what a request costs here over what it costs there, round by round.
func (c *contender) ratio(other *contender) float64 {
	var ratios []float64
	for i, s := range c.samples {
		ratios = append(ratios, s.cpu/other.samples[i].cpu)
	}
	return median(ratios, func(f float64) float64 { return f })
}

func median[T any](list []T, value func(T) float64) float64 {
	var v []float64
	for _, s := range list {
		v = append(v, value(s))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// run loads the contender for this long.
func (c *contender) run(length time.Duration, conns int) (sample, error) {
	before, err := cpu(c.pid)
	if err != nil {
		return sample{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var mu sync.Mutex
	var wait sync.WaitGroup
	var all []time.Duration
	var failed error
	began := time.Now()
	for i := range conns {
		wait.Go(func() {
			times, err := c.hammer(ctx, c.visited+i, conns)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, times...)
			failed = errors.Join(failed, err)
		})
	}
	wait.Wait()
	took := time.Since(began)
	after, err := cpu(c.pid)
	if err = errors.Join(failed, err); err != nil {
		return sample{}, err
	}
	if len(all) == 0 {
		return sample{}, errors.New("no answer")
	}
	c.visited += len(all)
	slices.Sort(all)
	n := float64(len(all))
	return sample{
		cpu: float64(after-before) / 1e3 / n, rate: n / took.Seconds(),
		p50: all[len(all)/2], p99: all[len(all)*99/100],
	}, nil
}

// hammer sends requests over one connection, one after the other, with another session each time: those that the other
// connections leave to it, so that all together go through the whole list.
func (c *contender) hammer(ctx context.Context, first, step int) ([]time.Duration, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // the run is over
	var times []time.Duration
	buf := make([]byte, 16<<10)
	for i := first; ctx.Err() == nil; i += step {
		request := c.request("GET", "/api/hello", c.cookies[i%len(c.cookies)])
		began := time.Now()
		if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
			return nil, err
		}
		if err := answer(conn, buf); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	return times, nil
}

// request is the header of a request as the app sends it, without the empty line at its end.
func (c *contender) request(method, path, cookie string) string {
	request := method + " " + path + " HTTP/1.1\r\nHost: " + c.address + "\r\nAccept: application/json\r\n" +
		"Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nCookie: " + cookie + "\r\n"
	if c.bare { // the token comes with the request: this one adds none
		request += "Authorization: Bearer " + strings.Repeat("x", 46) + "\r\n"
	}
	return request
}

// answer reads one answer with a Content-Length, with as little work as possible.
func answer(conn net.Conn, buf []byte) error {
	n := 0
	for {
		m, err := conn.Read(buf[n:])
		if err != nil {
			return err
		}
		n += m
		end := bytes.Index(buf[:n], []byte("\r\n\r\n"))
		if end < 0 {
			continue
		}
		if !bytes.HasPrefix(buf, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("answer: %.60q", buf[:n])
		}
		at := bytes.Index(buf[:end], []byte("Content-Length: "))
		if at < 0 {
			return errors.New("no Content-Length")
		}
		line, _, _ := bytes.Cut(buf[at+16:end+2], []byte("\r"))
		length, err := strconv.Atoi(string(line))
		if err != nil {
			return err
		}
		if n >= end+4+length {
			return nil
		}
	}
}

// cpu is the user and system time of a process, in nanoseconds.
func cpu(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err == nil { // the main thread only; the sum over threads is the process
		return threads(pid)
	}
	return 0, fmt.Errorf("reading CPU time (Linux only): %w %s", err, raw)
}

// threads sums the running time of all threads of a process.
func threads(pid int) (int64, error) {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, e := range entries {
		raw, err := os.ReadFile(dir + "/" + e.Name() + "/schedstat")
		if err != nil {
			continue // the thread has ended
		}
		first, _, _ := strings.Cut(string(raw), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// child is a process of this command in another role.
type child struct {
	cmd     *exec.Cmd
	address string
}

func start(role string, env ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.Background(), self, "-role", role) //nolint:gosec // itself
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	return &child{cmd, strings.TrimSpace(string(line[:n]))}, nil
}

func (c *child) stop() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// login makes a session and returns its Cookie header.
func login(address string) (string, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+address+"/auth/login", strings.NewReader(`{"username":"ann","password":"pw"}`))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Cloakroom", "1")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var cookies []string // the ticket, and that of a known browser
	for _, c := range res.Cookies() {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	if res.StatusCode != http.StatusOK || len(cookies) == 0 {
		return "", fmt.Errorf("login: %s", res.Status)
	}
	return strings.Join(cookies, "; "), nil
}
