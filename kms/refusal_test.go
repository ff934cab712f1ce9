package kms_test

import (
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// A disabled key counts who was turned away although he may use it; who may
// not use it anyway does not keep a key alive; and disabling it again begins anew.
func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		refused := func(since time.Time) (int, string) {
			t.Helper()
			calls, last, by, err := n.service.Refused(ctx, *k.Arn, since)
			if err != nil {
				t.Fatal(err)
			}
			if calls > 0 && time.Since(last).Abs() > time.Minute {
				t.Errorf("last refused at %s", last)
			}
			return calls, by
		}
		signAs := func(c *sdk.Client) error {
			_, err := c.Sign(ctx, &sdk.SignInput{KeyId: k.Arn, Message: []byte("m"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
			return err
		}
		hour := time.Now().Add(-time.Hour)
		if err := signAs(n.Client); err != nil {
			t.Fatal(err)
		}
		if calls, _ := refused(hour); calls != 0 {
			t.Errorf("an enabled key turned %d calls away", calls)
		}
		n.disable(k)
		wantError(t, signAs(n.as(account, "stranger", "")), "AccessDeniedException", "*")
		if calls, _ := refused(hour); calls != 0 {
			t.Errorf("%d calls count of one who may not use the key", calls)
		}
		clerk := n.as(account, "clerk", allow("kms:Sign"))
		for range 3 {
			wantError(t, signAs(clerk), "DisabledException", "*")
		}
		if calls, by := refused(hour); calls != 3 || by != "arn:aws:iam::"+account+":user/clerk" {
			t.Errorf("%d calls turned away, the last by %s; want 3 by clerk", calls, by)
		}
		if calls, _ := refused(time.Now().Add(time.Hour)); calls != 0 {
			t.Errorf("%d calls turned away in the future", calls)
		}
		n.runOnce()
		wantError(t, signAs(clerk), "DisabledException", "*")
		if calls, _ := refused(hour); calls != 4 {
			t.Errorf("%d calls turned away before and after they were written down, want 4", calls)
		}
		n.enable(k)
		n.disable(k)
		if calls, _ := refused(hour); calls != 0 {
			t.Errorf("%d calls of an earlier suspension count", calls)
		}
	})
}
