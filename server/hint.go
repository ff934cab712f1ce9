package server

import (
	"errors"
	"io/fs"
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
	case errors.Is(err, fs.ErrPermission):
		return "the user who runs the server must own its data folder"
	}
	return ""
}
