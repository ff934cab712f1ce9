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

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnavailable = 3
	exitDenied      = 4
	exitNotFound    = 5
	exitInterrupted = 130
)

// exitCodes is what they mean, as docs/cli.md prints it.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitOK, "done"},
	{exitFailed, "it was tried and failed, was refused in the present state, or a check said no"},
	{exitUsage, "wrong flags, arguments, files or configuration: nothing was tried"},
	{exitUnavailable, "no answer from the server, or an internal error: the operation may have happened"},
	{exitDenied, "the server knows the caller and says no, or does not know it"},
	{exitNotFound, "what was named does not exist"},
	{exitInterrupted, "Ctrl-C; a rotation that was waited for goes on"},
}

// cliError is an error with what a person can do about it.
type cliError struct {
	err  error
	hint string
	code int
}

func (e *cliError) Error() string { return e.err.Error() }
func (e *cliError) Unwrap() error { return e.err }

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
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSpace(err.Error()), "\n") {
		lines = append(lines, printable(line))
	}
	fmt.Fprintf(w, "error: %s\n", strings.Join(lines, "\n       "))
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
