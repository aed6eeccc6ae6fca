package lean_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// However an answer is cut into pieces on its way, it is the same.
func TestSplitAnswers(t *testing.T) {
	long := strings.Repeat("l", 1100) // longer than the buffer
	for _, raw := range []string{
		okHello,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n5;x=y\r\nhello\r\n0a\r\n0123456789\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nA: b\r\nLong: " + long + "\r\nC: d\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: " + long + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\nC: d\r\n\r\nhello",
	} {
		read := func(r io.Reader) string {
			res, err := scripted(&script{Reader: r}).RoundTrip(request(t.Context(), t, http.MethodGet, "upstream", nil))
			if err != nil {
				return err.Error()
			}
			return answerOf(res)
		}
		want := read(strings.NewReader(raw))
		if got := read(iotest.OneByteReader(strings.NewReader(raw))); got != want {
			t.Errorf("%.99q byte by byte: %.99s, want %.99s", raw, got, want)
		}
		for i := range raw {
			if got := read(io.MultiReader(strings.NewReader(raw[:i]), strings.NewReader(raw[i:]))); got != want {
				t.Errorf("%.99q at %d: %.99s, want %.99s", raw, i, got, want)
			}
		}
	}
}
