package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
)

// A line of the log is
//
//	{"eventVersion":"1.11", … ,"chain":{"seq":7,"prev":"<64 hex>","hash":"<64 hex>"}}
//
// The body is what stands before `,"chain":`. With prev as 32 bytes and seq as 8
// bytes, big-endian,
//
//	hash = SHA-256("keyturn audit 1\n" | prev | seq | body)
//
// prev is the hash of the record before, and 32 zero bytes for the record 1.
const (
	chainLabel = "keyturn audit 1\n"
	chainSeq   = `,"chain":{"seq":`
	chainPrev  = `,"prev":"`
	chainHash  = `","hash":"`
	chainEnd   = `"}}`
)

// digest is the hash of a record.
type digest [sha256.Size]byte

func (d digest) String() string { return hex.EncodeToString(d[:]) }

// link is a record's place in the chain.
type link struct {
	seq  uint64
	prev digest
	hash digest
}

// appendChained appends the line of the record that follows last, line end
// included, and returns its link. scratch is reused from call to call.
func appendChained(b []byte, body []byte, last link, scratch *[]byte) ([]byte, link) {
	n := link{seq: last.seq + 1, prev: last.hash}
	n.hash = hashRecord(n.prev, n.seq, body, scratch)
	b = append(b, body...)
	b = append(b, chainSeq...)
	b = appendUint(b, n.seq)
	b = append(b, chainPrev...)
	b = hex.AppendEncode(b, n.prev[:])
	b = append(b, chainHash...)
	b = hex.AppendEncode(b, n.hash[:])
	return append(b, chainEnd+"\n"...), n
}

// hashRecord hashes in one call over a copy, which is faster than three writes to
// a hash.Hash.
func hashRecord(prev digest, seq uint64, body []byte, scratch *[]byte) digest {
	s := append((*scratch)[:0], chainLabel...)
	s = append(s, prev[:]...)
	s = binary.BigEndian.AppendUint64(s, seq)
	s = append(s, body...)
	*scratch = s
	return sha256.Sum256(s)
}

var errNotRecord = errors.New("it is not a record with a chain")

// parseLine splits a line, without its line end, into body and link. Only the one
// spelling that appendChained writes is accepted. It does not check the hash.
func parseLine(line []byte) (body []byte, l link, err error) {
	const tail = len(chainPrev) + 64 + len(chainHash) + 64 + len(chainEnd)
	if len(line) < tail || line[0] != '{' {
		return nil, link{}, errNotRecord
	}
	head, rest := line[:len(line)-tail], line[len(line)-tail:]
	digits := len(head)
	for digits > 0 && head[digits-1] >= '0' && head[digits-1] <= '9' {
		digits--
	}
	if !bytes.HasSuffix(head[:digits], []byte(chainSeq)) || digits == len(head) || head[digits] == '0' {
		return nil, link{}, errNotRecord
	}
	if l.seq, err = strconv.ParseUint(string(head[digits:]), 10, 63); err != nil {
		return nil, link{}, errNotRecord
	}
	prev, rest := rest[len(chainPrev):len(chainPrev)+64], rest[len(chainPrev)+64:]
	hash := rest[len(chainHash) : len(chainHash)+64]
	if !bytes.HasPrefix(line[len(head):], []byte(chainPrev)) || !bytes.HasPrefix(rest, []byte(chainHash)) ||
		!bytes.HasSuffix(rest, []byte(chainEnd)) || !decodeDigest(&l.prev, prev) || !decodeDigest(&l.hash, hash) {
		return nil, link{}, errNotRecord
	}
	return head[:digits-len(chainSeq)], l, nil
}

// decodeDigest decodes 64 lower-case hex digits.
func decodeDigest(d *digest, text []byte) bool {
	if bytes.ContainsAny(text, "ABCDEF") {
		return false
	}
	n, err := hex.Decode(d[:], text)
	return err == nil && n == len(d)
}

func appendUint(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 10) }
