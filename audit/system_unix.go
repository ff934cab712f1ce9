//go:build unix

package audit

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockDirectory locks dir itself, so that no second process appends to the log;
// the kernel drops the lock with the process.
func lockDirectory(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("another process is writing it")
		}
		return nil, fmt.Errorf("locking: %w", err)
	}
	return d, nil
}
