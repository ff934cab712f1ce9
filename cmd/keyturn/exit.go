package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"charm.land/fang/v2"
	"golang.org/x/term"
)

// Exit codes, also in docs/cli.md.
const (
	exitOK          = 0 // done
	exitFailed      = 1 // the operation was tried and failed
	exitUsage       = 2 // wrong flags, arguments or files: nothing was tried
	exitUnavailable = 3 // no answer from the server: the operation may have happened
	exitDenied      = 4 // the server knows the caller and says no, or does not know it
	exitNotFound    = 5 // what was named does not exist
	exitInterrupted = 130
)

// cliError is an error with what a person can do about it.
type cliError struct {
	err  error
	hint string
	code int
}

func (e *cliError) Error() string { return e.err.Error() }
func (e *cliError) Unwrap() error { return e.err }

// because sets what went wrong.
func (e *cliError) because(format string, args ...any) *cliError {
	e.err = fmt.Errorf(format, args...)
	return e
}

// usageError is for bad input: nothing was tried.
func usageError(err error, hint string, args ...any) *cliError {
	return &cliError{err: err, hint: fmt.Sprintf(hint, args...), code: exitUsage}
}

// failure is for an operation that was tried.
func failure(err error, hint string, args ...any) *cliError {
	return &cliError{err: err, hint: fmt.Sprintf(hint, args...), code: exitFailed}
}

func exitCode(err error) int {
	var withCode *cliError
	var api *apiError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &withCode):
		return withCode.code
	case errors.As(err, &api):
		return api.exitCode()
	}
	return exitFailed
}

// printError writes the error and its hint, each on lines of its own, without
// decoration, so that a log or a script reads the same as a person.
func printError(w io.Writer, _ fang.Styles, err error) {
	if errors.Is(err, errSilent) {
		return
	}
	fmt.Fprintf(w, "error: %s\n", strings.TrimSpace(err.Error()))
	var withHint *cliError
	var api *apiError
	switch {
	case errors.As(err, &withHint) && withHint.hint != "":
		fmt.Fprintf(w, "hint: %s\n", withHint.hint)
	case errors.As(err, &api) && api.hint() != "":
		fmt.Fprintf(w, "hint: %s\n", api.hint())
	}
}

// errSilent ends a command with exit code 1 after it has said all itself.
var errSilent = errors.New("failed")

func isTTY(fd uintptr) bool { return term.IsTerminal(int(fd)) }
