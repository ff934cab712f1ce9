package kms

import (
	"bytes"
	"encoding/base64"
	"strings"

	"github.com/keyturn/keyturn/awsapi"
)

// A grant token says which grant it was given out for. It is sealed, so that
// nobody can make one, and no two are alike:
//
//	base64url( seal( grant id | 0 | ARN of the key ) )
//
// It permits nothing by itself: whoever shows it must still be the grantee. Its
// bearer tells the node that it may not have heard of the grant yet, so that the
// database is asked before a request is refused.
type grantToken struct{ grantID, keyARN string }

// grantTokenName is what tokens are bound to, apart from all else that the sealer
// seals.
var grantTokenName = []byte("grant token")

var tokenEncoding = base64.RawURLEncoding.Strict()

func (s *Service) newGrantToken(g *grantRow) (string, error) {
	sealed, err := s.sealer.Seal([]byte(g.id+"\x00"+g.keyARN), grantTokenName)
	if err != nil {
		return "", err
	}
	return tokenEncoding.EncodeToString(sealed), nil
}

func errGrantToken() error { return awsapi.Errorf("InvalidGrantTokenException", "Invalid grant token") }

func (s *Service) openGrantToken(token string) (grantToken, error) {
	sealed, err := tokenEncoding.DecodeString(token)
	if err != nil {
		return grantToken{}, errGrantToken()
	}
	text, err := s.sealer.Open(sealed, grantTokenName)
	if err != nil {
		return grantToken{}, errGrantToken()
	}
	id, keyARN, _ := bytes.Cut(text, []byte{0})
	return grantToken{grantID: string(id), keyARN: string(keyARN)}, nil
}

// checkGrantTokens refuses tokens that no server of this database gave out.
func (s *Service) checkGrantTokens(r *request) error {
	for _, token := range r.grantTokens {
		if _, err := s.openGrantToken(token); err != nil {
			return err
		}
	}
	return nil
}

// foreignToken reports whether a token is for another key than the one that the
// request is about. Requests by alias may carry those of the generations behind
// it, and ReEncrypt those of two keys.
func (s *Service) foreignToken(r *request, k *keyFacts) bool {
	if r.operation == "ReEncrypt" || r.alias != "" || strings.HasPrefix(r.keyID, aliasPrefix) {
		return false
	}
	for _, token := range r.grantTokens {
		if t, err := s.openGrantToken(token); err != nil || t.keyARN != k.arn {
			return true
		}
	}
	return false
}
