package software_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/keystore/keystoretest"
	"github.com/keyturn/keyturn/keystore/software"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

func open(t testing.TB, db *sqldb.DB, root software.RootKey) *software.Store {
	t.Helper()
	store, err := software.Open(context.Background(), db, root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func TestContract(t *testing.T) {
	db := sqldbtest.SQLite(t)
	root := software.RootKeyFile(filepath.Join(t.TempDir(), "root.key"))
	keystoretest.Run(t, keystoretest.Harness{
		Open: func(t *testing.T) keystore.Backend { return software.MakesNothingAhead(open(t, db, root)) },
	})
}

func TestKeysetIsMadeOnceAndOpensAgain(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		ctx := context.Background()
		root := software.RootKeyFile(filepath.Join(t.TempDir(), "root.key"))
		ref := keystore.Ref{Account: "111122223333", KeyID: "k", MaterialID: "m"}

		// Several nodes open what the first has made.
		stores := make([]*software.Store, 4)
		errs := make([]error, len(stores))
		first := open(t, db, root)
		handle, err := first.Generate(ctx, ref, keystore.HMAC256)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range stores {
			wg.Go(func() { stores[i], errs[i] = software.Open(ctx, db, root) })
		}
		wg.Wait()
		for i, store := range stores {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			defer store.Close()
			key, err := store.Open(ctx, ref, keystore.HMAC256, handle)
			if err != nil {
				t.Fatalf("store %d has another keyset: %v", i, err)
			}
			key.Close()
		}
	})
}

func TestNodesThatStartTogetherShareOneKeyset(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		ctx := context.Background()
		root := software.WeakPassphrase("correct horse battery staple")
		stores := make([]*software.Store, 8)
		errs := make([]error, len(stores))
		var wg sync.WaitGroup
		for i := range stores {
			wg.Go(func() { stores[i], errs[i] = software.Open(ctx, db, root) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		sealed, err := stores[0].Sealer("test").Seal([]byte("secret"), []byte("row"))
		if err != nil {
			t.Fatal(err)
		}
		for i, store := range stores {
			defer store.Close()
			if got, err := store.Sealer("test").Open(sealed, []byte("row")); err != nil || string(got) != "secret" {
				t.Errorf("store %d: %q, %v", i, got, err)
			}
		}
	})
}

func TestSealer(t *testing.T) {
	store := open(t, sqldbtest.SQLite(t), software.WeakPassphrase("correct horse battery staple"))
	sealer := store.Sealer("access keys")
	secret := []byte("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
	sealed, err := sealer.Seal(secret, []byte("AKIAIOSFODNN7EXAMPLE"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, secret[:8]) {
		t.Error("the secret stands in what was sealed")
	}
	if got, err := sealer.Open(sealed, []byte("AKIAIOSFODNN7EXAMPLE")); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := sealer.Open(sealed, []byte("AKIAI44QH8DHBEXAMPLE")); err == nil {
		t.Error("opened in another row")
	}
	if _, err := store.Sealer("secrets").Open(sealed, []byte("AKIAIOSFODNN7EXAMPLE")); err == nil {
		t.Error("opened for another purpose")
	}
	if _, err := store.Sealer("access keysA").Open(sealed, []byte("KIAIOSFODNN7EXAMPLE")); err == nil {
		t.Error("purpose and row run into each other")
	}
	altered := bytes.Clone(sealed)
	altered[len(altered)-1] ^= 1
	if _, err := sealer.Open(altered, []byte("AKIAIOSFODNN7EXAMPLE")); err == nil {
		t.Error("opened although altered")
	}
	ref := keystore.Ref{Account: "111122223333", KeyID: "k", MaterialID: "m"}
	if _, err := store.Open(t.Context(), ref, keystore.HMAC256, sealed); !errors.Is(err, keystore.ErrInvalidHandle) {
		t.Errorf("a sealed secret as key material: %v", err)
	}
}

// Whoever can write to the database swaps the materials of two keys.
func TestSwappedRowsDoNotOpen(t *testing.T) {
	ctx := t.Context()
	store := open(t, sqldbtest.SQLite(t), software.WeakPassphrase("correct horse battery staple"))
	mine := keystore.Ref{Account: "111122223333", KeyID: "mine", MaterialID: "m1"}
	victims := keystore.Ref{Account: "444455556666", KeyID: "victims", MaterialID: "m1"}
	a, err := store.Generate(ctx, mine, keystore.SymmetricDefault)
	if err != nil {
		t.Fatal(err)
	}
	b, err := store.Generate(ctx, victims, keystore.SymmetricDefault)
	if err != nil {
		t.Fatal(err)
	}
	for ref, handle := range map[keystore.Ref][]byte{mine: b, victims: a} {
		if _, err := store.Open(ctx, ref, keystore.SymmetricDefault, handle); !errors.Is(err, keystore.ErrInvalidHandle) {
			t.Errorf("row of %s with the other's material: %v", ref.KeyID, err)
		}
	}
	// A material of an earlier time of the same key, put back.
	old := mine
	old.MaterialID = "m0"
	c, err := store.Generate(ctx, old, keystore.SymmetricDefault)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(ctx, mine, keystore.SymmetricDefault, c); !errors.Is(err, keystore.ErrInvalidHandle) {
		t.Errorf("another material of the key: %v", err)
	}
}
