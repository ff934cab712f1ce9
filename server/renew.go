package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyturn/keyturn/access"
)

// RenewAdmin gives the administrator of the account a new access key in place of
// any it had, and its policy back. It opens the house as Open does, so it needs the
// database, which on SQLite no server may have open, and the root key. Unlike Open it
// makes neither: on a folder that no server has used it changes nothing.
func RenewAdmin(ctx context.Context, c Config) (accessKeyID string, secret access.Secret, err error) {
	full, err := c.withDefaults()
	if err != nil {
		return "", secret, &configError{err}
	}
	needed := []string{full.Data}
	if c.Database == "" {
		needed = append(needed, filepath.Join(full.Data, "keyturn.db"))
	}
	if full.RootKey.Passphrase == "" {
		needed = append(needed, full.RootKey.File)
	}
	for _, name := range needed {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return "", secret, &configError{fmt.Errorf("no server has used the data folder %s yet: %w", full.Data, err)}
		}
	}
	s, err := Open(ctx, c)
	if err != nil {
		return "", secret, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.guard.RenewAdmin(ctx, s.config.Account)
}
