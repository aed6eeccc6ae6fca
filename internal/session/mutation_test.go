package session

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var mutate = flag.Bool("mutate", false, "run TestMutations: takes the guarantee's parts out, one by one, and wants the simulations to fail")

// mutations take one part of the guarantee out of the source. Each must make a simulation fail within a thousand seeds.
var mutations = []struct {
	part  string
	run   string // the test that must fail
	edits []edit
}{
	{"the lease", "TestSimulation$", []edit{
		{"lease.go", "return s.lease.Held && s.lease.Owner != s.owner && !s.alone && mono-s.seen < leaseTime", "return false"},
		{"lease.go", "if s.lease.Presenting && s.lease.Owner != s.owner && s.mayBeSpent() {", "if false {"},
	}},
	{"the presenting mark", "TestSimulation$", []edit{
		{"lease.go", "lease: lease{Owner: s.owner, Held: true, Presenting: true, Retried: s.doubt}", "lease: lease{Owner: s.owner, Held: true}"},
	}},
	{"the re-read before an end", "TestSimulation$", []edit{
		{"step.go", "	s.phase = checking\n	return s, []effect{{do: load}}\n", "	s.phase = over\n	return s, []effect{{do: end, reason: ReasonRefreshRejected}}\n"},
	}},
	{"the mark by compare-and-swap before an end", "TestSimulation$", []edit{
		{"step.go", "	return s, []effect{{do: mark, lease: lease{Owner: s.owner, Over: true}}}\n", "	s.phase = over\n	return s, []effect{{do: end, reason: s.verdict}}\n"},
	}},
	{"the merge by generation", "TestSimulation$", []edit{
		{"step.go", "case e.generation > s.generation:", "case e.version > s.version:"},
	}},
	{"saving before use", "TestSimulation$", []edit{
		{"step.go", "		return s, []effect{{do: save}}\n	case failed:", "		return s, []effect{{do: publish}, {do: save}}\n	case failed:"},
	}},
	{"keeping what could not be saved", "TestSimulation$", []edit{
		{"step.go", "	s.failures++\n	return s, []effect{{do: save, wait: min(backoff(s.failures, e.jitter), 5*time.Second)}}", "	s.phase = idle\n	return s, nil"},
	}},
	{"stopping before it is too late to send", "TestSimulation$", []edit{
		{"lease.go", "	until := e.began + leaseTime/2\n", "	until := e.began + 10*leaseTime\n"},
	}},
	{"the heartbeat", "TestManagerInABadWorld", []edit{
		{"flight.go", "stop := d.beat()", "stop := func() {}"},
		{"lease.go", "leaseTime = 40 * time.Second", "leaseTime = 12 * time.Second"},
	}},
	{"the detached context", "TestManagerInABadWorld", []edit{
		{"refresh.go", "		t, f, err := m.want(l, force)\n", "		lastContext.Store(&ctx)\n		t, f, err := m.want(l, force)\n"},
		{"refresh.go", "// waitTime is how", "var lastContext atomic.Pointer[context.Context]\n\n// waitTime is how"},
		{"refresh.go", "	\"errors\"\n", "	\"errors\"\n	\"sync/atomic\"\n"},
		{"flight.go", "ctx, cancel := context.WithTimeout(context.Background(), flightTime)", "ctx, cancel := context.WithTimeout(*lastContext.Load(), flightTime)"},
	}},
	{"one flight per session", "TestManagerInABadWorld", []edit{
		{"manager.go", "	if other := m.lives[o.record.ID].Value(); other != nil && !other.over.Load() {\n		return other\n	}\n", ""},
		{"manager.go", "	l := m.held(id)\n	if l != nil && l.over.Load() {", "	var l *Live\n	if l != nil && l.over.Load() {"},
		{"lease.go", "return s.lease.Held && s.lease.Owner != s.owner && !s.alone && mono-s.seen < leaseTime", "return false"},
		{"lease.go", "if s.lease.Presenting && s.lease.Owner != s.owner && s.mayBeSpent() {", "if false {"},
	}},
}

type edit struct{ file, from, to string }

// TestMutations: a simulation that cannot fail proves nothing.
func TestMutations(t *testing.T) {
	if !*mutate {
		t.Log("not asked for: go test ./internal/session -run TestMutations -mutate -timeout 30m")
		return
	}
	for _, m := range mutations {
		t.Run(m.part, func(t *testing.T) {
			out, err := mutated(t, m.edits, m.run)
			if strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]") {
				t.Fatalf("it does not build:\n%s", out)
			}
			if err == nil {
				t.Fatal("nothing failed without it")
			}
			for line := range strings.Lines(out) {
				if strings.Contains(line, "seed") || strings.Contains(line, "world_test.go") {
					t.Log(strings.TrimSpace(line))
					return
				}
			}
			t.Fatalf("it failed in another way:\n%s", out)
		})
	}
}

// mutated runs a test of this package with a changed source.
func mutated(t *testing.T, edits []edit, run string) (string, error) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range edits {
		text, ok := files[e.file]
		if !ok {
			raw, err := os.ReadFile(filepath.Join(here, e.file))
			if err != nil {
				t.Fatal(err)
			}
			text = string(raw)
		}
		if strings.Count(text, e.from) != 1 {
			t.Fatalf("%s does not have this once any more: %s", e.file, e.from)
		}
		files[e.file] = strings.Replace(text, e.from, e.to, 1)
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(here, name)] = path
	}
	raw, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-overlay", path, "-run", run, "-sim.seeds=1000", "-world.seeds=1000", ".")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
