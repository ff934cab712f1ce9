//go:build !linux

package audit

import "os"

func fdatasync(file *os.File) error { return file.Sync() }
