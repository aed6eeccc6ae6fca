package main

import (
	"os"
	"strings"
	"testing"
)

func TestCollectorFor(t *testing.T) {
	for _, c := range []struct {
		name, gogc, limit  string
		container, machine int64
		want               collector
	}{
		{"GOGC is set", "100", "", 1 << 30, 1 << 34, collector{false, 0, "GOGC or GOMEMLIMIT is set"}},
		{"GOMEMLIMIT is set", "", "1GiB", 1 << 30, 1 << 34, collector{false, 0, "GOGC or GOMEMLIMIT is set"}},
		{"a container of 100 MB", "", "", 100_000_000, 1 << 34, collector{true, 80_000_000, "of the container's memory"}},
		{"a container that may take more than there is", "", "", 1 << 40, 1 << 34, collector{true, 1 << 33, "of the machine's memory"}},
		{"a machine of 16 GiB", "", "", 0, 1 << 34, collector{true, 1 << 33, "of the machine's memory"}},
		{"nothing is known", "", "", 0, 0, collector{false, 0, "how much memory there is cannot be told"}},
	} {
		if got := collectorFor(c.gogc, c.limit, c.container, c.machine); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestPercentFor(t *testing.T) {
	for live, want := range map[int64]int{0: 400, 10 << 20: 400, 64 << 20: 400, 128 << 20: 200, 256 << 20: 100, 10 << 30: 100} {
		if got := percentFor(live); got != want {
			t.Errorf("%d MiB live: %d percent, want %d", live>>20, got, want)
		}
	}
}

func TestMemoryThatIsThere(t *testing.T) {
	files := func(pairs ...string) readFile {
		return func(path string) ([]byte, error) {
			for i := 0; i+1 < len(pairs); i += 2 {
				if strings.HasSuffix(path, pairs[i]) {
					return []byte(pairs[i+1]), nil
				}
			}
			return nil, os.ErrNotExist
		}
	}
	for _, c := range []struct {
		name               string
		read               readFile
		container, machine int64
	}{
		{"cgroup 2", files("memory.max", "536870912\n", "meminfo", "MemTotal:       16000000 kB\nMemFree: 1 kB\n"), 512 << 20, 16000000 << 10},
		{"cgroup 2 without a limit", files("memory.max", "max\n"), 0, 0},
		{"cgroup 1", files("memory.limit_in_bytes", "1073741824\n"), 1 << 30, 0},
		{"cgroup 1 without a limit", files("memory.limit_in_bytes", "9223372036854771712\n"), 0, 0},
		{"a systemd service", files("self/cgroup", "0::/system.slice/cloakroom.service\n", "cgroup/system.slice/cloakroom.service/memory.max", "268435456\n", "cgroup/system.slice/memory.max", "max\n"), 256 << 20, 0},
		{"a slice that is smaller than its service", files("self/cgroup", "0::/small.slice/x.service\n", "cgroup/small.slice/x.service/memory.max", "268435456\n", "cgroup/small.slice/memory.max", "134217728\n"), 128 << 20, 0},
		{"a service under cgroup 1", files("self/cgroup", "7:cpu:/other\n4:memory,hugetlb:/a/b\n", "cgroup/memory/a/b/memory.limit_in_bytes", "1048576\n"), 1 << 20, 0},
		{"cgroup 1, seen from inside of a container", files("self/cgroup", "4:memory:/docker/0123\n", "cgroup/memory/memory.limit_in_bytes", "2097152\n"), 2 << 20, 0},
		{"a path above the root", files("self/cgroup", "0::/../../other\n", "fs/cgroup/memory.max", "4194304\n"), 4 << 20, 0},
		{"nonsense", files("self/cgroup", "x\n::\n", "memory.max", "-5", "meminfo", "MemTotal: x kB\n"), 0, 0},
		{"no such files", files(), 0, 0},
	} {
		if a, b := containerMemory(c.read), machineMemory(c.read); a != c.container || b != c.machine {
			t.Errorf("%s: %d and %d, want %d and %d", c.name, a, b, c.container, c.machine)
		}
	}
}
