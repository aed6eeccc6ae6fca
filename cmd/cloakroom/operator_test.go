package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom/cloakroom/config"
	"github.com/cloakroom/cloakroom/internal/testserver"
)

// command runs the command in this process.
func command(args ...string) (code int, stdout, stderr string) {
	var out, errs strings.Builder
	code = run(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// must runs the command and expects it to be fine.
func must(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := command(args...)
	if code != exitFine {
		t.Fatalf("cloakroom %s: exit %d: %s", strings.Join(args, " "), code, errs)
	}
	return out
}

// refuses runs the command and expects it to fail in one line with these words.
func refuses(t *testing.T, code int, words string, args ...string) {
	t.Helper()
	got, out, errs := command(args...)
	if got != code || out != "" || !strings.Contains(errs, words) || strings.Count(errs, "\n") != 1 {
		t.Errorf("cloakroom %s: exit %d, %q %q; want %d and %q", strings.Join(args, " "), got, out, errs, code, words)
	}
}

func (p *process) admin() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return "http://" + p.addr["admin"]
}

// stop ends a server in an orderly way.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatalf("draining: %v", err)
	}
}

func TestSessionsOfARealServer(t *testing.T) {
	port := freePort(t)
	w := newWorld(t, "listen: 127.0.0.1:"+port, "http://127.0.0.1:"+port)
	p := serveProcess(t, "serve", "--config", w.file)
	tokenFile := filepath.Join(w.dir, "sessions.db.admin-token")
	at := []string{"--admin", p.admin(), "--token-file", tokenFile}
	sessions := func(args ...string) string { return must(t, append(append([]string{"sessions"}, args...), at...)...) }
	cookies := []string{login(t, http.DefaultClient, w.url), login(t, http.DefaultClient, w.url), login(t, http.DefaultClient, w.url)}
	table := sessions("list")
	if lines := strings.Split(strings.TrimSpace(table), "\n"); len(lines) != 4 || !strings.HasPrefix(lines[0], "ID ") || !strings.Contains(lines[1], "Ann") {
		t.Errorf("%s", table)
	}
	var ids []string
	var one row
	for line := range strings.SplitSeq(strings.TrimSpace(sessions("list", "--json")), "\n") {
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, one.ID)
	}
	if len(ids) != 3 || one.Frontend != w.url || one.Provider != "main" || one.Subject == "" {
		t.Fatalf("%v %+v", ids, one)
	}
	code, _, errs := command(append([]string{"sessions", "list", "--limit", "2"}, at...)...)
	if code != 0 || !strings.Contains(errs, "--limit 0 lists all") {
		t.Errorf("%d %s", code, errs)
	}
	if out := sessions("list", "--idle-for", "1h"); strings.Count(out, "\n") != 1 {
		t.Errorf("%s", out)
	}
	if out := sessions("show", ids[0]); !strings.Contains(out, ids[0]) || !strings.Contains(out, `"name":"Ann"`) {
		t.Errorf("%s", out)
	}
	if out := sessions("show", "--json", ids[0]); !json.Valid([]byte(out)) {
		t.Errorf("%s", out)
	}
	if out := sessions("end", ids[0]); out != "ended 1 session\n" {
		t.Errorf("%s", out)
	}
	refuses(t, exitFail, "not_found: There is no session with this id", append([]string{"sessions", "end", ids[0]}, at...)...)
	refuses(t, exitFail, "not_found", append([]string{"sessions", "show", "../keys"}, at...)...)
	alive := 0
	for _, c := range cookies {
		if call(t, http.DefaultClient, w.url, c) == 200 {
			alive++
		}
	}
	if alive != 2 {
		t.Errorf("%d sessions live", alive)
	}
	if out := sessions("end", "--provider", "main", "--subject", "nobody", "--json"); out != "{\"ended\":0}\n" {
		t.Errorf("%s", out)
	}
	if out := sessions("end", "--provider", "main", "--subject", one.Subject); out != "ended 2 sessions\n" {
		t.Errorf("%s", out)
	}
	login(t, http.DefaultClient, w.url)
	if out := sessions("end", "--all"); out != "ended 1 session\n" {
		t.Errorf("%s", out)
	}
	wrong := filepath.Join(w.dir, "wrong")
	if err := os.WriteFile(wrong, []byte("wrong-token-of-somebody"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, exitFail, "token_required", "sessions", "list", "--admin", p.admin(), "--token-file", wrong)
	refuses(t, exitFail, "session_required", "sessions", "list", "--admin", w.url, "--token-file", wrong)
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	if log := p.output(); !strings.Contains(log, tokenFile) || strings.Contains(log, strings.TrimSpace(string(token))) {
		t.Error("the log holds the token, or not where it is")
	}
}

// TestKeysOfARealServer goes through a rotation with the embedded store, whose one replica is restarted.
func TestKeysOfARealServer(t *testing.T) {
	port := freePort(t)
	w := newWorld(t, "listen: 127.0.0.1:"+port, "http://127.0.0.1:"+port)
	p := serveProcess(t, "serve", "--config", w.file)
	var cookies []string
	for range 3 {
		cookies = append(cookies, login(t, http.DefaultClient, w.url))
	}
	at := func() []string {
		return []string{"--config", w.file, "--admin", p.admin(), "--token-file", filepath.Join(w.dir, "sessions.db.admin-token")}
	}
	keys := func(args ...string) []string { return append(append([]string{"keys"}, args...), at()...) }
	restart := func() {
		p.stop(t)
		p = serveProcess(t, "serve", "--config", w.file)
		for i, c := range cookies {
			if status := call(t, http.DefaultClient, w.url, c); status != 200 {
				t.Errorf("session %d: %d", i, status)
			}
		}
	}
	// The first announcement may be a moment behind the listeners.
	waitUntil(t, func() bool { return strings.Contains(must(t, keys("list")...), "live") })
	if out := must(t, keys("rotate")...); !strings.Contains(out, "does not seal yet") {
		t.Errorf("%s", out)
	}
	refuses(t, exitFail, "does not have the key", keys("rotate", "--promote")...)
	if out := must(t, keys("retire")...); !strings.Contains(out, "took the key") { // it is in use nowhere: a change of mind
		t.Errorf("%s", out)
	}
	must(t, keys("rotate")...)
	restart()
	waitUntil(t, func() bool { return strings.Contains(must(t, keys("list")...), "live") })
	if out := must(t, keys("rotate", "--promote")...); !strings.Contains(out, "is the first in") {
		t.Errorf("%s", out)
	}
	refuses(t, exitFail, "does not seal with", keys("retire")...)
	restart()
	waitUntil(t, func() bool { return strings.Contains(must(t, keys("list")...), "live") })
	refuses(t, exitFail, "seals or has sealed already", keys("rotate", "--promote")...)
	// The background rewraps at the start; whoever does it, nothing names the old key in the end.
	must(t, keys("rewrap")...)
	waitUntil(t, func() bool {
		_, _, errs := command(keys("retire")...)
		return strings.Contains(errs, "until a short while ago")
	})
	for i, c := range cookies {
		if status := call(t, http.DefaultClient, w.url, c); status != 200 {
			t.Errorf("session %d: %d", i, status)
		}
	}
	if log := p.output(); !strings.Contains(log, `"audit":"key_ring"`) {
		t.Error("the log does not say which keys are in use")
	}
}

func waitUntil(t *testing.T, seen func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !seen(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to be")
		}
		<-time.After(20 * time.Millisecond)
	}
}

// TestKeyFileChanges plays what the admin listener may say and looks at what becomes of the file.
func TestKeyFileChanges(t *testing.T) {
	older, newer := config.NewKey(), config.NewKey()
	names, err := namesOf([]config.Secret{older, newer})
	if err != nil {
		t.Fatal(err)
	}
	o, n := names[0], names[1]
	type replica = map[string]any
	live := func(keys ...string) replica {
		return replica{"id": "R", "keys": keys, "state": "live", "seen_at": time.Now()}
	}
	use := func(name string, records, sealers int) map[string]any {
		return map[string]any{"name": name, "known": true, "records": records, "sealers": sealers}
	}
	type answer struct {
		keys     []map[string]any
		replicas []replica
	}
	for _, tc := range []struct {
		name, command string
		file          []config.Secret
		answer        answer
		code          int
		words         string
		want          []config.Secret // nil = as it was
	}{
		{"promote", "rotate --promote", []config.Secret{older, newer}, answer{[]map[string]any{use(o, 9, 2), use(n, 0, 0)}, []replica{live(o, n), live(o, n)}}, 0, "it seals from", []config.Secret{newer, older}},
		{"promote before it is everywhere", "rotate --promote", []config.Secret{older, newer}, answer{[]map[string]any{use(o, 9, 2), use(n, 0, 0)}, []replica{live(o, n), live(o)}}, 1, "does not have the key " + n, nil},
		{"promote beside one that ended", "rotate --promote", []config.Secret{older, newer}, answer{[]map[string]any{use(o, 9, 2)}, []replica{live(o, n), {"id": "E", "keys": []string{o}, "state": "ended"}}}, 0, "it seals from", []config.Secret{newer, older}},
		{"promote twice", "rotate --promote", []config.Secret{newer, older}, answer{[]map[string]any{use(n, 1, 2), use(o, 9, 0)}, []replica{live(n, o)}}, 1, "older one", nil},
		{"promote twice, nothing left", "rotate --promote", []config.Secret{newer, older}, answer{[]map[string]any{use(n, 1, 2), use(o, 0, 1)}, []replica{live(n, o)}}, 1, "older one", nil},
		{"promote with nobody there", "rotate --promote", []config.Secret{older, newer}, answer{[]map[string]any{use(o, 9, 0)}, nil}, 1, "no replica has announced itself", nil},
		{"retire", "retire", []config.Secret{newer, older}, answer{[]map[string]any{use(n, 9, 2), use(o, 0, 0)}, []replica{live(n, o)}}, 0, "took the key " + o, []config.Secret{newer}},
		{"retire what records name", "retire", []config.Secret{newer, older}, answer{[]map[string]any{use(n, 9, 2), use(o, 1, 0)}, []replica{live(n, o)}}, 1, "1 records name the key " + o, nil},
		{"retire what sealed lately", "retire", []config.Secret{newer, older}, answer{[]map[string]any{use(n, 9, 2), use(o, 0, 1)}, []replica{live(n, o)}}, 1, "a short while ago", nil},
		{"retire before a restart", "retire", []config.Secret{newer, older}, answer{[]map[string]any{use(n, 0, 0), use(o, 0, 0)}, []replica{live(n, o), live(o, n)}}, 1, "does not seal with " + n, nil},
		{"retire before the promotion", "retire", []config.Secret{older, newer}, answer{[]map[string]any{use(o, 9, 1), use(n, 0, 0)}, []replica{live(n, o)}}, 1, "does not seal with " + o, nil},
		{"retire with nobody there", "retire", []config.Secret{newer, older}, answer{nil, nil}, 1, "no replica has announced itself", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/keys" || r.Header.Get("Authorization") != "Bearer operator-token-canary" {
					w.WriteHeader(401)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(map[string]any{"keys": tc.answer.keys, "replicas": tc.answer.replicas})
			}))
			defer server.Close()
			file, token := filepath.Join(dir, "key"), filepath.Join(dir, "token")
			if err := os.WriteFile(token, []byte("operator-token-canary\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := config.WriteKeyFile(file, tc.file); err != nil {
				t.Fatal(err)
			}
			args := append([]string{"keys"}, strings.Fields(tc.command)...)
			code, out, errs := command(append(args, "--file", file, "--admin", server.URL, "--token-file", token)...)
			if code != tc.code || !strings.Contains(out+errs, tc.words) {
				t.Errorf("exit %d: %s%s", code, out, errs)
			}
			want := tc.want
			if want == nil {
				want = tc.file
			}
			got, err := config.KeyFile(file)
			if err != nil || fmt.Sprint(reveal(got)) != fmt.Sprint(reveal(want)) {
				t.Errorf("the file holds other keys: %d, %v", len(got), err)
			}
			for _, k := range tc.file {
				if strings.Contains(out+errs, k.Reveal()) {
					t.Error("a key was printed")
				}
			}
		})
	}
}

func reveal(keys []config.Secret) (list []string) {
	for _, k := range keys {
		list = append(list, k.Reveal())
	}
	return list
}

// What strangers call themselves does not reach a terminal as a command to it.
func TestPlain(t *testing.T) {
	if got := plain("a\x1b[2Jb\nc\u202ed\u009bé"); got != "a?[2Jb?c?d?é" {
		t.Errorf("%q", got)
	}
}

func TestAdminURL(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:9080": "http://127.0.0.1:9080", ":9080": "http://127.0.0.1:9080", "0.0.0.0:9080": "http://127.0.0.1:9080",
		"[::]:9080": "http://127.0.0.1:9080", "[::1]:9080": "http://[::1]:9080", "admin.example:9080": "http://admin.example:9080",
		"": "", "127.0.0.1:0": "",
	} {
		if got, err := adminURL(listen); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q %v", listen, got, err)
		}
	}
}

// moved is a server whose store is copied: its world, and the sessions that it had.
type moved struct {
	world
	port    string
	cookies []string
}

func newMoved(t *testing.T) moved {
	t.Helper()
	port := freePort(t)
	m := moved{world: newWorld(t, "listen: 127.0.0.1:"+port, "http://127.0.0.1:"+port), port: port}
	p := serveProcess(t, "serve", "--config", m.file)
	for range 5 {
		m.cookies = append(m.cookies, login(t, http.DefaultClient, m.url))
	}
	refuses(t, exitFail, "in use by another process", "store", "copy", m.store(), "file:"+filepath.Join(m.dir, "other.db"), "--config", m.file)
	p.stop(t)
	return m
}

func (m moved) store() string { return "file:" + filepath.Join(m.dir, "sessions.db") }

// use changes the configuration's store, and its keys if there are some.
func (m moved) use(t *testing.T, store string, keys ...config.Secret) {
	t.Helper()
	text, err := os.ReadFile(m.file)
	if err != nil {
		t.Fatal(err)
	}
	setting := "store: " + store
	if len(keys) > 0 {
		setting += fmt.Sprintf("\nkeys: [%q]", strings.Join(reveal(keys), "\n"))
	}
	m.write(t, strings.Replace(string(text), "store: file:sessions.db", setting, 1))
}

// serves starts a server and looks whether every session is there.
func (m moved) serves(t *testing.T) {
	t.Helper()
	p := serveProcess(t, "serve", "--config", m.file)
	for i, c := range m.cookies {
		if status := call(t, http.DefaultClient, m.url, c); status != 200 {
			t.Errorf("session %d: %d", i, status)
		}
	}
	p.stop(t)
}

func TestCopyFileToFile(t *testing.T) {
	m := newMoved(t)
	to := "file:" + filepath.Join(m.dir, "other.db")
	args := []string{"store", "copy", m.store(), to, "--config", m.file}
	if out := must(t, append(args, "--dry-run")...); out != "would copy: 5 new, 0 updated, 0 there already, 0 ended meanwhile, 0 logout marks\n" {
		t.Errorf("%s", out)
	}
	for _, name := range []string{"other.db", "other.db.key"} {
		if _, err := os.Stat(filepath.Join(m.dir, name)); err == nil {
			t.Errorf("a dry run made %s", name)
		}
	}
	for _, want := range []string{"copied: 5 new, 0 updated, 0 there already", "copied: 0 new, 0 updated, 5 there already"} {
		if out := must(t, args...); !strings.HasPrefix(out, want) {
			t.Errorf("%s", out)
		}
	}
	m.use(t, "file:other.db")
	m.serves(t) // under the key beside the new file, which the copy has made
}

func TestCopyFileToASharedStore(t *testing.T) {
	t.Run("redis", func(t *testing.T) { copyAndBack(t, "redis://"+testserver.Redis(t).Addr) })
	t.Run("postgres", func(t *testing.T) {
		copyAndBack(t, "postgres://postgres@"+testserver.Postgres(t).Addr+"/postgres?sslmode=disable")
	})
}

func copyAndBack(t *testing.T, to string) {
	t.Helper()
	m := newMoved(t)
	key := config.NewKey()
	m.use(t, to, key)
	args := []string{"store", "copy", m.store(), to, "--config", m.file}
	if out := must(t, args...); !strings.HasPrefix(out, "copied: 5 new") {
		t.Errorf("%s", out)
	}
	m.serves(t) // its ring has the new key alone
	// A server has used the store meanwhile: it ended in order, and what it touched is no less the same.
	if out := must(t, args...); !strings.HasPrefix(out, "copied: 0 new, 0 updated, 5 there already") {
		t.Errorf("%s", out)
	}
	// And back.
	back := "file:" + filepath.Join(m.dir, "back.db")
	if out := must(t, "store", "copy", to, back, "--config", m.file); !strings.HasPrefix(out, "copied: 5 new") {
		t.Errorf("%s", out)
	}
	p := serveProcess(t, "serve", "--config", m.file)
	defer p.stop(t)
	waitUntil(t, func() bool {
		code, _, errs := command("store", "copy", m.store(), to, "--config", m.file)
		return code == exitFail && strings.Contains(errs, "a server uses the store")
	})
}

func TestExitCodesOfTheOperatorsCommands(t *testing.T) {
	for _, args := range []string{
		"sessions", "sessions show", "sessions end", "sessions end a b", "sessions end --all x", "sessions list --limit -1", "sessions list --limit x",
		"sessions list --admin http://127.0.0.1:1", "sessions list --sid x", "keys rotate extra", "keys", "store", "store copy a", "store copy file:a file:a",
	} {
		if code, _, errs := command(strings.Fields(args)...); code != exitUsage || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit %d, %q", args, code, errs)
		}
	}
	refuses(t, exitUsage, "which ones?", "sessions", "end")
}

// A token that cannot be kept closes the API, and the server goes on.
func TestAdminToken(t *testing.T) {
	dir := t.TempDir()
	var said strings.Builder
	log := newLog(config.Log{}, &said)
	listen := config.Admin{Listen: "admin.example:9080"}
	shared := config.Config{Store: "redis://127.0.0.1:6379", Admin: listen}
	made := withAdmin(shared, filepath.Join(dir, "c.yaml"), log)
	data, err := os.ReadFile(filepath.Join(dir, "c.yaml.admin-token"))
	if err != nil || made.Admin.Token.Reveal() != strings.TrimSpace(string(data)) || !strings.Contains(said.String(), "c.yaml.admin-token") {
		t.Errorf("%v %s", err, said.String())
	}
	if len(made.Admin.Hosts) != 1 || made.Admin.Hosts[0] != "admin.example" {
		t.Errorf("%v", made.Admin.Hosts)
	}
	if strings.Contains(said.String(), made.Admin.Token.Reveal()) {
		t.Error("the token was logged")
	}
	own := shared
	own.Admin.Token = config.NewSecret("a-token-of-the-configuration")
	if got := withAdmin(own, filepath.Join(dir, "d.yaml"), log); got.Admin.Token.Reveal() != "a-token-of-the-configuration" {
		t.Error("the configuration's token was not used")
	}
	if _, err := os.Stat(filepath.Join(dir, "d.yaml.admin-token")); err == nil {
		t.Error("a token was made that nobody needs")
	}
	said.Reset()
	if got := withAdmin(shared, filepath.Join(dir, "none", "c.yaml"), log); !got.Admin.Token.Empty() || !strings.Contains(said.String(), "is closed") {
		t.Errorf("%s", said.String())
	}
	shared.Admin.Listen = ""
	if got := withAdmin(shared, filepath.Join(dir, "e.yaml"), log); !got.Admin.Token.Empty() {
		t.Error("a token without a listener")
	}
	if got := tokenPath(config.Config{Store: "file:/var/lib/s.db"}, "c.yaml"); got != "/var/lib/s.db.admin-token" {
		t.Error(got)
	}
}
