package lean

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"net/textproto"
	"strings"
)

// maxLines is how many fields a header may have: each costs more memory than it has bytes.
const maxLines = 1000

const (
	errLineEnd  malformed = "a line does not end with CR LF"
	errTooLarge malformed = "the header is too large"
	errStatus   malformed = "the status line is not valid"
	errName     malformed = "the name of a field is not valid"
	errValue    malformed = "the value of a field is not valid"
)

// readBlock reads the lines up to and with the empty one, and says how many there are before that.
func readBlock(br *bufio.Reader, limit int) (text string, lines int, err error) {
	at := 0 // where the line begins that is not yet complete
	for {
		buf, _ := br.Peek(br.Buffered())
		for {
			i := bytes.IndexByte(buf[at:], '\n')
			if i < 0 {
				break
			}
			if i == 0 || buf[at+i-1] != '\r' {
				return "", 0, errLineEnd
			}
			at += i + 1
			if at > limit {
				return "", 0, errTooLarge
			}
			if i == 1 {
				text = string(buf[:at])
				_, err = br.Discard(at)
				return text, lines, err
			}
			if lines++; lines > maxLines {
				return "", 0, errTooLarge
			}
		}
		switch {
		case len(buf) > limit:
			return "", 0, errTooLarge
		case len(buf) == br.Size():
			return readLong(br, limit, at, lines)
		}
		if _, err := br.Peek(len(buf) + 1); err != nil {
			return "", 0, unexpected(err)
		}
	}
}

// readLong goes on where the buffer is too small.
func readLong(br *bufio.Reader, limit, at, lines int) (string, int, error) {
	var all []byte
	for {
		piece, err := br.ReadSlice('\n')
		all = append(all, piece...)
		switch {
		case len(all) > limit:
			return "", 0, errTooLarge
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return "", 0, unexpected(err)
		}
		if len(all) <= at { // a line that was counted already
			continue
		}
		line := all[at:]
		if len(line) < 2 || line[len(line)-2] != '\r' {
			return "", 0, errLineEnd
		}
		if len(line) == 2 {
			return string(all), lines, nil
		}
		at = len(all)
		if lines++; lines > maxLines {
			return "", 0, errTooLarge
		}
	}
}

// parseHead reads the status line and the fields of an answer.
func parseHead(text string, lines int, resp *http.Response) error {
	if lines == 0 {
		return errStatus
	}
	end := strings.IndexByte(text, '\n')
	line, fields := text[:end-1], text[end+1:len(text)-2]
	const proto, code = len("HTTP/1.1"), len("HTTP/1.1 200")
	if len(line) < code || line[:proto-1] != "HTTP/1." || line[proto] != ' ' {
		return errStatus
	}
	switch line[proto-1] {
	case '1':
		resp.Proto, resp.ProtoMinor = "HTTP/1.1", 1
	case '0':
		resp.Proto = "HTTP/1.0"
	default:
		return errStatus
	}
	resp.ProtoMajor = 1
	for _, digit := range []byte(line[proto+1 : code]) {
		if digit < '0' || digit > '9' {
			return errStatus
		}
		resp.StatusCode = resp.StatusCode*10 + int(digit-'0')
	}
	if resp.StatusCode < 100 || len(line) > code && line[code] != ' ' || !all(line[code:], isValue) {
		return errStatus
	}
	resp.Status = line[proto+1:]
	resp.Header = make(http.Header, lines-1)
	return parseFields(fields, lines-1, resp.Header)
}

// parseFields reads the fields of a header or a trailer.
func parseFields(text string, lines int, into http.Header) error {
	single := make([]string, lines) // most fields have one value: one allocation for all of them
	for text != "" {
		end := strings.IndexByte(text, '\n')
		line := text[:end-1]
		text = text[end+1:]
		name, value, err := parseField(line)
		if err != nil {
			return err
		}
		if values, ok := into[name]; ok && values != nil {
			into[name] = append(values, value)
			continue
		}
		into[name], single = single[:1:1], single[1:]
		into[name][0] = value
	}
	return nil
}

// parseField takes a line apart. A line that begins with a space, which once continued the one before, has no valid name.
func parseField(line string) (name, value string, err error) {
	canonical, start := true, true
	colon := -1
	for i := range len(line) {
		b := line[i]
		class := classes[b]
		if class&isToken == 0 {
			if b == ':' {
				colon = i
			}
			break
		}
		if start && class&isLower != 0 || !start && class&isUpper != 0 {
			canonical = false
		}
		start = b == '-'
	}
	if colon <= 0 {
		return "", "", errName
	}
	value = trim(line[colon+1:])
	if !all(value, isValue) {
		return "", "", errValue
	}
	if name = line[:colon]; !canonical {
		name = canonicalName(name)
	}
	return name, value, nil
}

// canonicalName is http.CanonicalHeaderKey, which knows the usual names without allocating for what is in lower case.
func canonicalName(name string) string {
	if common, ok := commonNames[name]; ok {
		return common
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

// commonNames are those that servers send in lower case.
var commonNames = func() map[string]string {
	m := map[string]string{}
	for _, name := range []string{
		"ETag", "X-XSS-Protection", "X-Request-ID", "X-DNS-Prefetch-Control", "Sec-WebSocket-Accept", "WWW-Authenticate",
	} {
		m[name] = textproto.CanonicalMIMEHeaderKey(name)
	}
	for _, name := range []string{
		"Accept-Ranges", "Access-Control-Allow-Credentials", "Access-Control-Allow-Origin", "Age", "Allow", "Cache-Control",
		"Connection", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length", "Content-Security-Policy",
		"Content-Type", "Date", "Etag", "Expires", "Keep-Alive", "Last-Modified", "Link", "Location", "Pragma",
		"Referrer-Policy", "Retry-After", "Server", "Set-Cookie", "Strict-Transport-Security", "Trailer", "Transfer-Encoding",
		"Upgrade", "Vary", "Via", "X-Content-Type-Options", "X-Frame-Options", "X-Powered-By", "X-Request-Id",
	} {
		m[strings.ToLower(name)] = name
	}
	return m
}()
