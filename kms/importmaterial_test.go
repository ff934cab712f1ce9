package kms_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// Material of every kind that may be imported comes in by every way there is for it,
// and works like the key outside.
func TestImportOfEveryKind(t *testing.T) {
	direct := []types.AlgorithmSpec{types.AlgorithmSpecRsaesOaepSha1, types.AlgorithmSpecRsaesOaepSha256}
	hybrid := []types.AlgorithmSpec{types.AlgorithmSpecRsaAesKeyWrapSha1, types.AlgorithmSpecRsaAesKeyWrapSha256}
	eachImporting(t, func(t *testing.T, n *node) {
		for _, kind := range kinds {
			if strings.HasPrefix(string(kind.spec), "ML_") {
				_, err := n.CreateKey(ctx, &sdk.CreateKeyInput{KeySpec: kind.spec, KeyUsage: kind.usage, Origin: types.OriginTypeExternal})
				wantError(t, err, "UnsupportedOperationException", "Key material of KeySpec "+string(kind.spec)+" cannot be imported.")
				continue
			}
			if kind.spec == types.KeySpecRsa3072 || kind.spec == types.KeySpecRsa4096 {
				continue // as RSA_2048
			}
			k := n.external(kind.spec, kind.usage)
			if k.KeyState != types.KeyStatePendingImport || k.Enabled || k.Origin != types.OriginTypeExternal || k.CurrentKeyMaterialId != nil ||
				k.ExpirationModel != "" || k.ValidTo != nil {
				t.Errorf("a new key is %+v", k)
			}
			symmetric := kind.spec == types.KeySpecSymmetricDefault || kind.usage == types.KeyUsageTypeGenerateVerifyMac
			material := materialFor(t, kind.spec)
			var ids []string
			for _, alg := range slices.Concat(direct, hybrid) {
				in := &sdk.GetParametersForImportInput{KeyId: k.KeyId, WrappingAlgorithm: alg, WrappingKeySpec: types.WrappingKeySpecRsa2048}
				isDirect := slices.Contains(direct, alg)
				if strings.HasPrefix(string(kind.spec), "RSA_") && isDirect || kind.spec == types.KeySpecEccNistP521 && isDirect || symmetric && !isDirect {
					_, err := n.GetParametersForImport(ctx, in)
					wantError(t, err, "UnsupportedOperationException", "WrappingAlgorithm "+string(alg)+" with WrappingKeySpec RSA_2048 is not supported for key material of KeySpec…")
					continue
				}
				before := n.clock.now()
				p := must[*sdk.GetParametersForImportOutput](t)(n.GetParametersForImport(ctx, in))
				if valid := p.ParametersValidTo.Sub(before); *p.KeyId != *k.Arn || valid < 24*time.Hour-time.Second || valid > 24*time.Hour+time.Minute {
					t.Errorf("parameters for %s, valid for %v", *p.KeyId, valid)
				}
				out := must[*sdk.ImportKeyMaterialOutput](t)(n.ImportKeyMaterial(ctx, &sdk.ImportKeyMaterialInput{
					KeyId: k.KeyId, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrap(t, alg, p.PublicKey, material),
					ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
				}))
				if out.KeyMaterialId != nil {
					ids = append(ids, *out.KeyMaterialId)
				}
			}
			m := n.describe(k)
			if m.KeyState != types.KeyStateEnabled || !m.Enabled || m.ExpirationModel != types.ExpirationModelTypeKeyMaterialDoesNotExpire || m.ValidTo != nil {
				t.Errorf("%s: %+v", kind.spec, m)
			}
			if kind.spec == types.KeySpecSymmetricDefault {
				if len(ids) != 2 || ids[0] != ids[1] || *m.CurrentKeyMaterialId != ids[0] {
					t.Errorf("one material has the ids %v, the key %s", ids, *m.CurrentKeyMaterialId)
				}
			} else if len(ids) != 0 || m.CurrentKeyMaterialId != nil {
				t.Errorf("%s: ids %v", kind.spec, ids)
			}
			n.worksAs(k, material)
		}
	})
}

// Whatever is wrong with what was wrapped, the answer is one.
func TestWrappedMaterialThatIsWrong(t *testing.T) {
	eachImporting(t, func(t *testing.T, n *node) {
		k := n.external(types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
		material := materialFor(t, k.KeySpec)
		for _, alg := range []types.AlgorithmSpec{types.AlgorithmSpecRsaesOaepSha256, types.AlgorithmSpecRsaAesKeyWrapSha256} {
			p := n.parameters(n.Client, k.KeyId, alg)
			good := wrap(t, alg, p.PublicKey, material)
			bad := [][]byte{good[:len(good)-1], good[:1], append(bytes.Clone(good), 0), wrap(t, types.AlgorithmSpecRsaesOaepSha1, p.PublicKey, material), make([]byte, 300)}
			for i := 0; i < len(good); i += 23 {
				bad = append(bad, flipped(good, i))
			}
			for i, b := range bad {
				_, err := n.ImportKeyMaterial(ctx, &sdk.ImportKeyMaterialInput{
					KeyId: k.KeyId, ImportToken: p.ImportToken, EncryptedKeyMaterial: b, ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
				})
				if got := apiError(err); got != "InvalidCiphertextException: " {
					t.Errorf("%s %d: %s", alg, i, got)
				}
			}
		}
		// What comes out whole and is no key of the spec.
		for what, m := range map[string][]byte{"secret": secret(32), "another curve": materialFor(t, types.KeySpecEccSecgP256k1), "cut": material[:len(material)-1]} {
			_, err := n.imports(k, m, nil)
			if code := errorCode(err); code != "IncorrectKeyMaterialException" {
				t.Errorf("%s: %v", what, err)
			}
		}
		n.wantState(k, types.KeyStatePendingImport)
		for _, size := range []int{0, 16, 31, 33} {
			if size == 0 {
				continue // OAEP of nothing is nothing to import
			}
			_, err := n.imports(n.external(types.KeySpecSymmetricDefault, ""), secret(size), nil)
			wantError(t, err, "IncorrectKeyMaterialException", "*")
		}
		for spec, sizes := range map[types.KeySpec][2]int{types.KeySpecHmac224: {28, 128}, types.KeySpecHmac512: {64, 128}} {
			for size, ok := range map[int]bool{sizes[0] - 1: false, sizes[0]: true, sizes[1]: true, sizes[1] + 1: false} {
				mac := n.external(spec, types.KeyUsageTypeGenerateVerifyMac)
				material := secret(size)
				if _, err := n.imports(mac, material, nil); ok {
					if err != nil {
						t.Fatalf("%s of %d bytes: %v", spec, size, err)
					}
					n.worksAs(mac, material)
				} else {
					wantError(t, err, "IncorrectKeyMaterialException", "*")
				}
			}
		}
	})
}

func TestImportMembersThatAreRefused(t *testing.T) {
	eachImporting(t, func(t *testing.T, n *node) {
		k, mac := n.external(types.KeySpecSymmetricDefault, ""), n.external(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
		try := func(k *types.KeyMetadata, change func(*sdk.ImportKeyMaterialInput)) error {
			_, err := n.imports(k, secret(32), change)
			return err
		}
		at := func(d time.Duration) func(*sdk.ImportKeyMaterialInput) { return n.until(d) }
		wantError(t, try(k, func(in *sdk.ImportKeyMaterialInput) { in.ExpirationModel = "" }), "ValidationException", "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
		wantError(t, try(k, func(in *sdk.ImportKeyMaterialInput) { in.ValidTo = ptr(time.Now().Add(time.Hour)) }), "ValidationException", "A validTo date must not be set…")
		wantError(t, try(k, at(-time.Second)), "ValidationException", "The validTo date must be in the future")
		wantError(t, try(k, at(365*24*time.Hour+time.Minute)), "ValidationException", "The validTo date must be at most 365 days in the future")
		wantError(t, try(k, func(in *sdk.ImportKeyMaterialInput) { asNew(in); in.KeyMaterialId = ptr(strings.Repeat("ab", 32)) }), "ValidationException", "You cannot specify KeyMaterialId…")
		for _, change := range []func(*sdk.ImportKeyMaterialInput){
			asNew,
			func(in *sdk.ImportKeyMaterialInput) { in.KeyMaterialDescription = ptr("safe 3") },
			func(in *sdk.ImportKeyMaterialInput) { in.KeyMaterialId = ptr(strings.Repeat("ab", 32)) },
		} {
			wantError(t, try(mac, change), "UnsupportedOperationException", "ImportType, KeyMaterialId and KeyMaterialDescription…")
		}
		ours := n.symmetricKey()
		p := n.parameters(n.Client, k.KeyId, types.AlgorithmSpecRsaesOaepSha256)
		in := &sdk.ImportKeyMaterialInput{
			KeyId: ours.KeyId, ImportToken: p.ImportToken, EncryptedKeyMaterial: []byte("x"), ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
		}
		_, err := n.ImportKeyMaterial(ctx, in)
		wantError(t, err, "UnsupportedOperationException", *ours.Arn+" origin is AWS_KMS which is not valid for this operation.")
		_, err = n.DeleteImportedKeyMaterial(ctx, &sdk.DeleteImportedKeyMaterialInput{KeyId: ours.KeyId})
		wantError(t, err, "UnsupportedOperationException", *ours.Arn+" origin is AWS_KMS which is not valid for this operation.")
		in.KeyId = k.KeyId
		_, err = n.as(account, "getter", allow("kms:GetParametersForImport", "kms:DeleteImportedKeyMaterial")).ImportKeyMaterial(ctx, in)
		wantError(t, err, "AccessDeniedException", "*")
		_, err = n.as(account, "importer", allow("kms:ImportKeyMaterial")).DeleteImportedKeyMaterial(ctx, &sdk.DeleteImportedKeyMaterialInput{KeyId: k.KeyId})
		wantError(t, err, "AccessDeniedException", "*")
		n.wantState(k, types.KeyStatePendingImport)
	})
}

// After the first import only the same material comes in again, and it may.
func TestReimport(t *testing.T) {
	eachImporting(t, func(t *testing.T, n *node) {
		k, mac, ecc := n.external(types.KeySpecSymmetricDefault, ""), n.external(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac), n.external(types.KeySpecEccNistEdwards25519, types.KeyUsageTypeSignVerify)
		for _, key := range []*types.KeyMetadata{k, mac, ecc} {
			material, other := materialFor(t, key.KeySpec), materialFor(t, key.KeySpec)
			id := n.mustImport(key, material, nil)
			var blob []byte
			if key == k {
				blob = encryptSomething(n, key)
			}
			for _, missing := range []bool{false, true} {
				if missing {
					out := n.deleteMaterial(key, nil)
					if *out.KeyId != *key.Arn || deref1(out.KeyMaterialId) != id {
						t.Errorf("deleted %v of %s", out.KeyMaterialId, *out.KeyId)
					}
					n.wantState(key, types.KeyStatePendingImport)
					if m := n.describe(key); m.ExpirationModel != "" || m.ValidTo != nil {
						t.Errorf("without material: %s %v", m.ExpirationModel, m.ValidTo)
					}
					again := n.deleteMaterial(key, nil) // no effect
					if *again.KeyId != *key.Arn {
						t.Errorf("%s", *again.KeyId)
					}
				}
				_, err := n.imports(key, other, nil)
				wantError(t, err, "IncorrectKeyMaterialException", "The key material is not associated with…")
				if got := n.mustImport(key, material, nil); got != id {
					t.Errorf("the same material is %s now, it was %s", got, id)
				}
				n.wantState(key, types.KeyStateEnabled)
				n.worksAs(n.describe(key), material)
			}
			if blob != nil && n.opens(blob) != id {
				t.Error("opened with another material")
			}
		}
		// By its id, too.
		material := secret(32)
		named := n.external(types.KeySpecSymmetricDefault, "")
		id := n.mustImport(named, material, func(in *sdk.ImportKeyMaterialInput) { in.KeyMaterialDescription = ptr("safe 3") })
		n.mustImport(named, material, func(in *sdk.ImportKeyMaterialInput) { in.KeyMaterialId = &id })
		_, err := n.imports(named, material, func(in *sdk.ImportKeyMaterialInput) { in.KeyMaterialId = ptr(strings.Repeat("ab", 32)) })
		wantError(t, err, "IncorrectKeyMaterialException", "The key material is not the one with the id…")
		_, err = n.imports(named, material, asNew)
		wantError(t, err, "IncorrectKeyMaterialException", "The key material is associated with "+*named.Arn+" already.")
		_, err = n.DeleteImportedKeyMaterial(ctx, &sdk.DeleteImportedKeyMaterialInput{KeyId: named.KeyId, KeyMaterialId: ptr(strings.Repeat("ab", 32))})
		wantError(t, err, "NotFoundException", "*")
		// The same material in two keys has two ids: nobody can see that it is the same.
		twin := n.external(types.KeySpecSymmetricDefault, "")
		if n.mustImport(twin, material, nil) == id {
			t.Error("two keys with the same material show it")
		}
		// Before the first import nothing is there to come again.
		_, err = n.imports(n.external(types.KeySpecSymmetricDefault, ""), material, func(in *sdk.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeExistingKeyMaterial })
		wantError(t, err, "IncorrectKeyMaterialException", "The key material is not associated with…")
	})
}

func deref1(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// A symmetric key takes one new material, which waits for its rotation; then the
// key needs both.
func TestNewMaterialWaitsForItsRotation(t *testing.T) {
	eachImporting(t, func(t *testing.T, n *node) {
		k := n.external(types.KeySpecSymmetricDefault, "")
		first, second, third := secret(32), secret(32), secret(32)
		one := n.mustImport(k, first, asNew)
		two := n.mustImport(k, second, asNew)
		if got := *n.describe(k).CurrentKeyMaterialId; got != one || two == one {
			t.Errorf("the current material is %s of %s and %s", got, one, two)
		}
		if got := n.materialStates(k); got != "CURRENT IMPORTED, PENDING_ROTATION IMPORTED" {
			t.Errorf("the materials are %s", got)
		}
		_, err := n.imports(k, third, asNew)
		wantError(t, err, "KMSInvalidStateException", *k.Arn+" has key material that is pending rotation already.")
		_, err = n.imports(k, third, nil)
		wantError(t, err, "IncorrectKeyMaterialException", "*")
		blob := encryptSomething(n, k)

		// A pending one goes without a trace, and the key does not need it.
		n.mustImport(k, second, n.until(time.Hour))
		n.deleteMaterial(k, &two)
		n.wantState(k, types.KeyStateEnabled)
		if got := n.materialStates(k); got != "CURRENT IMPORTED" {
			t.Errorf("the materials are %s", got)
		}
		if _, err := n.imports(k, second, nil); errorCode(err) != "IncorrectKeyMaterialException" {
			t.Errorf("imported as one that was there before: %v", err)
		}
		n.mustImport(k, third, func(in *sdk.ImportKeyMaterialInput) { asNew(in); n.until(time.Hour)(in) })
		n.clock.move(2 * time.Hour)
		n.wantState(k, types.KeyStateEnabled)
		n.runOnce()
		if got := n.materialStates(k); got != "CURRENT IMPORTED" {
			t.Errorf("the materials are %s", got)
		}
		two = n.mustImport(k, second, asNew)
		n.rotateTo(k, two)
		if n.opens(encryptSomething(n, k)) != two || n.opens(blob) != one {
			t.Error("old and new ciphertexts are not opened each with its own")
		}

		// Both are needed from now on, whichever goes.
		for _, id := range []string{one, two} {
			material := map[string][]byte{one: first, two: second}[id]
			n.deleteMaterial(k, &id)
			n.wantState(k, types.KeyStatePendingImport)
			for _, b := range [][]byte{blob} {
				_, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: b})
				wantError(t, err, "KMSInvalidStateException", *k.Arn+" is pending import.")
			}
			_, err := n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p")})
			wantError(t, err, "KMSInvalidStateException", *k.Arn+" is pending import.")
			// A new one may come meanwhile, and changes nothing.
			three := n.mustImport(k, third, asNew)
			n.wantState(k, types.KeyStatePendingImport)
			n.deleteMaterial(k, &three)
			if got := n.mustImport(k, material, nil); got != id {
				t.Errorf("imported %s, not %s", got, id)
			}
			n.wantState(k, types.KeyStateEnabled)
			n.opens(blob)
		}
		for _, id := range []string{one, two} {
			n.deleteMaterial(k, &id)
		}
		n.mustImport(k, second, nil)
		n.wantState(k, types.KeyStatePendingImport)
		if got := n.storedState(k); got != "PendingImport" {
			t.Errorf("%s is stored", got)
		}
		n.mustImport(k, first, nil)
		n.wantState(k, types.KeyStateEnabled)
		n.opens(blob)
	})
}

// Two imports and a deletion at once leave the key as one after the other would.
func TestImportsRace(t *testing.T) {
	eachImporting(t, func(t *testing.T, n *node) {
		k := n.external(types.KeySpecSymmetricDefault, "")
		materials := [][]byte{secret(32), secret(32), secret(32), secret(32)}
		errs := make([]error, len(materials))
		var all sync.WaitGroup
		for i := range materials {
			p := n.parameters(n.Client, k.KeyId, types.AlgorithmSpecRsaesOaepSha256)
			in := &sdk.ImportKeyMaterialInput{
				KeyId: k.KeyId, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrap(t, types.AlgorithmSpecRsaesOaepSha256, p.PublicKey, materials[i]),
				ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
			}
			all.Go(func() { _, errs[i] = n.ImportKeyMaterial(ctx, in) })
		}
		all.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if code := errorCode(err); code != "IncorrectKeyMaterialException" {
				t.Errorf("lost with %v", err)
			}
		}
		if won != 1 || n.materialStates(k) != "CURRENT IMPORTED" {
			t.Errorf("%d imports of different materials won, the materials are %s", won, n.materialStates(k))
		}
	})
}

// Material that came in is nowhere to be read: not in the database, not in the
// audit log, not in the server's, whatever goes wrong with it.
func TestImportedMaterialIsNowhereInTheClear(t *testing.T) {
	dir := t.TempDir()
	n := newNode(t, sqldbtest.Open(t, "sqlite:"+filepath.Join(dir, "keyturn.db")), importing)
	symmetricMaterial, macMaterial, eccMaterial := secret(32), secret(48), materialFor(t, types.KeySpecEccNistP384)
	k, mac, ecc := n.external(types.KeySpecSymmetricDefault, ""), n.external(types.KeySpecHmac384, types.KeyUsageTypeGenerateVerifyMac), n.external(types.KeySpecEccNistP384, types.KeyUsageTypeSignVerify)
	n.mustImport(k, symmetricMaterial, nil)
	n.mustImport(mac, macMaterial, nil)
	n.mustImport(ecc, eccMaterial, nil)
	n.worksAs(mac, macMaterial)
	n.deleteMaterial(mac, nil)
	for _, key := range []*types.KeyMetadata{k, ecc} { // refused, and logged
		_, err := n.imports(key, macMaterial, nil)
		wantError(t, err, "IncorrectKeyMaterialException", "*")
	}
	data := must[*sdk.GenerateDataKeyOutput](t)(n.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: types.DataKeySpecAes256}))
	pair := must[*sdk.GenerateDataKeyPairOutput](t)(n.GenerateDataKeyPair(ctx, &sdk.GenerateDataKeyPairInput{KeyId: k.KeyId, KeyPairSpec: types.DataKeyPairSpecEccNistP256}))
	n.runOnce()
	secrets := map[string][]byte{
		"the symmetric material": symmetricMaterial, "the HMAC material": macMaterial, "the private number": eccMaterial[len(eccMaterial)-160:][:48],
		"the private key": eccMaterial[40:72], "the data key": data.Plaintext, "the private key of the pair": pair.PrivateKeyPlaintext[36:68],
		"the wrapping key": wrappingMaterial()[300:332],
	}
	places := map[string][]byte{"the server's log": n.logs.Bytes()}
	for _, d := range []string{dir, n.auditDir} {
		err := filepath.WalkDir(d, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			places[path] = content
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(places) < 3 {
		t.Fatalf("only %d places", len(places))
	}
	for place, content := range places {
		for what, s := range secrets {
			if found := containsInAnyForm(content, s); found != "" {
				t.Errorf("%s stands in %s (%s)", what, place, found)
			}
		}
	}
	if containsInAnyForm(append([]byte("x"), symmetricMaterial...), symmetricMaterial) == "" {
		t.Error("the search finds nothing")
	}
}

// containsInAnyForm looks for the bytes themselves, in hex and in base64.
func containsInAnyForm(content, s []byte) string {
	switch {
	case bytes.Contains(content, s):
		return "as it is"
	case bytes.Contains(bytes.ToLower(content), []byte(hex.EncodeToString(s))):
		return "in hex"
	}
	for skip := range 3 { // base64 depends on where in three bytes it begins
		encoded := base64.RawStdEncoding.EncodeToString(s[skip : skip+3*((len(s)-skip)/3)])
		if bytes.Contains(content, []byte(encoded)) || bytes.Contains(content, []byte(strings.NewReplacer("+", "-", "/", "_").Replace(encoded))) {
			return "in base64"
		}
	}
	return ""
}

// The primary key decides which materials there are; each kin gets its own import
// of each, and works when it has all of its own.
func TestImportIntoMultiRegionKeys(t *testing.T) {
	const west = "us-west-2"
	eachImporting(t, func(t *testing.T, n *node) {
		there := n.in(west)
		k := n.createWith(&sdk.CreateKeyInput{Origin: types.OriginTypeExternal, MultiRegion: ptr(true)})
		first, second := secret(32), secret(32)
		one := n.mustImport(k, first, nil)
		replica := n.replicate(k, west)
		if replica.KeyState != types.KeyStatePendingImport {
			t.Errorf("a new replica is %s", replica.KeyState)
		}
		into := func(c *sdk.Client, material []byte, change func(*sdk.ImportKeyMaterialInput)) error {
			_, err := n.importsBy(c, k, material, change)
			return err
		}
		stateThere := func() types.KeyState {
			return must[*sdk.DescribeKeyOutput](t)(there.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId})).KeyMetadata.KeyState
		}
		both := func(want string) {
			t.Helper()
			if here, away := n.materialStates(k), n.materialStates(replica); here+" / "+away != want {
				t.Errorf("the materials are %s / %s, want %s", here, away, want)
			}
		}
		both("CURRENT IMPORTED / CURRENT PENDING_IMPORT")
		n.wantState(k, types.KeyStateEnabled)
		if got := stateThere(); got != types.KeyStatePendingImport {
			t.Errorf("the replica is %s", got)
		}
		wantError(t, into(there, second, nil), "IncorrectKeyMaterialException", "*")
		wantError(t, into(there, second, asNew), "UnsupportedOperationException", "New key material of a multi-Region key is imported into its primary key first…")
		// A token of one kin is none of another.
		const alg = types.AlgorithmSpecRsaesOaepSha256
		p := n.parameters(n.Client, k.KeyId, alg)
		_, err := there.ImportKeyMaterial(ctx, &sdk.ImportKeyMaterialInput{
			KeyId: k.KeyId, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrap(t, alg, p.PublicKey, first), ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
		})
		wantError(t, err, "InvalidImportTokenException", "")
		blob := encryptSomething(n, k)
		if err := into(there, first, n.until(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if out, err := there.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob}); err != nil || *out.KeyMaterialId != one {
			t.Errorf("the replica does not open what the primary key made: %v", err)
		}

		n.mustImport(k, second, asNew)
		const missing = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
		both("CURRENT IMPORTED, " + missing + " IMPORTED / CURRENT IMPORTED, " + missing + " PENDING_IMPORT")
		wantError(t, into(there, second, asNew), "IncorrectKeyMaterialException", "*")
		if err := into(there, second, nil); err != nil {
			t.Fatal(err)
		}
		both("CURRENT IMPORTED, PENDING_ROTATION IMPORTED / CURRENT IMPORTED, PENDING_ROTATION IMPORTED")
		two := n.pendingMaterial(k)
		must[*sdk.DeleteImportedKeyMaterialOutput](t)(there.DeleteImportedKeyMaterial(ctx, &sdk.DeleteImportedKeyMaterialInput{KeyId: k.KeyId, KeyMaterialId: &two}))
		both("CURRENT IMPORTED, " + missing + " IMPORTED / CURRENT IMPORTED, " + missing + " PENDING_IMPORT")
		_, err = n.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: k.KeyId})
		wantError(t, err, "KMSInvalidStateException", *k.Arn+" has no imported key material that is pending rotation.")
		n.deleteMaterial(k, &two)
		both("CURRENT IMPORTED / CURRENT IMPORTED")
		n.mustImport(k, second, asNew)
		if err := into(there, second, nil); err != nil {
			t.Fatal(err)
		}
		n.rotateTo(k, two)
		both("NON_CURRENT IMPORTED, CURRENT IMPORTED / NON_CURRENT IMPORTED, CURRENT IMPORTED")
		if n.opens(encryptSomething(n, k)) != two || n.opens(blob) != one {
			t.Error("old and new ciphertexts are not opened each with its own")
		}

		// What goes in one Region is there in the other, and a new replica has none.
		n.clock.move(2 * time.Hour)
		n.runOnce()
		both("NON_CURRENT IMPORTED, CURRENT IMPORTED / NON_CURRENT PENDING_IMPORT, CURRENT IMPORTED")
		n.wantState(k, types.KeyStateEnabled)
		if got := stateThere(); got != types.KeyStatePendingImport {
			t.Errorf("the replica is %s", got)
		}
		n.mustImport(k, secret(32), asNew)
		east := n.replicate(k, "us-east-1")
		if got := n.materialStates(east); got != "NON_CURRENT PENDING_IMPORT, CURRENT PENDING_IMPORT, "+missing+" PENDING_IMPORT" {
			t.Errorf("a new replica has %s", got)
		}
	})
}

func (n *node) pendingMaterial(k *types.KeyMetadata) (id string) {
	n.t.Helper()
	err := n.db.QueryRow(ctx, `SELECT material_id FROM kms_materials WHERE key_arn = $1 AND state = 'PENDING_ROTATION'`, *k.Arn).Scan(&id)
	if err != nil {
		n.t.Fatal(err)
	}
	return id
}
