package rotators_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"maps"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/rotation"
)

// A watch looks at the whole state after every call and says which of the invariants of a rotation does not hold.
// It works as the users of the lineage do: a signer who signs by the alias at every moment, verifiers who fetched the
// JWK set at every moment there has been and keep it for as long as the publication lead allows, and others who let
// the server verify by the alias. The lineage must be of spec ECC_NIST_P256.
type watch struct {
	h      *house
	policy rotation.Policy
	arn    string // of the alias
	row    string // id of the rotation that is watched
	urgent bool   // invariants 2 and 3 do not hold: a key is compromised

	regions []string // other Regions whose alias turns with it

	sets   []keySet
	signed map[string]signature // key ARN → the last signature made with it through the alias
	broken []string
}

// keySet is the JWK set as a verifier fetched it: key ARN → SubjectPublicKeyInfo.
type keySet struct {
	at   time.Time
	keys map[string]string
}

type signature struct {
	message, bytes []byte
}

func (h *house) watch(policy rotation.Policy, row string) *watch {
	return &watch{
		h: h, policy: policy, row: row, signed: map[string]signature{},
		arn: "arn:aws:kms:" + region + ":" + account + ":" + policy.Alias,
	}
}

func (w *watch) break_(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// look checks everything once.
func (w *watch) look() {
	w.h.t.Helper()
	ctx := context.Background() // the engine may be dead; its users are not
	gens := w.generations(ctx)
	w.fetch(gens)
	current := w.sign(ctx, region)
	for _, other := range w.regions {
		w.lookAtRegion(current, w.sign(ctx, other), other)
	}
	if !w.urgent {
		w.verify(ctx, gens)
	}
	w.countKeys(ctx)
	w.lookAtRow(ctx, current)
}

// sign is invariant 1: the alias names an enabled key that does its job; and 2: every verifier knows it by now. It answers
// the key by its ARN in the Region of the policy.
func (w *watch) sign(ctx context.Context, in string) (key string) {
	message := []byte("a token")
	out, err := w.h.in(in).Sign(ctx, &sdk.SignInput{KeyId: &w.policy.Alias, Message: message, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
	if err != nil {
		w.break_("1: signing by the alias in %s: %v", in, err)
		return ""
	}
	key = strings.Replace(*out.KeyId, ":"+in+":", ":"+region+":", 1)
	w.signed[key] = signature{message, out.Signature}
	if w.urgent {
		return key
	}
	now := w.h.clock.Now()
	for _, set := range w.sets {
		if !now.Before(set.at.Add(time.Duration(w.policy.Lead))) {
			continue // this verifier has fetched again
		}
		if !verifies(set.keys[key], message, out.Signature) {
			w.break_("2: at %s a verifier who fetched the set at %s does not know %s", at(now), at(set.at), key)
			return key
		}
	}
	return key
}

func at(t time.Time) string { return t.Format("Jan 2 15:04:05.000") }

func verifies(spki string, message, signature []byte) bool {
	key, err := x509.ParsePKIXPublicKey([]byte(spki))
	if err != nil {
		return false
	}
	digest := sha256.Sum256(message)
	return ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), digest[:], signature)
}

// fetch is a verifier who comes now.
func (w *watch) fetch(gens []rotation.Generation) {
	set := keySet{at: w.h.clock.Now(), keys: map[string]string{}}
	for _, g := range gens {
		if g.State != rotation.StatePreActivation || !g.PublishedAt.IsZero() {
			set.keys[g.Key] = string(g.Public)
		}
	}
	if n := len(w.sets); n > 0 && maps.Equal(w.sets[n-1].keys, set.keys) && w.sets[n-1].at.Equal(set.at) {
		return
	}
	w.sets = append(w.sets, set)
}

// verify is invariant 3: what was made through the alias verifies through the lineage until the overlap ends.
func (w *watch) verify(ctx context.Context, gens []rotation.Generation) {
	now := w.h.clock.Now()
	for key, s := range w.signed {
		if g := find(gens, key); g != nil && !g.OverlapEnds.IsZero() && !now.Before(g.OverlapEnds) {
			continue
		}
		if w.over(ctx, key, now) {
			continue
		}
		for _, in := range append([]string{region}, w.regions...) {
			_, err := w.h.in(in).Verify(ctx, &sdk.VerifyInput{
				KeyId: &w.policy.Alias, Message: s.message, Signature: s.bytes, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
			})
			if err != nil {
				w.break_("3: at %s what %s has signed no longer verifies by the alias in %s: %v", at(now), key, in, err)
			}
		}
		if n := len(w.sets); n > 0 && w.sets[n-1].keys[key] == "" {
			w.break_("3: at %s the set lacks %s, whose signatures are still in use", at(now), key)
		}
	}
}

// over reports whether the overlap of a generation that usable generations no longer show has ended.
func (w *watch) over(ctx context.Context, key string, now time.Time) bool {
	var ends int64
	err := w.h.db.QueryRow(ctx, `SELECT overlap_ends FROM generations WHERE alias_arn = $1 AND key_arn = $2`, w.arn, key).Scan(&ends)
	return err == nil && ends != 0 && now.UnixMicro() >= ends
}

func find(gens []rotation.Generation, key string) *rotation.Generation {
	for i := range gens {
		if gens[i].Key == key {
			return &gens[i]
		}
	}
	return nil
}

// countKeys is invariant 4: keys created ≤ rotations begun, and never two for one.
func (w *watch) countKeys(ctx context.Context) {
	var made, begun int
	w.scan(ctx, &made, `SELECT count(DISTINCT k.key_id) FROM kms_tags t JOIN kms_keys k ON k.arn = t.key_arn
		WHERE t.tag_key = 'keyturn:lineage' AND t.tag_value = $1`, w.arn)
	w.scan(ctx, &begun, `SELECT count(*) FROM rotations r JOIN rotation_policies p ON p.arn = r.policy
		WHERE p.alias_arn = $1 AND r.begun_at > 0 AND r.kind IN ('rotate', 'cancel', 'compromise')`, w.arn)
	if made > begun {
		w.break_("4: %d keys for %d rotations", made, begun)
	}
}

func (w *watch) scan(ctx context.Context, to *int, query string, args ...any) {
	if err := w.h.db.QueryRow(ctx, query, args...).Scan(to); err != nil {
		w.break_("reading the state: %v", err)
	}
}

// lookAtRow is invariants 5, 6 and 7.
func (w *watch) lookAtRow(ctx context.Context, current string) {
	var heads int
	w.scan(ctx, &heads, `SELECT count(*) FROM rotations r JOIN rotation_policies p ON p.arn = r.policy WHERE p.alias_arn = $1 AND r.head = 1`, w.arn)
	if heads != 1 {
		w.break_("7: the policy has %d next rotations", heads)
	}
	r := w.h.rotation(w.row)
	switch {
	case r.Status == rotation.StatusFailed && !r.Switched && current != r.OldKey:
		w.break_("5: the rotation has failed and the alias names %s", current)
	case r.NewKey != "" && current == r.NewKey && r.DoneAt[rotation.StepTest].IsZero():
		w.break_("6: the alias names a key that has not been tested")
	case r.Switched && r.Kind == rotation.KindRotate && current != r.NewKey:
		w.break_("the rotation has switched and the alias names %s", current)
	case r.Kind == rotation.KindRotate && !r.DoneAt[rotation.StepPublish].IsZero() && !r.Begun && !r.Switched:
		w.name("next", r.NewKey)
	case r.Kind != rotation.KindCancel && !r.DoneAt[rotation.StepDeactivate].IsZero() && r.DoneAt[rotation.StepDestroy].IsZero():
		w.name("previous", r.OldKey)
	}
}

// lookAtRegion is what must hold of another Region: the home alias goes first and comes back last, and outside of the
// switch both name the same key.
func (w *watch) lookAtRegion(home, other, in string) {
	r := w.h.rotation(w.row)
	switching := r.Step == rotation.StepSwitch && r.Begun
	if other != home && !switching || other == r.NewKey && home == r.OldKey {
		w.break_("the alias names %s here and %s in %s, at step %s", home, other, in, r.Step)
	}
}

// name checks one of the names beside the alias.
func (w *watch) name(side, key string) {
	if got := w.h.names(w.policy.Alias + "/" + side); got != key {
		w.break_("alias/x/%s names %q, not %s", side, got, key)
	}
}

func (w *watch) generations(ctx context.Context) []rotation.Generation {
	info, err := w.h.service.Generations(ctx, account, region, w.policy.Alias)
	if err != nil {
		w.break_("reading the lineage: %v", err)
		return nil
	}
	return info.Generations
}
