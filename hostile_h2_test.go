package cloakroom_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// framer is a client of HTTP/2 that writes the frames it is told to, right or wrong.
type framer struct {
	*http2.Framer
	t      testing.TB
	conn   net.Conn
	head   bytes.Buffer
	enc    *hpack.Encoder
	stream uint32
}

func (h *hostileRig) framer(settings ...http2.Setting) *framer {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	f := &framer{Framer: http2.NewFramer(c, c), t: h.t, conn: c, stream: ^uint32(0)}
	f.AllowIllegalWrites = true
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.enc = hpack.NewEncoder(&f.head)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		h.t.Fatal(err)
	}
	if err := f.WriteSettings(settings...); err != nil {
		h.t.Fatal(err)
	}
	return f
}

type field struct{ name, value string }

func (h *hostileRig) fields(target string, more ...field) []field {
	return append([]field{{":method", "GET"}, {":scheme", "http"}, {":authority", h.host}, {":path", target}}, more...)
}

func (f *framer) block(fields []field) []byte {
	f.head.Reset()
	for _, x := range fields {
		_ = f.enc.WriteField(hpack.HeaderField{Name: x.name, Value: x.value})
	}
	return slices.Clone(f.head.Bytes())
}

// send begins a stream with these fields, in frames of at most 16 kB.
func (f *framer) send(fields []field, end bool) uint32 {
	f.stream += 2
	block := f.block(fields)
	first := block[:min(len(block), 16<<10)]
	block = block[len(first):]
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.stream, BlockFragment: first, EndStream: end, EndHeaders: len(block) == 0})
	for len(block) > 0 {
		part := block[:min(len(block), 16<<10)]
		block = block[len(part):]
		_ = f.WriteContinuation(f.stream, len(block) == 0, part)
	}
	return f.stream
}

var errStreamReset = errors.New("the stream was reset")

// wait reads until the stream has an answer, was reset, or the connection is over.
func (f *framer) wait(stream uint32) (status int, err error) {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return 0, err
		}
		switch x := frame.(type) {
		case *http2.MetaHeadersFrame:
			if x.StreamID == stream {
				return strconv.Atoi(x.PseudoValue("status"))
			}
		case *http2.RSTStreamFrame:
			if x.StreamID == stream {
				return 0, errStreamReset
			}
		case *http2.SettingsFrame:
			if !x.IsAck() {
				_ = f.WriteSettingsAck()
			}
		}
	}
}

// alive checks that another client is served.
func (h *hostileRig) alive() {
	h.t.Helper()
	res, body := h.talker().say("GET /public/alive HTTP/1.1\r\nHost: " + h.host + "\r\n\r\n")
	if res == nil || res.StatusCode != 200 || body != "ok" {
		h.t.Errorf("another client is not served: %v", res)
	}
	h.up.take()
}

// TestHostilePathsOverHTTP2 is TestHostilePaths with :path, where a parser of lines does not look first.
func TestHostilePathsOverHTTP2(t *testing.T) {
	eachTransport(t, func(t *testing.T, h *hostileRig) {
		f := h.framer()
		forwarded, refused := 0, 0
		paths := append(hostilePaths(), "/public/a b", "/public/?a b", "/public/? HTTP/1.1\r\nX-A: b", "/public/? HTTP/1.1", "/public/?\ta", "/public/x HTTP/1.1\r\nHost: y\r\n\r\nGET /admin/", "http://"+h.host+"/admin/x")
		for i, p := range paths {
			if i%2 == 1 && len(paths)-i > 200 {
				continue
			}
			stream := f.send(h.fields(p), true)
			status, err := f.wait(stream)
			got, bad := h.up.take()
			switch {
			case len(bad) > 0:
				t.Errorf("%q: the upstream was sent what is no request: %q", p, bad)
			case err != nil && !errors.Is(err, errStreamReset):
				f = h.framer() // a fault of the connection
				refused++
			case len(got) == 0 && (err != nil || slices.Contains(refusals, status)):
				refused++
			case len(got) == 1 && status == 200:
				forwarded++
				_, rest, _ := strings.Cut(got[0], " ")
				if seen, _, _ := strings.Cut(rest, " "); seen != p || behind(seen) {
					t.Errorf("%q was sent, %q reached the upstream", p, seen)
				}
			default:
				t.Errorf("%q: %d, %d requests reached the upstream", p, status, len(got))
			}
		}
		if forwarded < 20 || refused < 1000 {
			t.Errorf("%d forwarded, %d refused: this tests nothing", forwarded, refused)
		}
		t.Logf("%d forwarded, %d refused", forwarded, refused)
	})
}

// TestHostileHeadersOverHTTP2 sends what cannot be written in HTTP/1.1, or would be something else there.
func TestHostileHeadersOverHTTP2(t *testing.T) {
	eachTransport(t, func(t *testing.T, h *hostileRig) {
		name, value, _ := strings.Cut(h.ticket, "=")
		plain := h.fields("/public/x")
		without := func(drop string) []field {
			return slices.DeleteFunc(slices.Clone(plain), func(f field) bool { return f.name == drop })
		}
		with := func(more ...field) []field { return append(slices.Clone(plain), more...) }
		swap := func(name, value string) []field { return append([]field{{name, value}}, without(name)...) }
		cases := map[string]struct {
			fields []field
			served bool // may be; what is not is refused or reset
		}{
			"plain": {plain, true}, "no method": {without(":method"), false}, "no path": {without(":path"), false}, "no scheme": {without(":scheme"), false},
			"no authority": {without(":authority"), false}, "two methods": {with(field{":method", "POST"}), false}, "two paths": {append([]field{{":path", "/admin/x"}}, plain...), false},
			"two authorities": {append([]field{{":authority", "evil.example"}}, plain...), false}, "late pseudo header": {with(field{"a", "b"}, field{":path", "/admin/x"}), false},
			"unknown pseudo header": {append([]field{{":evil", "x"}}, plain...), false}, "status": {append([]field{{":status", "200"}}, plain...), false},
			"upper-case name": {with(field{"X-A", "b"}), false}, "empty name": {with(field{"", "b"}), false}, "name with space": {with(field{"x a", "b"}), false},
			"name with colon": {with(field{"x:a", "b"}), false}, "name with CRLF": {with(field{"x-a: b\r\nx-forwarded-user", planted}), false},
			"value with CRLF": {with(field{"x-a", "b\r\nX-Forwarded-User: " + planted}), false}, "value with NUL": {with(field{"x-a", "b\x00"}), false}, "value with LF": {with(field{"x-a", "b\nx: y"}), false},
			"connection": {with(field{"connection", "close"}), false}, "transfer-encoding": {with(field{"transfer-encoding", "chunked"}), false}, "upgrade": {with(field{"upgrade", "h2c"}), false},
			"keep-alive": {with(field{"keep-alive", "x"}), false}, "proxy-connection": {with(field{"proxy-connection", "x"}), false}, "te chunked": {with(field{"te", "chunked"}), false}, "te trailers": {with(field{"te", "trailers"}), true},
			"host beside authority": {with(field{"host", "evil.example"}), true}, "host alone": {append(without(":authority"), field{"host", h.host}), true}, "authority of another": {swap(":authority", "evil.example"), false},
			"authority with user": {swap(":authority", "u@"+h.host), false}, "authority with path": {swap(":authority", h.host+"/admin"), false}, "authority with space": {swap(":authority", h.host+" x"), false},
			"method with space": {swap(":method", "GET /admin/x HTTP/1.1"), false}, "method with CRLF": {swap(":method", "GET /admin/x HTTP/1.1\r\nX: y\r\n\r\nGET"), false}, "method empty": {swap(":method", ""), false},
			"method with colon": {swap(":method", "GET:"), false}, "method not ASCII": {swap(":method", "GÉT"), false}, "CONNECT": {swap(":method", "CONNECT"), false}, "TRACE": {swap(":method", "TRACE"), false},
			"scheme https": {swap(":scheme", "https"), true}, "scheme javascript": {swap(":scheme", "javascript"), false}, "scheme with slash": {swap(":scheme", "http://x/?"), false},
			"websocket by protocol": {append([]field{{":protocol", "websocket"}}, swap(":method", "CONNECT")...), false}, "protocol on GET": {append([]field{{":protocol", "websocket"}}, plain...), false},
			"cookies apart": {with(field{"cookie", "a=1"}, field{"cookie", name + "=" + value}, field{"cookie", "b=2"}, field{"sec-fetch-site", "same-origin"}), true},
			// The length of what comes is what counts: no length goes on.
			"content-length without body": {with(field{"content-length", "10"}), true},
			"content-length twice":        {with(field{"content-length", "0"}, field{"content-length", "1"}), true}, "content-length +0": {with(field{"content-length", "+0"}), true}, "expect": {with(field{"expect", "100-continue"}), true},
			"header of 100 kB": {with(field{"x-a", strings.Repeat("a", 100<<10)}), false}, "cookie of 64 kB": {with(field{"cookie", "a=" + strings.Repeat("a", 64<<10)}), false},
			"identity": {with(field{"x-forwarded-user", planted}, field{"x_forwarded_user", planted}, field{"x.real.ip", planted}, field{"cookie2", planted}, field{"transfer_encoding", planted}, field{"content_length", planted}), true},
		}
		for what, tc := range cases {
			f := h.framer()
			status, err := f.wait(f.send(tc.fields, true))
			got, bad := h.up.take()
			if len(bad) > 0 || len(got) > 1 {
				t.Errorf("%s: the upstream was sent %q and %q", what, got, bad)
			}
			for _, raw := range got {
				if !tc.served || !strings.HasPrefix(raw, "GET /public/x HTTP/1.1\r\n") || strings.Contains(raw, planted) || strings.Contains(raw, value) || strings.Contains(raw, "Content-Length") || strings.Contains(raw, "evil.example") {
					t.Errorf("%s: %q reached the upstream", what, raw)
				}
				if what == "cookies apart" && !strings.Contains(raw, "\r\nCookie: a=1; b=2\r\n") {
					t.Errorf("%s: %q", what, raw)
				}
			}
			if tc.served != (status == 200) || err == nil && status >= 500 && status != 501 {
				t.Errorf("%s: %d %v", what, status, err)
			}
		}
		// Trailers of a request, with everything that a header may not say.
		f := h.framer()
		stream := f.send(append([]field{{":method", "POST"}}, append(without(":method"), field{"trailer", "x-forwarded-user"})...), false)
		_ = f.WriteData(stream, false, []byte("abc"))
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.block([]field{{"x-forwarded-user", planted}}), EndStream: true, EndHeaders: true})
		status, err := f.wait(stream)
		got, bad := h.up.take()
		if status != 200 || len(got) != 1 || len(bad) > 0 || strings.Contains(got[0], planted) {
			t.Errorf("trailers: %d %v %q %q", status, err, got, bad)
		}
		h.alive()
	})
}

// TestHostileFloods: one client throws frames; the memory stays bounded, the others are served.
func TestHostileFloods(t *testing.T) {
	h := newHostileRig(t, "lean")
	floods := map[string]func(f *framer) error{
		"rapid reset": func(f *framer) error {
			for range 5000 {
				stream := f.send(h.fields("/public/x"), true)
				if err := f.WriteRSTStream(stream, http2.ErrCodeCancel); err != nil {
					return err
				}
			}
			return nil
		},
		"made you reset": func(f *framer) error { // the server is made to reset: a window update of zero
			for range 5000 {
				stream := f.send(h.fields("/public/x"), false)
				if err := f.WriteWindowUpdate(stream, 0); err != nil {
					return err
				}
			}
			return nil
		},
		"continuation": func(f *framer) error {
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(h.fields("/public/x"))}); err != nil {
				return err
			}
			for range 20000 {
				if err := f.WriteContinuation(1, false, f.block([]field{{"x-a", strings.Repeat("a", 1000)}})); err != nil {
					return err
				}
			}
			return nil
		},
		"empty continuation": func(f *framer) error {
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(h.fields("/public/x"))}); err != nil {
				return err
			}
			for range 100000 {
				if err := f.WriteContinuation(1, false, nil); err != nil {
					return err
				}
			}
			return nil
		},
		"settings": func(f *framer) error {
			for range 100000 {
				if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}); err != nil {
					return err
				}
			}
			return nil
		},
		"ping": func(f *framer) error {
			for range 100000 {
				if err := f.WritePing(false, [8]byte{1}); err != nil {
					return err
				}
			}
			return nil
		},
		"priority": func(f *framer) error {
			for i := range uint32(100000) {
				if err := f.WritePriority(2*i+1, http2.PriorityParam{StreamDep: 2*i + 3}); err != nil {
					return err
				}
			}
			return nil
		},
		"empty data": func(f *framer) error {
			stream := f.send(append([]field{{":method", "POST"}}, h.fields("/public/x")[1:]...), false)
			for range 100000 {
				if err := f.WriteData(stream, false, nil); err != nil {
					return err
				}
			}
			return nil
		},
		"hpack bomb": func(f *framer) error { // 4 kB in the table, named 100,000 times
			long := field{"x-a", strings.Repeat("a", 3900)}
			for range 50 {
				fields := h.fields("/public/x")
				for range 2000 {
					fields = append(fields, long)
				}
				f.send(fields, true)
			}
			return nil
		},
		"table size": func(f *framer) error {
			for range 20000 {
				if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bytes.Repeat([]byte{0x3f, 0xe1, 0x1f}, 100), EndHeaders: true}); err != nil {
					return err
				}
			}
			return nil
		},
		"window overflow": func(f *framer) error {
			for range 100 {
				if err := f.WriteWindowUpdate(0, 1<<31-1); err != nil {
					return err
				}
			}
			return nil
		},
		"unknown frames": func(f *framer) error {
			for range 100000 {
				if err := f.WriteRawFrame(0xbe, 0xff, 1, []byte("x")); err != nil {
					return err
				}
			}
			return nil
		},
		"streams that never end": func(f *framer) error {
			for range 2000 {
				f.send(append([]field{{":method", "POST"}}, h.fields("/public/x")[1:]...), false)
			}
			return nil
		},
		"push promise": func(f *framer) error {
			return f.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: f.block(h.fields("/public/x")), EndHeaders: true})
		},
		"frame too large":  func(f *framer) error { return f.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 1<<20)) },
		"goaway then more": func(f *framer) error { return errors.Join(f.WriteGoAway(0, 0, nil), f.WriteGoAway(0, 0, nil)) },
		"garbage": func(f *framer) error {
			_, err := f.conn.Write(bytes.Repeat([]byte{0xff}, 1<<20))
			return err
		},
	}
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			before := heap()
			f := h.framer()
			done := make(chan error, 1)
			go func() { done <- flood(f) }()
			go func() { _, _ = io.Copy(io.Discard, f.conn) }()
			for range 3 {
				h.alive()
			}
			select {
			case <-done: // with whatever error: the server may have closed the connection
			case <-time.After(time.Minute):
				t.Error("the flood still runs")
			}
			h.alive()
			f.conn.Close()
			if grown := heap() - before; grown > 64<<20 {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
		})
	}
	if strings.Contains(h.log.String(), "panic") {
		t.Error("something panicked")
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
