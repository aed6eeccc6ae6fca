package lean

import (
	"context"
	"errors"
	"fmt"
)

// failure is what went wrong with a connection.
type failure struct {
	op  op
	err error
}

type op string

const (
	opWrite         op = "writing the request"
	opRead          op = "reading the answer"
	opHeaderTimeout op = "waiting for the header of the answer"
)

func (f *failure) Error() string { return "lean: " + string(f.op) + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Timeout makes a failure that is a time-out a net.Error.
func (f *failure) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(f.err, &t) && t.Timeout()
}

// Temporary belongs to net.Error.
func (f *failure) Temporary() bool { return f.Timeout() }

// Is makes a time-out the one that net/http's is, too.
func (f *failure) Is(target error) bool { return target == context.DeadlineExceeded && f.Timeout() }

// malformed is an answer that is refused. It never holds what the upstream sent.
type malformed string

func (m malformed) Error() string { return "lean: malformed answer: " + string(m) }

// unfit is a request that cannot be sent. It never holds a value of the request.
type unfit string

func (u unfit) Error() string { return "lean: unfit request: " + string(u) }

// canceled is why a context ended. Where there is no other reason than that it did, it is the bare error of the context,
// since ReverseProxy compares it.
func canceled(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
