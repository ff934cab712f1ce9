//go:build unix

package sqldb

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockFile keeps a second process away from a SQLite file. The kernel drops the
// lock when the process ends, however it ends; the file itself stays, because
// removing it would let two processes lock two files of one name.
type lockFile struct{ file *os.File }

// acquireLock locks the file at path or fails with the number of the process that
// has it.
func acquireLock(path string) (*lockFile, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer file.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		holder := "another process"
		text, _ := io.ReadAll(io.LimitReader(file, 32))
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			holder = fmt.Sprintf("process %d", pid)
		}
		return nil, fmt.Errorf("%w by %s; a SQLite database serves one process, use PostgreSQL for several", ErrInUse, holder)
	}
	if err = file.Truncate(0); err == nil {
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("writing %s: %w", path, err)
	}
	return &lockFile{file}, nil
}

func (l *lockFile) release() error {
	_ = l.file.Truncate(0) // only the message of a second process would be wrong
	return l.file.Close()
}
