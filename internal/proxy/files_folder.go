package proxy

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"
)

const (
	lookAgain   = time.Second // how old a look at a file or folder may be
	unsettled   = 2 * time.Second
	maxEntries  = 10_000
	maxMemory   = 32 << 20 // of one folder's files
	maxHeld     = 4 << 20  // larger files are read from disk each time
	minCompress = 1 << 10
)

var errChanged = errors.New("files: the file was written to while it was read")

type readSeeker = io.ReadSeeker

type fileReader interface {
	io.ReadSeeker
	Stat() (fs.FileInfo, error)
}

func newReader(b []byte) readSeeker { return bytes.NewReader(b) }

// folder is a folder of files. What it opens stays inside of it, whatever links lie there. Small files rest in
// memory; each file is looked at again once a second, and so is the folder itself, so that a deployment that puts
// another one in its place is noticed.
type folder struct {
	dir string

	mu    sync.RWMutex // for the two below
	root  *os.Root
	is    fs.FileInfo
	round atomic.Uint64 // counts the folders that were here
	look  atomic.Int64  // when the folder is looked at again, Unix nanoseconds

	entries  *otter.Cache[string, *entry]
	contents *otter.Cache[key, *content]
	loading  singleflight.Group
	packing  sync.Map // names that are being compressed
}

// entry is what is known about one name for a second.
type entry struct {
	kind      []string // the content type
	page      bool     // HTML
	document  bool     // a browser runs what is in it
	immutable bool
	varies    bool
	reps      []representation // the file itself first
	round     uint64
	until     time.Time
}

// representation is one way to send a file.
type representation struct {
	encoding string // "" for the file itself
	name     string // of what is read
	stamp    stamp
	size     int64
	made     bool // compressed by us
}

// key names what is kept of one representation.
type key struct {
	name string
	made bool
}

// content is what one representation holds.
type content struct {
	stamp  stamp
	round  uint64
	until  time.Time // zero once the file has settled
	size   int64
	body   []byte // nil if it is read from disk each time
	tag    []string
	length []string
	none   bool // compressing it gains nothing
}

// stamp tells one state of a file from another. Times alone do not: reproducible builds give every file the same.
type stamp struct {
	info fs.FileInfo
}

func (s stamp) is(info fs.FileInfo) bool {
	return s.info != nil && s.info.Size() == info.Size() && s.info.ModTime().Equal(info.ModTime()) &&
		changeTime(s.info).Equal(changeTime(info)) && os.SameFile(s.info, info)
}

// settled reports whether a further change would change the stamp: clocks of file systems are coarse.
func (s stamp) settled(now time.Time) bool {
	return now.Sub(s.info.ModTime()) > unsettled && now.Sub(changeTime(s.info)) > unsettled
}

func openFolder(dir string) (*folder, error) {
	root, is, err := openRoot(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{
		dir: dir, root: root, is: is,
		entries: otter.Must(&otter.Options[string, *entry]{MaximumSize: maxEntries}),
		contents: otter.Must(&otter.Options[key, *content]{
			MaximumWeight: maxMemory,
			Weigher:       func(_ key, c *content) uint32 { return uint32(512 + len(c.body)) }, //nolint:gosec // at most maxHeld
		}),
	}
	f.look.Store(time.Now().Add(lookAgain).UnixNano())
	return f, nil
}

func openRoot(dir string) (*os.Root, fs.FileInfo, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("files: %w", err)
	}
	is, err := root.Stat(".")
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("files: %w", err), root.Close())
	}
	if index, err := root.Stat("index.html"); err != nil || !index.Mode().IsRegular() {
		return nil, nil, errors.Join(fmt.Errorf("files: %s has no index.html", dir), root.Close())
	}
	return root, is, nil
}

func (f *folder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.root.Close()
}

// refresh looks once a second whether another folder is in this one's place. As long as that one is not whole (it has
// no index.html yet), the old one stays.
func (f *folder) refresh() {
	now := time.Now()
	if now.UnixNano() < f.look.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.UnixNano() < f.look.Load() {
		return
	}
	f.look.Store(now.Add(lookAgain).UnixNano())
	if is, err := os.Stat(f.dir); err != nil || os.SameFile(is, f.is) {
		return
	}
	root, is, err := openRoot(f.dir)
	if err != nil {
		return
	}
	_ = f.root.Close()
	f.root, f.is = root, is
	f.round.Add(1)
	f.entries.InvalidateAll()
	f.contents.InvalidateAll()
}

// stat is about a regular file; false if there is none. Whatever opens must ask first: opening a FIFO would wait for
// somebody to write to it.
func (f *folder) stat(name string) (fs.FileInfo, bool) {
	info, err := f.root.Stat(name)
	return info, err == nil && info.Mode().IsRegular()
}

// has reports whether there is such a file.
func (f *folder) has(name string) bool {
	_, ok := f.entry(name)
	return ok
}

// forget makes the next look a new one.
func (f *folder) forget(name string) { f.entries.Invalidate(name) }

// variants are the precompressed files that may lie beside one.
var variants = []struct{ encoding, suffix string }{{"zstd", ".zst"}, {"br", ".br"}, {"gzip", ".gz"}}

// staleAfter is how much older than its file a variant may be. A rebuild that leaves an old variant behind would
// otherwise go on being served; copying a folder does not take its files in order.
const staleAfter = time.Minute

// entry is what is known about a name; false if there is no such file.
func (f *folder) entry(name string) (*entry, bool) {
	if e, ok := f.entries.GetIfPresent(name); ok && e.round == f.round.Load() && time.Now().Before(e.until) {
		return e, true
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	info, ok := f.stat(name)
	if !ok {
		f.entries.Invalidate(name)
		return nil, false
	}
	e := &entry{
		round: f.round.Load(), until: time.Now().Add(lookAgain),
		kind: []string{typeOf(name)}, immutable: immutable(name),
		reps: []representation{{name: name, stamp: stamp{info}, size: info.Size()}},
	}
	e.page, e.document = pageOrDocument(e.kind[0])
	gzipped := false
	for _, v := range variants {
		packed, ok := f.stat(name + v.suffix)
		if !ok || packed.Size() >= info.Size() || packed.ModTime().Before(info.ModTime().Add(-staleAfter)) {
			continue
		}
		e.reps = append(e.reps, representation{encoding: v.encoding, name: name + v.suffix, stamp: stamp{packed}, size: packed.Size()})
		gzipped = gzipped || v.encoding == "gzip"
	}
	if !gzipped && compressible(e.kind[0]) && info.Size() >= minCompress && info.Size() <= maxHeld {
		// Its size is not known before it is made. Any variant that was made beforehand is smaller.
		e.reps = append(e.reps, representation{encoding: "gzip", name: name, stamp: stamp{info}, size: info.Size() - 1, made: true})
	}
	e.varies = len(e.reps) > 1
	f.entries.Set(name, e)
	return e, true
}

// choose picks the representation that the client likes best, of those the smallest.
func (f *folder) choose(e *entry, likes preferences) (*representation, *content, error) {
	best := likes.best(e.reps)
	if best.made {
		c, err := f.packed(best)
		if err != nil || c != nil {
			return best, c, err
		}
		best = &e.reps[0]
	}
	c, err := f.content(best)
	return best, c, err
}

// known content of a representation, if it still is that.
func (f *folder) known(rep *representation) (*content, bool) {
	c, ok := f.contents.GetIfPresent(key{rep.name, rep.made})
	if !ok || c.round != f.round.Load() || !c.stamp.is(rep.stamp.info) || !c.until.IsZero() && time.Now().After(c.until) {
		return nil, false
	}
	return c, true
}

// content is a representation's body, or its tag only if it is large. Many requests for one that is not known yet
// read it once.
func (f *folder) content(rep *representation) (*content, error) {
	if c, ok := f.known(rep); ok {
		return c, nil
	}
	got, err, _ := f.loading.Do(rep.name, func() (any, error) {
		if c, ok := f.known(rep); ok {
			return c, nil
		}
		return f.load(rep)
	})
	if err != nil {
		return nil, err
	}
	c := got.(*content)
	if !c.stamp.is(rep.stamp.info) {
		return nil, errChanged // somebody's look was older or newer than ours
	}
	return c, nil
}

// open opens what the look at the representation saw, and nothing else.
func (f *folder) open(name string, want stamp) (*os.File, uint64, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if _, ok := f.stat(name); !ok {
		return nil, 0, errChanged
	}
	file, err := f.root.Open(name)
	if err != nil {
		return nil, 0, fmt.Errorf("files: %w", err)
	}
	if info, err := file.Stat(); err != nil || !want.is(info) {
		_ = file.Close()
		return nil, 0, errChanged
	}
	return file, f.round.Load(), nil
}

// openAs opens a file whose content is known.
func (f *folder) openAs(rep *representation, c *content) (*os.File, error) {
	file, _, err := f.open(rep.name, c.stamp)
	return file, err
}

func (f *folder) load(rep *representation) (*content, error) {
	file, round, err := f.open(rep.name, rep.stamp)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	c := &content{stamp: rep.stamp, round: round, size: rep.size, length: decimal(rep.size)}
	guard := &steady{File: file, stamp: rep.stamp}
	sum := sha256.New()
	if rep.size <= maxHeld {
		c.body = make([]byte, rep.size)
		if _, err := io.ReadFull(guard, c.body); err != nil {
			return nil, fmt.Errorf("files: %w", err)
		}
		_, _ = sum.Write(c.body)
	} else if _, err := io.Copy(sum, guard); err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	c.tag = tagOf(sum.Sum(nil))
	f.keep(key{rep.name, false}, c)
	return c, nil
}

func tagOf(sum []byte) []string {
	return []string{`"` + base64.RawURLEncoding.EncodeToString(sum[:15]) + `"`}
}

func (f *folder) keep(k key, c *content) {
	if now := time.Now(); !c.stamp.settled(now) {
		c.until = now.Add(lookAgain)
	}
	f.contents.Set(k, c)
}

// packed is a file compressed by us. nil: it is not there, because it gains nothing or another request is at it.
func (f *folder) packed(rep *representation) (*content, error) {
	if c, ok := f.known(rep); ok {
		if c.none {
			return nil, nil
		}
		return c, nil
	}
	if _, busy := f.packing.LoadOrStore(rep.name, true); busy {
		return nil, nil
	}
	defer f.packing.Delete(rep.name)
	plain, err := f.content(&representation{name: rep.name, stamp: rep.stamp, size: rep.stamp.info.Size()})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(plain.body) // a buffer takes everything
	_ = z.Close()
	sum := sha256.Sum256(out.Bytes())
	c := &content{
		stamp: plain.stamp, round: plain.round, size: int64(out.Len()), body: bytes.Clone(out.Bytes()),
		tag: tagOf(sum[:]), length: decimal(int64(out.Len())),
	}
	if c.none = out.Len() >= len(plain.body); c.none {
		c.body = nil
	}
	f.keep(key{rep.name, true}, c)
	if c.none {
		return nil, nil
	}
	return c, nil
}

// immutable reports whether the file at this name never changes, because the name holds a hash of its content.
func immutable(name string) bool {
	if strings.HasPrefix(name, ".well-known/") || worker.MatchString(path.Base(name)) {
		return false
	}
	return hashedName(name)
}
