package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// most is by how much a large body may grow the proxy's memory.
const most = 48 << 20

// stream is size bytes that nobody keeps, and their digest as far as they were read.
type stream struct {
	from   *rand.ChaCha8
	left   int64
	digest hash.Hash
}

func newStream(size int64) *stream {
	return &stream{rand.NewChaCha8([32]byte{7}), size, sha256.New()}
}

func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.left)]
	_, _ = s.from.Read(p)
	s.digest.Write(p)
	s.left -= int64(len(p))
	return len(p), nil
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// bodies is an upstream that takes and gives large bodies. It tells the digest of what it took, or gave as a trailer.
func bodies(w http.ResponseWriter, r *http.Request) {
	if r.Method == "PUT" {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		fmt.Fprintf(w, "%d %s %v", n, sum(h), err)
		return
	}
	size, _ := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
	s := newStream(size)
	if r.URL.Query().Has("length") {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Trailer", "Digest-Of-All")
	_, _ = io.CopyBuffer(struct{ io.Writer }{w}, s, make([]byte, 64<<10))
	w.Header().Set("Digest-Of-All", sum(s.digest))
}

// TestLargeBodies sends and fetches more than anybody may keep in memory.
func TestLargeBodies(t *testing.T) {
	size := int64(256 << 20)
	if long {
		size = 5 << 30
	}
	a := newAuthority(t)
	for _, upstream := range []string{"http", "standard", "https"} { // https: HTTP/2 there, too
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("h2=%t to %s", h2, upstream), func(t *testing.T) {
				address, connection := serveUpstream(t, upstream, a, http.HandlerFunc(bodies))
				f := startFront(t, secure, a, fmt.Sprintf("{path: /bodies, upstream: %q%s}", address, connection))
				client := f.client(h2)
				defer client.CloseIdleConnections()
				measure := func(what string, move func()) {
					grown, begun := f.watchMemory(t), time.Now()
					move()
					took, n := time.Since(begun), grown()
					t.Logf("%s of %s: memory grew by %s; %.0f MiB/s", what, mib(size), mib(n), float64(size)/(1<<20)/took.Seconds())
					if n >= most {
						t.Errorf("%s: the proxy's memory grew by %s", what, mib(n))
					}
				}
				measure("upload", func() { upload(t, f, client, size, size) })
				measure("download", func() { download(t, f, client, size, "&length") })
				const some = 8 << 20 // of a length that is not told before
				upload(t, f, client, some, -1)
				download(t, f, client, some, "")
			})
		}
	}
}

// upload sends size bytes and says before that they are length (-1 = does not say).
func upload(t *testing.T, f *front, client *http.Client, size, length int64) {
	t.Helper()
	s := newStream(size)
	req := f.request("PUT", "/bodies", io.NopCloser(s))
	req.ContentLength = length
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if want := fmt.Sprintf("%d %s <nil>", size, sum(s.digest)); err != nil || string(got) != want {
		t.Fatalf("the server took %q instead of %q, %v", got, want, err)
	}
}

func download(t *testing.T, f *front, client *http.Client, size int64, more string) {
	t.Helper()
	res, err := client.Do(f.request("GET", "/bodies?size="+strconv.FormatInt(size, 10)+more, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	checkDownload(t, res, size)
}

func checkDownload(t *testing.T, res *http.Response, size int64) {
	t.Helper()
	h := sha256.New()
	n, err := io.Copy(h, res.Body)
	if err != nil || n != size || res.StatusCode != 200 {
		t.Fatalf("%s, %d bytes instead of %d, %v", res.Status, n, size, err)
	}
	want := newStream(size)
	_, _ = io.Copy(io.Discard, want)
	if got := sum(h); got != sum(want.digest) {
		t.Errorf("digest %s instead of %s", got, sum(want.digest))
	}
	if trailer := res.Trailer.Get("Digest-Of-All"); trailer != "" && !strings.EqualFold(trailer, sum(h)) {
		t.Errorf("trailer %s instead of %s", trailer, sum(h))
	}
}
