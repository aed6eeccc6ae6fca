package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A server with a small heap collects garbage more often than it needs to: with the runtime's default a proxy that lives
// in 10 MB starts a collection every few megabytes. Memory that is there anyway is better used to collect seldom; the
// limit keeps a container with little memory from being killed for it.
const (
	// headroom is how much garbage may gather between two collections, in bytes: never less than what lives (the
	// runtime's own 100 percent), and never more than four times as much, which is where collecting is nearly free.
	headroom = 256 << 20
	seldom   = 400
	often    = 100
	// share of the memory that is there, as the limit at which the collector works as often as it must.
	shareOfContainer = 0.8 // a cgroup's: beyond it the process is killed
	shareOfMachine   = 0.5 // others live on it, too
)

// percentFor is how much the heap may grow between two collections, in percent of the bytes that live.
func percentFor(live int64) int {
	return int(min(max(headroom*100/max(live, 1), often), seldom))
}

// collector is how garbage is collected.
type collector struct {
	ours  bool   // we choose how often
	limit int64  // bytes, at which it is done as often as it must
	why   string // in the log
}

// collectorFor chooses it. What the operator has set by GOGC or GOMEMLIMIT stays.
func collectorFor(gogc, gomemlimit string, container, machine int64) collector {
	c := collector{ours: true}
	switch {
	case gogc != "" || gomemlimit != "":
		return collector{why: "GOGC or GOMEMLIMIT is set"}
	case container > 0 && (machine == 0 || container < machine):
		c.limit, c.why = int64(float64(container)*shareOfContainer), "of the container's memory"
	case machine > 0:
		c.limit, c.why = int64(float64(machine)*shareOfMachine), "of the machine's memory"
	default:
		return collector{why: "how much memory there is cannot be told"}
	}
	return c
}

// tuneCollector sets the collector for a server, and goes on doing so until ctx ends. A program that embeds Cloakroom
// sets its own.
func tuneCollector(ctx context.Context, log *slog.Logger) {
	c := collectorFor(os.Getenv("GOGC"), os.Getenv("GOMEMLIMIT"), containerMemory(os.ReadFile), machineMemory(os.ReadFile))
	if !c.ours {
		log.Info("garbage collection as the runtime has it", "why", c.why)
		return
	}
	debug.SetGCPercent(seldom)
	debug.SetMemoryLimit(c.limit)
	log.Info("garbage is collected seldom", "headroom", fmt.Sprintf("%d MiB", headroom>>20), "memory_limit", fmt.Sprintf("%d MiB", c.limit>>20), "why", c.why)
	go followHeap(ctx)
}

// followHeap goes on choosing how often, as the heap grows and shrinks.
func followHeap(ctx context.Context) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for now := seldom; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(live)
		if next := percentFor(int64(live[0].Value.Uint64())); next != now { //nolint:gosec // bytes of a heap
			now = next
			debug.SetGCPercent(now)
		}
	}
}

type readFile = func(string) ([]byte, error)

// containerMemory is the smallest memory limit of our cgroup and those above it (version 2 or 1), 0 for none. A container
// sees its own cgroup as the root; a systemd service with MemoryMax= is somewhere below it.
func containerMemory(read readFile) int64 {
	smallest := int64(0)
	for _, g := range cgroups(read) {
		for dir := path.Clean("/" + g.path); ; dir = path.Dir(dir) {
			if n := limitIn(read, path.Join(g.mount, dir, g.file)); n > 0 && (smallest == 0 || n < smallest) {
				smallest = n
			}
			if dir == "/" {
				break
			}
		}
	}
	return smallest
}

// cgroup is where one hierarchy keeps the limit of our memory.
type cgroup struct{ mount, path, file string }

// cgroups are the hierarchies that count our memory. Where we are in them cannot always be told; their roots are
// looked at in any case.
func cgroups(read readFile) []cgroup {
	v2 := cgroup{"/sys/fs/cgroup", "/", "memory.max"}
	v1 := cgroup{"/sys/fs/cgroup/memory", "/", "memory.limit_in_bytes"}
	raw, _ := read("/proc/self/cgroup")
	for line := range strings.Lines(string(raw)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3) // hierarchy, controllers, path
		switch {
		case len(parts) < 3:
		case parts[0] == "0" && parts[1] == "":
			v2.path = parts[2]
		case slices.Contains(strings.Split(parts[1], ","), "memory"):
			v1.path = parts[2]
		}
	}
	return []cgroup{v2, v1}
}

// limitIn is the limit that a file holds, 0 for none.
func limitIn(read readFile, file string) int64 {
	raw, err := read(file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil || n <= 0 || n >= 1<<60 { // "max", or version 1's "no limit"
		return 0
	}
	return n
}

// machineMemory is all memory of the machine, 0 where it cannot be told.
func machineMemory(read readFile) int64 {
	raw, err := read("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "MemTotal:" && fields[2] == "kB" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil || n <= 0 || n > 1<<50 {
				return 0
			}
			return n << 10
		}
	}
	return 0
}
