package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxFile   = 256 << 10 // a configuration
	maxSecret = 64 << 10  // a file that ${file:PATH} names
)

// Lookup is where ${env:NAME} and ${file:PATH} are read. A nil function reads the process's own environment and
// file system.
type Lookup struct {
	// Env returns an environment variable and whether it is set.
	Env func(name string) (string, bool)
	// File returns the content of a file; the path is complete. More than 64 KiB is an error of the caller's.
	File func(path string) ([]byte, error)
}

// Load reads and checks a configuration file. The result has its defaults. The error is [Problems] with all
// mistakes at their positions, or says why the file could not be read.
func Load(path string) (Config, error) {
	data, err := readBounded(path, maxFile)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	return Parse(path, data, Lookup{})
}

// Parse is Load for a text that is read already. name is the file's name for positions, and relative paths begin
// in its directory.
func Parse(name string, data []byte, lookup Lookup) (Config, error) {
	if lookup.Env == nil {
		lookup.Env = os.LookupEnv
	}
	if lookup.File == nil {
		lookup.File = func(path string) ([]byte, error) { return readBounded(path, maxSecret) }
	}
	var c Config
	d := newDecoder(name, lookup)
	if d.decode(data, &c) {
		c.fileDefaults(d.at)
		c.resolve(d.dir)
		c = c.WithDefaults()
		var found Problems
		c.check(at{to: &found})
		d.add(found)
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Problem) int {
			return cmp.Or(a.Pos.Line-b.Pos.Line, a.Pos.Column-b.Pos.Column)
		})
		return Config{}, d.problems
	}
	return c, nil
}

// errTooBig says that a file is longer than any that is meant.
var errTooBig = errors.New("the file is too big")

func readBounded(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s: %w: at most %d bytes", path, errTooBig, most)
	}
	return data, err
}

// fileDefaults sets the defaults that only a file has: keys that are not in it at all.
func (c *Config) fileDefaults(written map[string]Position) {
	for _, f := range []struct {
		path  string
		field *string
		value string
	}{{"listen", &c.Listen, defaultListen}, {"admin.listen", &c.Admin.Listen, defaultAdminListen}, {"store", &c.Store, defaultStore}} {
		if _, ok := written[f.path]; !ok {
			*f.field = f.value
		}
	}
}

// resolve makes relative paths relative to dir.
func (c *Config) resolve(dir string) {
	from := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	if c.TLS != nil {
		from(&c.TLS.CertFile)
		from(&c.TLS.KeyFile)
	}
	if path, ok := strings.CutPrefix(c.Store, "file:"); ok && !strings.HasPrefix(path, "//") {
		from(&path)
		c.Store = "file:" + path
	}
	if path, ok := c.Verify.Socket(); ok {
		from(&path)
		c.Verify.Listen = "unix:" + path
	}
	for i := range c.Frontends {
		from(&c.Frontends[i].Page.Logo)
		from(&c.Frontends[i].Page.Style)
		for j := range c.Frontends[i].Routes {
			from(&c.Frontends[i].Routes[j].Files)
			if connection := c.Frontends[i].Routes[j].Connection; connection != nil {
				from(&connection.CAFile)
				from(&connection.CertFile)
				from(&connection.KeyFile)
			}
		}
	}
}
