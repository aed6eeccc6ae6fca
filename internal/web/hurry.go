package web

import (
	"io"
	"net/http"
	"time"
)

// BodyTime is how long the body of a request to one of our own addresses may take: they are all small.
const BodyTime = 30 * time.Second

// Hurry bounds the time for reading the request's body. The bound is lifted at the body's end, because afterwards the
// server reads on to learn whether the client is still there.
func Hurry(w http.ResponseWriter, r *http.Request, limit time.Duration) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return
	}
	rc := http.NewResponseController(w)
	if rc.SetReadDeadline(time.Now().Add(limit)) == nil {
		r.Body = &hurried{r.Body, rc}
	}
}

type hurried struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (h *hurried) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if err == io.EOF {
		_ = h.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}
