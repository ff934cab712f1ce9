package server

import (
	"errors"
	"io/fs"

	"github.com/keyturn/keyturn/keystore/software"
	"github.com/keyturn/keyturn/sqldb"
)

// configError is a mistake in the configuration: nothing was touched.
type configError struct{ err error }

func (e *configError) Error() string { return e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

// IsConfigError reports whether an error of Open is a mistake in the configuration.
func IsConfigError(err error) bool {
	var config *configError
	return errors.As(err, &config)
}

// Hint says what can be done about an error of Open, or nothing.
func Hint(err error) string {
	var hinted interface{ Hint() string }
	var config *configError
	switch {
	case errors.As(err, &config):
		return "mend the flags, the environment or the configuration file; nothing was touched"
	case errors.As(err, &hinted):
		return hinted.Hint()
	case errors.Is(err, sqldb.ErrInUse):
		return "stop the other server, or give this one a data folder of its own with --data"
	case errors.Is(err, software.ErrRootKeyMissing), errors.Is(err, software.ErrRootKeyWrong), errors.Is(err, software.ErrRootKeyDamaged):
		return "put back the root key that this database was made with (docs/server.md); nothing was touched"
	case errors.Is(err, software.ErrRootKeyExposed):
		return "when others may have read it, treat what it protects as read; nothing was touched"
	case errors.Is(err, software.ErrPassphrase):
		return "--passphrase-file names a file that holds the passphrase and nothing else; nothing was touched"
	case errors.Is(err, software.ErrKeysetDamaged):
		return "restore the database from a backup; nothing was touched"
	case errors.Is(err, fs.ErrPermission):
		return "the user who runs the server must own its data folder"
	}
	return ""
}
