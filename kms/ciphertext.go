package kms

import (
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"

	"github.com/keyturn/keyturn/awsapi"
)

// The ciphertext blob of a symmetric key:
//
//	offset  bytes
//	0       1     form of the key id: 1 a UUID, 2 a Multi-Region key's "mrk-" and 32 hex digits
//	1       5     account, big-endian number of 12 decimal digits
//	6       16    key id, the bytes of its hex digits
//	22      32    material id
//	54      …     the key store's ciphertext
//
// The header is not secret. It is authenticated: header and encryption
// context together are the associated data of the key store's ciphertext, so
// an attacker who moves a blob to another key, or changes what the header
// says, gets InvalidCiphertextException and no plaintext. The Region is not
// in it: a Multi-Region key is the same key in every Region, and what one of
// its keys encrypted all of them decrypt. Any other key exists in one Region.
//
// RSA ciphertext stays as the standard has it, without header.
type blobHeader struct {
	account    string // 12 digits
	keyID      string // a UUID in its usual form, or "mrk-" and 32 hex digits
	materialID string // 64 hex digits
}

const (
	blobUUID      = 1
	blobMRK       = 2
	blobHeaderLen = 1 + 5 + 16 + 32
)

// append adds the encoded header to b.
func (h blobHeader) append(b []byte) ([]byte, error) {
	account, err := strconv.ParseUint(h.account, 10, 40)
	if err != nil || len(h.account) != 12 {
		return nil, awsapi.Errorf("KMSInternalException", "account %q does not have 12 digits", h.account)
	}
	form := byte(blobUUID)
	id, ok := parseUUID(h.keyID)
	if !ok {
		form = blobMRK
		if id, ok = parseMultiRegionID(h.keyID); !ok {
			return nil, awsapi.Errorf("KMSInternalException", "key id %q has no form that is known", h.keyID)
		}
	}
	material, err := hex.DecodeString(h.materialID)
	if err != nil || len(material) != 32 {
		return nil, awsapi.Errorf("KMSInternalException", "material id of key %s is not 32 bytes", h.keyID)
	}
	b = append(b, form)
	b = binary.BigEndian.AppendUint64(b, account<<24)[:len(b)+5]
	b = append(b, id[:]...)
	return append(b, material...), nil
}

// parseBlob splits a ciphertext blob; ok is false for what is none of ours.
func parseBlob(blob []byte) (h blobHeader, body []byte, ok bool) {
	if len(blob) <= blobHeaderLen || blob[0] != blobUUID && blob[0] != blobMRK {
		return blobHeader{}, nil, false
	}
	var number [8]byte
	copy(number[3:], blob[1:6])
	account := binary.BigEndian.Uint64(number[:])
	if account > 999_999_999_999 {
		return blobHeader{}, nil, false
	}
	digits := strconv.FormatUint(account+1_000_000_000_000, 10)[1:]
	keyID := formatUUID([16]byte(blob[6:22]))
	if blob[0] == blobMRK {
		keyID = mrkPrefix + hex.EncodeToString(blob[6:22])
	}
	return blobHeader{
		account:    digits,
		keyID:      keyID,
		materialID: hex.EncodeToString(blob[22:54]),
	}, blob[blobHeaderLen:], true
}

// associatedData is what a symmetric ciphertext is bound to: the blob's
// header and the encryption context. The context is written in the order of
// its keys, each key and value behind its length, so that one context has one
// encoding and no two share one.
func associatedData(header []byte, context map[string]string) []byte {
	size := len(header) + 4
	for k, v := range context {
		size += 8 + len(k) + len(v)
	}
	b := make([]byte, 0, size)
	b = append(b, header...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(context)))
	if len(context) == 0 {
		return b
	}
	for _, k := range slices.Sorted(maps.Keys(context)) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(k)))
		b = append(b, k...)
		v := context[k]
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	return b
}

// parseUUID reads the 36-character form, lower case, as key ids have it.
func parseUUID(s string) (id [16]byte, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, false
	}
	n := 0
	for i := 0; i < len(s); i++ {
		switch i {
		case 8, 13, 18, 23:
			continue
		}
		var d byte
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			d = c - '0'
		case 'a' <= c && c <= 'f':
			d = c - 'a' + 10
		default:
			return id, false
		}
		id[n/2] = id[n/2]<<4 | d
		n++
	}
	return id, true
}

func formatUUID(id [16]byte) string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}
