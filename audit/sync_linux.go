package audit

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// fdatasync brings the file's content and size to the disk, not its times.
func fdatasync(file *os.File) error {
	for {
		err := unix.Fdatasync(int(file.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
