package boltstore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// head is what the file keeps of a record apart from its blob.
type head struct {
	store.Head
	version uint64
	// due is where the record's entry in the ends bucket stands: never after the record's end. A touch, which only
	// moves the end away, leaves the entry alone; Prune moves it when it meets it. So a touch rewrites one page.
	due time.Time
}

// A head at rest: the version, the idle time, four times, the two index values each with its length, and a checksum,
// for what the disk did to it could otherwise make a session live longer.
const (
	timeSize = 8 + 4
	headMin  = 8 + 8 + 4*timeSize + 2 + 2 + crc32.Size
)

// maxIndex bounds an index value. It is a keyed hash, so it is far shorter.
const maxIndex = 1024

var (
	errHead    = errors.New("a record's head is damaged")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func (h head) encode() []byte {
	b := make([]byte, 0, headMin+len(h.Subject)+len(h.SID))
	b = binary.BigEndian.AppendUint64(b, h.version)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Idle)) //nolint:gosec // read back the same way
	for _, t := range []time.Time{h.Created, h.LastActive, h.Expires, h.due} {
		b = appendTime(b, t)
	}
	for _, s := range []string{h.Subject, h.SID} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s))) //nolint:gosec // Save refuses more than maxIndex
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeHead(b []byte) (h head, err error) {
	if len(b) < headMin {
		return head{}, errHead
	}
	b, sum := b[:len(b)-crc32.Size], binary.BigEndian.Uint32(b[len(b)-crc32.Size:])
	if crc32.Checksum(b, castagnoli) != sum {
		return head{}, errHead
	}
	h.version = binary.BigEndian.Uint64(b)
	h.Idle = time.Duration(binary.BigEndian.Uint64(b[8:])) //nolint:gosec // written the same way
	b = b[16:]
	for _, t := range []*time.Time{&h.Created, &h.LastActive, &h.Expires, &h.due} {
		*t, b = readTime(b), b[timeSize:]
	}
	for _, s := range []*string{&h.Subject, &h.SID} {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return head{}, errHead
		}
		end := 2 + int(binary.BigEndian.Uint16(b))
		*s, b = string(b[2:end]), b[end:]
	}
	if len(b) != 0 {
		return head{}, errHead
	}
	return h, nil
}

// appendTime writes seconds and nanoseconds, so that it sorts as time does, for every time.Time: the sign bit is
// turned over.
func appendTime(b []byte, t time.Time) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(t.Unix())^(1<<63))     //nolint:gosec // read back the same way
	return binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond())) //nolint:gosec // less than 1e9
}

// readTime is the inverse of appendTime; b is long enough.
func readTime(b []byte) time.Time {
	sec := int64(binary.BigEndian.Uint64(b) ^ (1 << 63)) //nolint:gosec // written the same way
	return time.Unix(sec, int64(binary.BigEndian.Uint32(b[8:])&math.MaxInt32))
}
