package kms_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/keystore/software"
	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// When a key is warm, using it reads nothing from the database: here there is
// none any more.
func TestWarmKeysNeedNoDatabase(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "keyturn.db")
	db, err := sqldb.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, db, options{})
	var warm []func() error
	for op, a := range everyOperation {
		switch op {
		case "Sign", "Verify", "GetPublicKey", "Encrypt", "Decrypt", "ReEncrypt", "GenerateMac", "VerifyMac",
			"DeriveSharedSecret", "Encapsulate", "Decapsulate":
		default:
			continue
		}
		k := n.create(a.spec, a.usage)
		var made []byte
		if a.before != nil {
			made = a.before(n, k)
		}
		// By alias as well as by id.
		alias := "alias/" + op
		n.alias(alias, k)
		byAlias := *k
		byAlias.KeyId = &alias
		for _, k := range []*types.KeyMetadata{k, &byAlias} {
			warm = append(warm, func() error {
				if err := a.run(n, k, made); err != nil {
					return fmt.Errorf("%s of %s: %w", op, *k.KeyId, err)
				}
				return nil
			})
		}
	}
	for _, run := range warm {
		if err := run(); err != nil {
			t.Error(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, run := range warm {
			if err := run(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: aws.String("alias/Sign")}); err == nil {
		t.Error("the database is not closed at all")
	}
}

// Once DisableKey has returned no request that begins afterwards uses the key,
// however loads and changes race.
func TestDisabledMeansDisabled(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		n.alias("alias/x", k)
		stop := make(chan struct{})
		var disabled atomic.Int64 // odd while the key is certainly disabled
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					before := disabled.Load()
					_, err := n.sign("alias/x", "m")
					after := disabled.Load()
					switch code := errorCode(err); {
					case code != "" && code != "DisabledException":
						t.Errorf("Sign: %v", err)
					case code == "" && before%2 == 1 && before == after:
						t.Error("signed with a disabled key")
					}
				}
			})
		}
		for range 40 {
			n.disable(k)
			disabled.Add(1)
			if _, err := n.sign("alias/x", "m"); errorCode(err) != "DisabledException" {
				t.Errorf("right after DisableKey: %v", err)
			}
			disabled.Add(1)
			n.enable(k)
			if _, err := n.sign("alias/x", "m"); err != nil {
				t.Errorf("right after EnableKey: %v", err)
			}
		}
		close(stop)
		wg.Wait()
	})
}

// Two nodes on one database: what one changes the other obeys within a second.
func TestTwoNodes(t *testing.T) {
	url := sqldbtest.Postgres(t)
	root := software.RootKeyFile(filepath.Join(t.TempDir(), "root.key"))
	a := newNode(t, sqldbtest.Open(t, url), options{root: root})
	b := newNode(t, sqldbtest.Open(t, url), options{root: root})
	k, second := a.signingKey(), a.signingKey()
	a.alias("alias/x", k)
	signature, err := b.sign("alias/x", "m")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.verify("alias/x", "m", signature); err != nil {
		t.Error(err)
	}
	// within fails the test unless what becomes true does so in time, and stays.
	within := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Second); ; runtime.Gosched() {
			began := time.Now()
			if ok() {
				break
			}
			if began.After(deadline) {
				t.Errorf("%s: not after a second", what)
				return
			}
		}
		for range 20 {
			if !ok() {
				t.Errorf("%s: and back again", what)
			}
		}
	}
	a.disable(k)
	within("disabled elsewhere", func() bool {
		_, err := b.sign("alias/x", "m")
		return errorCode(err) == "DisabledException"
	})
	b.enable(k)
	within("enabled elsewhere", func() bool { _, err := a.sign("alias/x", "m"); return err == nil })
	a.moveAlias("alias/x", second)
	within("alias moved elsewhere", func() bool {
		signature, err := b.sign("alias/x", "m")
		if err != nil {
			return false
		}
		_, err = b.verify(*second.Arn, "m", signature)
		return err == nil
	})
	deny := `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Deny","Principal":{"AWS":"` + account + `"},"Action":"kms:Sign","Resource":"*"}]}`
	if _, err := a.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: second.KeyId, Policy: &deny}); err != nil {
		t.Fatal(err)
	}
	within("policy put elsewhere", func() bool {
		_, err := b.sign("alias/x", "m")
		return errorCode(err) == "AccessDeniedException"
	})
	if _, err := a.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: aws.String("alias/x")}); err != nil {
		t.Fatal(err)
	}
	within("alias deleted elsewhere", func() bool {
		_, err := b.sign("alias/x", "m")
		return errorCode(err) == "NotFoundException"
	})
}

// counting counts how often keys are opened and closed.
type counting struct {
	keystore.Backend
	opened, closed atomic.Int64
}

type countingKey struct {
	keystore.Key
	by *counting
}

func (c *counting) Open(ctx context.Context, ref keystore.Ref, spec keystore.Spec, handle []byte) (keystore.Key, error) {
	k, err := c.Backend.Open(ctx, ref, spec, handle)
	if err != nil {
		return nil, err
	}
	c.opened.Add(1)
	return &countingKey{k, c}, nil
}

func (k *countingKey) Close() { k.by.closed.Add(1); k.Key.Close() }

// Keys that were not used for a while are dropped, their material is closed,
// and no more are kept than configured. A change that leaves the material alone
// does not open it again.
func TestSnapshotsAreBounded(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		var store counting
		n := newNode(t, db, options{
			backend: func(b keystore.Backend) keystore.Backend { store.Backend = b; return &store },
			config:  func(c *kms.Config) { c.MaxSnapshots = 8 },
		})
		k := n.signingKey()
		for i := range 5 {
			if _, err := n.UpdateKeyDescription(ctx, &sdk.UpdateKeyDescriptionInput{KeyId: k.KeyId, Description: aws.String(fmt.Sprint(i))}); err != nil {
				t.Fatal(err)
			}
			if _, err := n.sign(*k.KeyId, "m"); err != nil {
				t.Fatal(err)
			}
		}
		if opened := store.opened.Load(); opened != 1 {
			t.Errorf("material opened %d times", opened)
		}
		for i := range 20 {
			k := n.signingKey()
			n.alias(fmt.Sprintf("alias/%d", i), k)
			if _, err := n.sign(fmt.Sprintf("alias/%d", i), "m"); err != nil {
				t.Fatal(err)
			}
		}
		if keys, aliases := n.service.Snapshots(); keys > 8 || aliases > 8 || keys < 4 {
			t.Errorf("%d keys and %d aliases are kept", keys, aliases)
		}
		n.clock.move(time.Hour)
		if _, err := n.service.RunOnce(ctx); err != nil {
			t.Fatal(err)
		}
		if keys, aliases := n.service.Snapshots(); keys != 0 || aliases != 0 {
			t.Errorf("%d keys and %d aliases are kept after an idle hour", keys, aliases)
		}
		deadline := time.Now().Add(10 * time.Second)
		for store.closed.Load() < store.opened.Load() {
			if time.Now().After(deadline) {
				t.Fatalf("%d keys were opened, %d closed", store.opened.Load(), store.closed.Load())
			}
			runtime.GC()
		}
		if _, err := n.sign(*k.KeyId, "m"); err != nil {
			t.Error(err)
		}
	})
}

// Many requests for a cold key load it once.
func TestColdKeysAreLoadedOnce(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		var store counting
		n := newNode(t, db, options{backend: func(b keystore.Backend) keystore.Backend { store.Backend = b; return &store }})
		k := n.signingKey()
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if _, err := n.sign(*k.KeyId, "m"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if opened := store.opened.Load(); opened != 1 {
			t.Errorf("material opened %d times", opened)
		}
	})
}

// gate is a Lineages that holds the first load until it is told.
type gate struct {
	entered, open chan struct{}
	passed        atomic.Bool
}

func (*gate) Lineage(context.Context, string) ([]string, error) { return nil, nil }

func (g *gate) Deactivated(context.Context, string) (bool, error) {
	if !g.passed.Swap(true) {
		close(g.entered)
		<-g.open
	}
	return false, nil
}

// A load that began before a change: who comes after the change neither gets
// its result nor finds it kept.
func TestALoadOvertakenByAChange(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		g := &gate{entered: make(chan struct{}), open: make(chan struct{})}
		n.service.SetLineages(g)
		first := make(chan error)
		go func() {
			_, err := n.sign(*k.KeyId, "m")
			first <- err
		}()
		<-g.entered // it has read that the key is enabled
		n.disable(k)
		_, err := n.sign(*k.KeyId, "m")
		wantError(t, err, "DisabledException", "*")
		close(g.open)
		if err := <-first; err != nil {
			t.Errorf("the request from before the change: %v", err)
		}
		_, err = n.sign(*k.KeyId, "m")
		wantError(t, err, "DisabledException", "*")
	})
}
