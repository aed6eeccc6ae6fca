package lean

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"math"
	"net/http"
	"sync/atomic"
)

// How a body ends.
const (
	byLength = iota + 1
	byChunks
	byClose
)

// What a body is doing.
const (
	resting int32 = iota
	reading
	ended  // there is nothing more to read
	closed // by who used it
)

const (
	// maxDrain is how much of a body that nobody wants is read, if it is there already, to keep the connection.
	maxDrain = 64 << 10
	// maxChunkLine and maxOverhead bound what is in the chunks beside data.
	maxChunkLine = 1 << 10
	maxOverhead  = 16 << 10
)

const errChunk malformed = "a chunk is not valid"

var errTwoReaders = errors.New("lean: two reads of a body at the same time")

// body is the body of an answer. It may be closed while it is read.
type body struct {
	x     *exchange
	kind  int
	keep  bool  // the connection may be used again
	left  int64 // of the body, or of the chunk
	state atomic.Int32
	err   error // why it ended

	begun    bool  // a chunk came before
	overhead int64 // bytes that are not data
}

func (b *body) Read(p []byte) (int, error) {
	if !b.state.CompareAndSwap(resting, reading) {
		switch b.state.Load() {
		case ended:
			return 0, b.err
		case closed:
			return 0, http.ErrBodyReadAfterClose
		}
		return 0, errTwoReaders
	}
	if len(p) == 0 {
		b.state.CompareAndSwap(reading, resting)
		return 0, nil
	}
	n, err := b.read(p)
	if err == nil {
		if !b.state.CompareAndSwap(reading, resting) {
			return 0, http.ErrBodyReadAfterClose
		}
		return n, nil
	}
	if err != io.EOF { //nolint:errorlint // read returns it bare
		err = b.x.because(b.x.failed(opRead, err))
	}
	b.err = err
	if !b.state.CompareAndSwap(reading, ended) { // whoever closed it has closed the connection
		return 0, http.ErrBodyReadAfterClose
	}
	b.x.release(b.keep && err == io.EOF) //nolint:errorlint // it is bare
	return n, err
}

// Close ends the use of the connection. If the rest of the body is there already, the connection is kept.
func (b *body) Close() error {
	switch b.state.Swap(closed) {
	case resting:
		b.x.release(b.keep && b.drain())
	case reading:
		b.x.release(false)
	}
	return nil
}

// drain reads the rest of the body, if that takes no waiting, and says whether it did.
func (b *body) drain() bool {
	c := b.x.c
	if b.kind == byClose || c.br.Buffered() == 0 || c.nc.SetReadDeadline(longAgo) != nil {
		return false
	}
	c.limited = true // until the next use
	var waste [4 << 10]byte
	for n := 0; n < maxDrain; {
		m, err := b.read(waste[:])
		if n += m; err != nil {
			return err == io.EOF //nolint:errorlint // read returns it bare
		}
	}
	return false
}

// read returns io.EOF with the last bytes where it can, so that the connection is free as early as possible.
func (b *body) read(p []byte) (int, error) {
	br := b.x.c.br
	switch b.kind {
	case byChunks:
		return b.readChunks(br, p)
	case byClose:
		return br.Read(p)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := br.Read(p)
	b.left -= int64(n)
	if b.left == 0 {
		return n, io.EOF
	}
	return n, unexpected(err)
}

func (b *body) readChunks(br *bufio.Reader, p []byte) (n int, err error) {
	for {
		if b.left == 0 {
			if n > 0 && !b.chunkThere(br) {
				return n, nil
			}
			if err := b.nextChunk(br); err != nil {
				return n, err
			}
		}
		m := int(min(int64(len(p)-n), b.left))
		if m == 0 {
			return n, nil
		}
		m, err = br.Read(p[n : n+m])
		n += m
		b.left -= int64(m)
		if err != nil {
			return n, unexpected(err)
		}
	}
}

// chunkThere says whether the head of the next chunk, or the end, can be read without waiting.
func (b *body) chunkThere(br *bufio.Reader) bool {
	buf, _ := br.Peek(br.Buffered())
	if len(buf) < 3 {
		return false
	}
	buf = buf[2:]
	if buf[0] == '0' { // perhaps the last one
		return bytes.Contains(buf, []byte("\r\n\r\n"))
	}
	return bytes.IndexByte(buf, '\n') >= 0
}

// nextChunk reads the end of one chunk and the head of the next. It returns io.EOF after the last one and the trailer.
func (b *body) nextChunk(br *bufio.Reader) error {
	if b.begun {
		end, err := br.Peek(2)
		if err != nil {
			return unexpected(err)
		}
		if string(end) != "\r\n" {
			return errChunk
		}
		if _, err := br.Discard(2); err != nil {
			return err
		}
	}
	b.begun = true
	line, err := br.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return errChunk
	case err != nil:
		return unexpected(err)
	}
	size, err := chunkSize(line)
	if err != nil {
		return err
	}
	// One byte a chunk is fair; a byte and a long extension is not.
	b.overhead = max(0, b.overhead+int64(len(line))+2-16-2*min(size, maxOverhead))
	if b.overhead > maxOverhead {
		return errChunk
	}
	if b.left = size; size > 0 {
		return nil
	}
	if err := b.trailer(br); err != nil {
		return err
	}
	return io.EOF
}

// chunkSize reads the head of a chunk. Extensions are dropped.
func chunkSize(line []byte) (size int64, err error) {
	if len(line) < 3 || len(line) > maxChunkLine || line[len(line)-2] != '\r' {
		return 0, errChunk
	}
	line = line[:len(line)-2]
	text, extension, _ := bytes.Cut(line, []byte(";"))
	for _, ch := range extension {
		if classes[ch]&isValue == 0 {
			return 0, errChunk
		}
	}
	if len(extension) == 0 {
		text = bytes.TrimRight(text, " \t") // some servers pad it
	}
	if len(text) == 0 || len(text) > 16 {
		return 0, errChunk
	}
	for _, ch := range text {
		digit := int64(-1)
		switch {
		case '0' <= ch && ch <= '9':
			digit = int64(ch - '0')
		case 'a' <= ch && ch <= 'f':
			digit = int64(ch-'a') + 10
		case 'A' <= ch && ch <= 'F':
			digit = int64(ch-'A') + 10
		}
		if digit < 0 || size > math.MaxInt64>>4 {
			return 0, errChunk
		}
		size = size<<4 | digit
	}
	return size, nil
}

// trailer reads what follows the last chunk.
func (b *body) trailer(br *bufio.Reader) error {
	end, err := br.Peek(2)
	if err != nil {
		return unexpected(err)
	}
	if string(end) == "\r\n" {
		_, err = br.Discard(2)
		return err
	}
	text, lines, err := readBlock(br, b.x.t.opt.MaxHeaderBytes)
	if err != nil {
		return err
	}
	fields := http.Header{}
	if err := parseFields(text[:len(text)-2], lines, fields); err != nil {
		return err
	}
	for name := range fields {
		if barred(name) {
			return errTrailer
		}
	}
	if b.state.Load() == closed { // drained: who closed it need not be who looks at the trailer
		return nil
	}
	resp := &b.x.resp
	if resp.Trailer == nil {
		resp.Trailer = http.Header{}
	}
	maps.Copy(resp.Trailer, fields)
	return nil
}

// tunnel is the body of an answer that switched protocols: the connection, which now belongs to the caller.
type tunnel struct {
	c *conn
}

func (t *tunnel) Read(p []byte) (int, error) {
	if n := t.c.br.Buffered(); n > 0 {
		return t.c.br.Read(p[:min(n, len(p))])
	}
	return t.c.nc.Read(p)
}

func (t *tunnel) Write(p []byte) (int, error) { return t.c.nc.Write(p) }
func (t *tunnel) Close() error                { return t.c.nc.Close() }

// CloseWrite ends one direction, if the connection can.
func (t *tunnel) CloseWrite() error {
	if half, ok := t.c.nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return http.ErrNotSupported
}
