package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// byBody measures downloads and uploads.
func (s *scaling) byBody() error {
	p, err := s.pair(1)
	if err != nil {
		return err
	}
	defer p.stop()
	fmt.Fprintf(s.out, "\n| body | bare, MB/s | Cloakroom, MB/s | bare, CPU ms per MB | Cloakroom, CPU ms per MB | ratio |\n|---|---:|---:|---:|---:|---:|\n")
	for _, up := range []bool{false, true} {
		for _, size := range s.sizes {
			var speeds, costs [2][]float64
			for range s.rounds {
				for i, c := range p.both {
					speed, cost, err := c.transfer(up, size, s.length)
					if err != nil {
						return fmt.Errorf("%d bytes, %s: %w", size, c.name, err)
					}
					speeds[i], costs[i] = append(speeds[i], speed), append(costs[i], cost)
				}
			}
			way := "down"
			if up {
				way = "up"
			}
			var ratios []float64
			for i := range costs[0] {
				ratios = append(ratios, costs[1][i]/costs[0][i])
			}
			mid := func(v []float64) float64 { return median(v, func(f float64) float64 { return f }) }
			fmt.Fprintf(s.out, "| %s %s | %.0f | %.0f | %.3f | %.3f | %.2f |\n", size1000(size), way, mid(speeds[0]), mid(speeds[1]), mid(costs[0]), mid(costs[1]), mid(ratios))
		}
	}
	return nil
}

func size1000(n int64) string {
	for _, unit := range []string{"B", "kB", "MB"} {
		if n < 1000 {
			return fmt.Sprint(n, " ", unit)
		}
		n /= 1000
	}
	return fmt.Sprint(n, " GB")
}

// transfer sends or takes bodies over four connections for this long, and at least one over each (one connection from
// 100 MB on). It returns MB per second and CPU milliseconds per MB.
func (c *contender) transfer(up bool, size int64, length time.Duration) (speed, cost float64, err error) {
	conns := 4
	if size >= 1e8 {
		conns = 1
	}
	before, err := cpu(c.pid)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	counts, errs := make([]int64, conns), make([]error, conns)
	var work sync.WaitGroup
	for i := range conns {
		work.Go(func() { counts[i], errs[i] = c.bodies(up, size, began.Add(length)) })
	}
	work.Wait()
	took := time.Since(began).Seconds()
	after, err := cpu(c.pid)
	n := int64(0)
	for _, k := range counts {
		n += k
	}
	mb := float64(n*size) / 1e6
	return mb / took, float64(after-before) / 1e6 / mb, errors.Join(errors.Join(errs...), err)
}

// bodies goes on over one connection until then. It returns how many passed whole.
func (c *contender) bodies(up bool, size int64, until time.Time) (int64, error) {
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", c.address)
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // the run is over
	buf := make([]byte, 256<<10)
	request := c.request("GET", "/api/bytes/"+strconv.FormatInt(size, 10), c.cookies[0])
	if up {
		request = c.request("POST", "/api/upload", c.cookies[0]) + "Content-Length: " + strconv.FormatInt(size, 10) + "\r\n"
	}
	for n := int64(0); ; n++ {
		if n > 0 && time.Now().After(until) {
			return n, nil
		}
		if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
			return n, err
		}
		if up {
			err = errors.Join(zeros(conn, size), answer(conn, buf))
		} else {
			err = download(conn, buf, size)
		}
		if err != nil {
			return n, err
		}
	}
}

var block = make([]byte, 256<<10)

// zeros sends a body.
func zeros(conn net.Conn, size int64) error {
	for size > 0 {
		n, err := conn.Write(block[:min(size, int64(len(block)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// download reads an answer of this size.
func download(conn net.Conn, buf []byte, size int64) error {
	n := 0
	end := -1
	for ; end < 0; end = bytes.Index(buf[:n], []byte("\r\n\r\n")) {
		m, err := conn.Read(buf[n:])
		if err != nil {
			return err
		}
		n += m
	}
	if !bytes.HasPrefix(buf, []byte("HTTP/1.1 200")) {
		return fmt.Errorf("answer: %.60q", buf[:n])
	}
	for left := size - int64(n-end-4); left > 0; {
		m, err := conn.Read(buf)
		if err != nil {
			return err
		}
		left -= int64(m)
	}
	return nil
}
