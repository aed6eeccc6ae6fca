package boltstore

import (
	"crypto/sha256"
	"time"

	"github.com/cloakroom/cloakroom/store"
)

// The buckets. A record's head is apart from its blob, so that a touch rewrites a hundred bytes. All of a record is
// written in one transaction; even so an index entry is only a hint, which is checked against the head.
var (
	bucketMeta     = []byte("meta")          // the file's own facts
	bucketHeads    = []byte("records/head")  // id -> head
	bucketBlobs    = []byte("records/blob")  // id -> blob
	bucketEnds     = []byte("records/end")   // time, id -> nothing
	bucketSubjects = []byte("index/subject") // hash of the value, id -> nothing
	bucketSIDs     = []byte("index/sid")     // hash of the value, id -> nothing
	bucketOnce     = []byte("once/key")      // hash of the key -> time
	bucketOnceEnds = []byte("once/end")      // time, hash of the key -> nothing

	buckets = [][]byte{
		bucketMeta, bucketHeads, bucketBlobs, bucketEnds, bucketSubjects, bucketSIDs, bucketOnce, bucketOnceEnds,
	}
)

// keySize is the length of an id, and of the hashes that stand for foreign strings of any length.
const keySize = sha256.Size

var _ [keySize]byte = store.ID{}

// timeKey sorts by time, then by what it is the time of.
func timeKey(t time.Time, of []byte) []byte {
	return append(appendTime(make([]byte, 0, timeSize+keySize), t), of...)
}

// indexKey sorts by index value, then by id.
func indexKey(value string, id []byte) []byte {
	hash := sha256.Sum256([]byte(value))
	return append(append(make([]byte, 0, 2*keySize), hash[:]...), id...)
}
