package access

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
)

// idAlphabet is base32's, as AWS uses it in its unique ids. 32 letters: a byte's low five bits choose evenly.
const idAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

// newID makes a unique id of AWS's form: "AKIA" and 16 letters for access keys, "AIDA" and 17 for users.
func newID(prefix string, letters int) string {
	b := make([]byte, letters)
	_, _ = rand.Read(b) // never fails: it would end the process
	return encodeID(prefix, b, letters)
}

func encodeID(prefix string, random []byte, letters int) string {
	id := append(make([]byte, 0, len(prefix)+letters), prefix...)
	for _, c := range random[:letters] {
		id = append(id, idAlphabet[c&31])
	}
	return string(id)
}

// newSecret makes a secret access key: 240 random bits in 40 characters of base64.
func newSecret() Secret {
	b := make([]byte, 30)
	_, _ = rand.Read(b)
	return NewSecret(base64.StdEncoding.EncodeToString(b))
}

// newRequestID makes a random UUID (RFC 9562, version 4), as awsapi does for requests.
func newRequestID() string {
	var u [16]byte
	_, _ = rand.Read(u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
