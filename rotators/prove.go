package rotators

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// proof is one trial of a key: everything its usage promises, done once for real with every algorithm the
// KMS says it has. What the public half can check is checked outside the KMS as well, so that a key which
// works only in the eyes of the KMS that made it never becomes current.
//
// It changes nothing and may be repeated at will.
type proof struct {
	client *kms.Client
	meta   *types.KeyMetadata
	public *publicKey // nil for symmetric and HMAC keys
	text   []byte     // what is signed, encrypted or authenticated: worthless to anyone who records it
	did    []string   // what was proven, for the note in the history
}

// proveKey runs the trial and answers what was proven, and the SubjectPublicKeyInfo of the key (nil when it has none).
// An error that wraps errUnfit means that the key answered, but wrongly: trying again will not help.
func proveKey(ctx context.Context, client *kms.Client, meta *types.KeyMetadata, rotation string) (did []string, spki []byte, err error) {
	// The text carries a fixed prefix, so that a signature made here can never be taken for a token, a
	// certificate or a transaction, and random bytes, so that no cache along the way can answer for the key.
	text := []byte("keyturn test of a new key, rotation " + rotation + ", ")
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return nil, nil, fmt.Errorf("reading random bytes: %w", err)
	}
	p := &proof{client: client, meta: meta, text: fmt.Appendf(text, "%x", nonce)}
	if hasPublicHalf(meta) {
		if spki, err = p.readPublic(ctx); err != nil {
			return nil, nil, err
		}
	}
	switch meta.KeyUsage {
	case types.KeyUsageTypeSignVerify:
		err = p.signatures(ctx)
	case types.KeyUsageTypeEncryptDecrypt:
		err = p.encryption(ctx)
	case types.KeyUsageTypeGenerateVerifyMac:
		err = p.macs(ctx)
	case types.KeyUsageTypeKeyAgreement:
		err = p.agreement(ctx)
	case types.KeyUsageTypeEncapsulateDecapsulate:
		err = p.encapsulation(ctx)
	default:
		err = fmt.Errorf("%w: the usage %s is unknown to this version", errUnfit, meta.KeyUsage)
	}
	if err != nil {
		return nil, nil, err
	}
	if len(p.did) == 0 {
		return nil, nil, fmt.Errorf("%w: the KMS names no algorithm for it", errUnfit)
	}
	return p.did, spki, nil
}

var errUnfit = errors.New("the key does not do its job")

func hasPublicHalf(meta *types.KeyMetadata) bool {
	return meta.KeySpec != types.KeySpecSymmetricDefault && meta.KeyUsage != types.KeyUsageTypeGenerateVerifyMac
}

func (p *proof) readPublic(ctx context.Context) ([]byte, error) {
	out, err := p.client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: p.meta.Arn})
	if err != nil {
		return nil, fmt.Errorf("reading the public key: %w", err)
	}
	if p.public, err = parsePublicKey(out.PublicKey); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnfit, err)
	}
	if got := p.public.spec(); got != p.meta.KeySpec {
		return nil, fmt.Errorf("%w: its public half is of spec %s, not %s", errUnfit, got, p.meta.KeySpec)
	}
	return out.PublicKey, nil
}

func (p *proof) signatures(ctx context.Context) error {
	for _, alg := range p.meta.SigningAlgorithms {
		kinds := []types.MessageType{types.MessageTypeRaw}
		switch alg {
		case types.SigningAlgorithmSpecEd25519PhSha512:
			kinds = []types.MessageType{types.MessageTypeDigest}
		case types.SigningAlgorithmSpecMlDsaShake256:
			kinds = append(kinds, types.MessageTypeExternalMu)
		}
		for _, kind := range kinds {
			if err := p.signature(ctx, alg, kind); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *proof) signature(ctx context.Context, alg types.SigningAlgorithmSpec, kind types.MessageType) error {
	message := p.text
	var err error
	switch kind {
	case types.MessageTypeDigest:
		message = digest(crypto.SHA512, p.text)
	case types.MessageTypeExternalMu:
		if message, err = p.public.mu(p.text); err != nil {
			return fmt.Errorf("%w: %w", errUnfit, err)
		}
	}
	name := fmt.Sprintf("%s (%s)", alg, kind)
	signed, err := p.client.Sign(ctx, &kms.SignInput{KeyId: p.meta.Arn, Message: message, MessageType: kind, SigningAlgorithm: alg})
	if err != nil {
		return fmt.Errorf("signing with %s: %w", name, err)
	}
	if err := p.public.verify(alg, p.text, signed.Signature); err != nil {
		return fmt.Errorf("%w: verifying %s outside the KMS: %w", errUnfit, name, err)
	}
	_, err = p.client.Verify(ctx, &kms.VerifyInput{
		KeyId: p.meta.Arn, Message: message, MessageType: kind, SigningAlgorithm: alg, Signature: signed.Signature,
	})
	if err != nil {
		return fmt.Errorf("verifying with %s: %w", name, err)
	}
	p.did = append(p.did, "Sign, Verify "+name)
	return nil
}

func (p *proof) encryption(ctx context.Context) error {
	for _, alg := range p.meta.EncryptionAlgorithms {
		in := &kms.EncryptInput{KeyId: p.meta.Arn, Plaintext: p.text[len(p.text)-32:], EncryptionAlgorithm: alg}
		if alg == types.EncryptionAlgorithmSpecSymmetricDefault {
			in.EncryptionContext = map[string]string{"keyturn": "test"}
		}
		encrypted, err := p.client.Encrypt(ctx, in)
		if err != nil {
			return fmt.Errorf("encrypting with %s: %w", alg, err)
		}
		ciphertexts := [][]byte{encrypted.CiphertextBlob}
		if p.public != nil {
			local, err := p.public.encrypt(alg, in.Plaintext)
			if err != nil {
				return fmt.Errorf("%w: encrypting outside the KMS: %w", errUnfit, err)
			}
			ciphertexts = append(ciphertexts, local)
		}
		for _, ciphertext := range ciphertexts {
			out, err := p.client.Decrypt(ctx, &kms.DecryptInput{
				KeyId: p.meta.Arn, CiphertextBlob: ciphertext, EncryptionAlgorithm: alg, EncryptionContext: in.EncryptionContext,
			})
			if err != nil {
				return fmt.Errorf("decrypting with %s: %w", alg, err)
			}
			if !sameBytes(out.Plaintext, in.Plaintext) {
				return fmt.Errorf("%w: %s decrypts to something else", errUnfit, alg)
			}
		}
		p.did = append(p.did, fmt.Sprintf("Encrypt, Decrypt %s", alg))
	}
	return nil
}

func (p *proof) macs(ctx context.Context) error {
	for _, alg := range p.meta.MacAlgorithms {
		made, err := p.client.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: p.meta.Arn, Message: p.text, MacAlgorithm: alg})
		if err != nil {
			return fmt.Errorf("authenticating with %s: %w", alg, err)
		}
		out, err := p.client.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: p.meta.Arn, Message: p.text, MacAlgorithm: alg, Mac: made.Mac})
		if err != nil {
			return fmt.Errorf("verifying a MAC with %s: %w", alg, err)
		}
		if !out.MacValid || len(made.Mac) == 0 {
			return fmt.Errorf("%w: its own MAC is not valid", errUnfit)
		}
		p.did = append(p.did, fmt.Sprintf("GenerateMac, VerifyMac %s", alg))
	}
	return nil
}

func (p *proof) agreement(ctx context.Context) error {
	for _, alg := range p.meta.KeyAgreementAlgorithms {
		peer, want, err := p.public.agree()
		if err != nil {
			return fmt.Errorf("%w: %w", errUnfit, err)
		}
		out, err := p.client.DeriveSharedSecret(ctx, &kms.DeriveSharedSecretInput{
			KeyId: p.meta.Arn, KeyAgreementAlgorithm: alg, PublicKey: peer,
		})
		if err != nil {
			return fmt.Errorf("deriving with %s: %w", alg, err)
		}
		if !sameBytes(out.SharedSecret, want) {
			return fmt.Errorf("%w: %s derives another secret than its peer", errUnfit, alg)
		}
		p.did = append(p.did, fmt.Sprintf("DeriveSharedSecret %s", alg))
	}
	return nil
}

func (p *proof) encapsulation(ctx context.Context) error {
	for _, alg := range p.meta.EncapsulationAlgorithms {
		shared, ciphertext, err := p.public.encapsulate()
		if err != nil {
			return fmt.Errorf("%w: %w", errUnfit, err)
		}
		made, err := p.client.Encapsulate(ctx, &kms.EncapsulateInput{KeyId: p.meta.Arn, EncapsulationAlgorithm: alg})
		if err != nil {
			return fmt.Errorf("encapsulating with %s: %w", alg, err)
		}
		for _, trial := range []struct{ ciphertext, shared []byte }{
			{ciphertext, shared},
			{made.SharedSecretCiphertextBlob, made.SharedSecret},
		} {
			out, err := p.client.Decapsulate(ctx, &kms.DecapsulateInput{
				KeyId: p.meta.Arn, EncapsulationAlgorithm: alg, SharedSecretCiphertextBlob: trial.ciphertext,
			})
			if err != nil {
				return fmt.Errorf("decapsulating with %s: %w", alg, err)
			}
			if !sameBytes(out.SharedSecret, trial.shared) {
				return fmt.Errorf("%w: %s decapsulates to another secret", errUnfit, alg)
			}
		}
		p.did = append(p.did, fmt.Sprintf("Encapsulate, Decapsulate %s", alg))
	}
	return nil
}
