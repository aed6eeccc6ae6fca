package lean

import (
	"net/http"
	"strconv"
	"strings"
)

const (
	errLength   malformed = "the length is not valid"
	errLengths  malformed = "more than one length"
	errBoth     malformed = "both a length and a transfer coding"
	errCoding   malformed = "a transfer coding other than chunked"
	errCoding10 malformed = "a transfer coding over HTTP/1.0"
	errTrailer  malformed = "a field that is not for a trailer"
)

// frame finds out where the answer ends. What is in doubt is refused: whoever takes it otherwise than the upstream means
// it takes a part of one answer for another.
func (x *exchange) frame() error {
	resp := &x.resp
	h := resp.Header
	keep := resp.ProtoMinor == 1
	if connection, ok := h["Connection"]; ok {
		closes := hasToken(connection, "close")
		if keep = !closes && (keep || hasToken(connection, "keep-alive")); closes && resp.ProtoMinor == 1 {
			delete(h, "Connection")
		}
	}
	if p := h["Pragma"]; len(p) > 0 && p[0] == "no-cache" && h["Cache-Control"] == nil { // as http.ReadResponse does
		h["Cache-Control"] = []string{"no-cache"}
	}
	chunks, err := takeCoding(resp)
	if err != nil {
		return err
	}
	length, err := takeLength(h)
	if err != nil {
		return err
	}
	if chunks && length >= 0 {
		return errBoth
	}
	code := resp.StatusCode
	head := x.out.req.Method == http.MethodHead
	empty := head || code < 200 || code == http.StatusNoContent || code == http.StatusNotModified
	resp.Body, resp.ContentLength = http.NoBody, length
	if empty && !head {
		resp.ContentLength = 0
	}
	x.body = body{x: x, left: length, keep: keep && code >= 200}
	if chunks {
		if err := announced(resp); err != nil {
			return err
		}
	}
	switch {
	case empty:
		if code == http.StatusNoContent && (chunks || length > 0) {
			x.body.keep = false // there may be a body all the same
		}
	case chunks:
		x.body.kind, x.body.left, resp.Body = byChunks, 0, &x.body
	case length > 0:
		x.body.kind, resp.Body = byLength, &x.body
	case length < 0:
		x.body.kind, x.body.keep, resp.Body = byClose, false, &x.body
	}
	resp.Close = !keep || x.body.kind == byClose
	return nil
}

// takeCoding takes the transfer coding out of the header.
func takeCoding(resp *http.Response) (chunks bool, err error) {
	coding, ok := resp.Header["Transfer-Encoding"]
	if !ok {
		return false, nil
	}
	delete(resp.Header, "Transfer-Encoding")
	switch {
	case resp.ProtoMinor == 0:
		return false, errCoding10
	case len(coding) != 1 || !equalFold(coding[0], chunkedTE):
		return false, errCoding
	}
	resp.TransferEncoding = []string{chunkedTE}
	return true, nil
}

// takeLength returns the length that the header names, or -1.
func takeLength(h http.Header) (int64, error) {
	lengths, ok := h["Content-Length"]
	if !ok {
		return -1, nil
	}
	if len(lengths) != 1 {
		return 0, errLengths
	}
	for _, digit := range []byte(lengths[0]) {
		if digit < '0' || digit > '9' {
			return 0, errLength
		}
	}
	n, err := strconv.ParseInt(lengths[0], 10, 64)
	if err != nil {
		return 0, errLength
	}
	return n, nil
}

// announced moves the names of the trailer from the header to where they belong.
func announced(resp *http.Response) error {
	lists, ok := resp.Header["Trailer"]
	if !ok {
		return nil
	}
	delete(resp.Header, "Trailer")
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			if name = http.CanonicalHeaderKey(trim(name)); name == "" {
				continue
			}
			if barred(name) {
				return errTrailer
			}
			if resp.Trailer == nil {
				resp.Trailer = http.Header{}
			}
			resp.Trailer[name] = nil
		}
	}
	return nil
}
