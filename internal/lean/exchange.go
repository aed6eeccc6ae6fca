package lean

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"sync/atomic"
	"time"
)

// lastWords is how long a connection that could not be written to is read: an upstream that refuses a request in the
// middle has said so before it closed.
const lastWords = time.Second

// exchange is one request and its answer on one connection. It is allocated once, with the answer in it.
type exchange struct {
	t     *Transport
	c     *conn
	ctx   context.Context
	trace *httptrace.ClientTrace
	out   outgoing
	up    *upload     // sends the body beside, or nil
	stop  func() bool // ends the watch over the context, or nil

	reused   bool  // the connection was used before
	wrote    bool  // at least a byte of the request
	sent     bool  // no more is read of the body: it was sent with the header, or given up
	writeErr error // why the request could not be written
	answered bool  // at least a byte of an answer came
	over     atomic.Bool

	resp http.Response
	body body
}

// do sends the request and reads the answer's header.
func (x *exchange) do() error {
	c := x.c
	if x.ctx.Done() != nil {
		x.stop = context.AfterFunc(x.ctx, c.kill)
	}
	if err := x.write(); err != nil {
		return err
	}
	if err := x.answer(); err != nil {
		return err
	}
	if x.up != nil {
		x.up.answer(&x.resp)
	}
	if x.resp.StatusCode == http.StatusSwitchingProtocols {
		return x.handOver()
	}
	if x.resp.Body == http.NoBody { // the next request may have the connection before this answer is looked at
		x.release(x.body.keep)
		return nil
	}
	if x.body.kind != byLength || x.body.left > int64(c.br.Buffered()) {
		return x.failed(opRead, c.unlimited())
	}
	return nil
}

// write sends the header, with the body if that is at hand. Otherwise the body is sent beside.
func (x *exchange) write() error {
	c, out := x.c, &x.out
	b, err := out.header(c, x.trace)
	if err != nil {
		return err
	}
	if small := out.small(); small != nil {
		if b, err = x.appendBody(b, small); err != nil {
			return err
		}
	}
	if c.out = b[:0]; cap(b) > 64<<10 {
		c.out = nil
	}
	n, err := c.nc.Write(b)
	x.wrote = n > 0
	if x.trace != nil && x.trace.WroteHeaders != nil && err == nil {
		x.trace.WroteHeaders()
	}
	if out.body != nil && !x.sent && err == nil {
		if err := c.unlimited(); err != nil {
			return x.failed(opWrite, err)
		}
		x.up = newUpload(x)
		go x.up.run()
		return nil
	}
	if x.trace != nil && x.trace.WroteRequest != nil {
		x.trace.WroteRequest(httptrace.WroteRequestInfo{Err: err})
	}
	if err != nil {
		return x.unwritten(err)
	}
	return x.await()
}

// appendBody appends a body that is in memory.
func (x *exchange) appendBody(b []byte, from io.Reader) ([]byte, error) {
	n, want := len(b), int(x.out.length)
	for range want {
		b = append(b, 0)
	}
	got, err := io.ReadFull(from, b[n:])
	if err == nil {
		var one [1]byte
		more, _ := from.Read(one[:])
		got += more
	}
	x.sent = true
	err = x.out.body.Close()
	if got != want {
		return b, unfit("the body is not as long as its length says")
	}
	return b, err
}

// await limits the wait for the answer's header.
func (x *exchange) await() error {
	if d := x.t.opt.ResponseHeaderTimeout; d > 0 {
		return x.failed(opRead, x.c.limit(d))
	}
	return x.failed(opRead, x.c.unlimited())
}

// unwritten is what follows when the request could not be written: an answer that came all the same, if there is one.
// A request that may be sent again is not worth the look.
func (x *exchange) unwritten(err error) error {
	x.writeErr = x.failed(opWrite, err)
	if !x.wrote || x.ctx.Err() != nil || x.replayable(x.writeErr) || x.c.limit(lastWords) != nil {
		return x.writeErr
	}
	if !x.sent {
		closeBody(x.out.body)
		x.sent = true
	}
	return nil
}

// answer reads the answer's header, and those of the interim answers before it.
func (x *exchange) answer() error {
	br := x.c.br
	if _, err := br.Peek(1); err != nil {
		return x.failed(opRead, unexpected(err))
	}
	x.answered = true
	if x.trace != nil && x.trace.GotFirstResponseByte != nil {
		x.trace.GotFirstResponseByte()
	}
	for left := x.t.opt.MaxHeaderBytes; ; { // for all headers: a long job may say every second that it goes on
		n, err := x.read(left)
		if err != nil {
			return err
		}
		left -= n
		code := x.resp.StatusCode
		if code >= 200 || code == http.StatusSwitchingProtocols {
			return nil
		}
		if err := x.interim(code); err != nil {
			return err
		}
	}
}

// interim hands on a 1xx answer.
func (x *exchange) interim(code int) error {
	if code == http.StatusContinue {
		if x.trace != nil && x.trace.Got100Continue != nil {
			x.trace.Got100Continue()
		}
		if x.up != nil {
			x.up.goOn(true)
		}
	}
	if x.trace != nil && x.trace.Got1xxResponse != nil {
		return x.trace.Got1xxResponse(code, textproto.MIMEHeader(x.resp.Header))
	}
	return nil
}

// read reads one header and says how long it is.
func (x *exchange) read(limit int) (int, error) {
	text, lines, err := readBlock(x.c.br, limit)
	if err != nil {
		return 0, x.failed(opRead, err)
	}
	x.resp = http.Response{Request: x.out.req, TLS: x.c.tls}
	if err := parseHead(text, lines, &x.resp); err != nil {
		return 0, err
	}
	return len(text), x.frame()
}

// handOver makes the connection the body of the answer.
func (x *exchange) handOver() error {
	if x.up != nil && !x.up.complete() { // what follows would be mixed with the body
		return malformed("protocols switched before the request was sent")
	}
	if !hasToken(x.out.req.Header["Connection"], "Upgrade") || len(x.out.req.Header["Upgrade"]) == 0 {
		return malformed("protocols switched without being asked")
	}
	if err := x.c.unlimited(); err != nil {
		return x.failed(opRead, err)
	}
	if x.stop != nil && !x.stop() {
		return canceled(x.ctx)
	}
	x.resp.Body = &tunnel{c: x.c}
	x.over.Store(true)
	x.t.gone()
	return nil
}

// failed makes a failure of an error that the connection returned. The end of the context and a failure of the request's
// body come before it: they are why the connection was closed.
func (x *exchange) failed(what op, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[malformed](err); ok {
		return err
	}
	if x.writeErr != nil {
		return x.writeErr
	}
	if what == opRead && errors.Is(err, os.ErrDeadlineExceeded) && !x.over.Load() {
		what = opHeaderTimeout
	}
	return &failure{what, err}
}

// because returns the error that the caller is to see.
func (x *exchange) because(err error) error {
	if x.ctx.Err() != nil {
		return canceled(x.ctx)
	}
	if x.up != nil {
		if bodyErr := x.up.bodyFailure(); bodyErr != nil {
			return bodyErr
		}
	}
	return err
}

// drop ends an exchange that failed.
func (x *exchange) drop() {
	if x.up == nil && !x.sent {
		closeBody(x.out.body)
	}
	x.release(false)
}

// release ends the use of the connection. It may be used again if the answer ended where it said, and if nothing
// followed.
func (x *exchange) release(keep bool) {
	if !x.over.CompareAndSwap(false, true) {
		return
	}
	c := x.c
	if x.stop != nil && !x.stop() {
		keep = false
	}
	if x.out.closes || x.writeErr != nil {
		keep = false
	}
	keep = keep && c.br.Buffered() == 0
	if x.up != nil {
		x.up.answerOver(keep)
		return
	}
	x.recycle(keep)
}

// recycle puts the connection back or closes it.
func (x *exchange) recycle(keep bool) {
	c := x.c
	c.reused, c.idleSince = true, time.Time{}
	if !keep {
		c.kill()
	}
	kept := keep && x.t.put(c)
	if x.trace != nil && x.trace.PutIdleConn != nil {
		if kept {
			x.trace.PutIdleConn(nil)
		} else {
			x.trace.PutIdleConn(errNotKept)
		}
	}
}

var errNotKept = errors.New("lean: the connection is not kept")
