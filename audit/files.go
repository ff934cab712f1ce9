package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Files are named for their first record: audit-00000000000000000001.jsonl. What
// a crash left half-written is kept beside them, as audit-….jsonl.torn-1.
const (
	filePrefix = "audit-"
	fileSuffix = ".jsonl"
	tornSuffix = ".torn-"
)

func fileName(first uint64) string {
	return fmt.Sprintf("%s%020d%s", filePrefix, first, fileSuffix)
}

// logFile is one file of a log.
type logFile struct {
	path  string
	first uint64 // from its name
}

// listFiles returns the files of the log in dir, oldest first.
func listFiles(dir string) ([]logFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []logFile
	for _, entry := range entries {
		name, ok := strings.CutPrefix(entry.Name(), filePrefix)
		if !ok {
			continue
		}
		if name, ok = strings.CutSuffix(name, fileSuffix); !ok {
			continue
		}
		first, err := strconv.ParseUint(name, 10, 64)
		if err != nil || entry.Name() != fileName(first) {
			return nil, fmt.Errorf("%s is not named as an audit file is", filepath.Join(dir, entry.Name()))
		}
		files = append(files, logFile{filepath.Join(dir, entry.Name()), first})
	}
	slices.SortFunc(files, func(a, b logFile) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	return files, nil
}

// maxLine bounds a line: a record, its chain and the line end.
const maxLine = maxRecord + 512

// lines reads a file line by line in bounded memory.
type lines struct {
	r      *bufio.Reader
	offset int64 // of the next line
}

var (
	errLineTooLong = errors.New("it is longer than any record")
	errUnfinished  = errors.New("the file ends in the middle of it")
)

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, maxLine)} }

// next returns the next line without its end, valid until the next call. It
// returns io.EOF after the last line, errUnfinished when that has no line end, and
// errLineTooLong, with the reader behind the line, when there is too much of it.
func (l *lines) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	l.offset += int64(len(line))
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case errors.Is(err, io.EOF) && len(line) == 0:
		return nil, io.EOF
	case errors.Is(err, io.EOF):
		return line, errUnfinished
	case errors.Is(err, bufio.ErrBufferFull):
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = l.r.ReadSlice('\n')
			l.offset += int64(len(line))
		}
		return nil, errLineTooLong
	}
	return nil, err
}

// recover finds the last whole record, moves what stands behind it aside, and
// opens its file for appending. Whether the records before it are what they were is
// not its business but Verify's.
func (l *Log) recover() error {
	files, err := listFiles(l.dir)
	if err != nil {
		return err
	}
	for i := len(files) - 1; i >= 0; i-- {
		end, last, err := lastRecord(files[i].path)
		if err != nil {
			return err
		}
		found := last.seq > 0
		if err := l.setAside(files[i].path, end, found); err != nil {
			return err
		}
		if !found {
			continue
		}
		l.last = last
		if i < len(files)-1 {
			return nil // the next record begins a new file
		}
		opened, err := os.OpenFile(files[i].path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		l.file, l.size = diskFile{opened}, end
		// A crash in Interval mode may have left records that are in the file
		// but not yet on the disk; what follows them must not outlive them.
		return l.file.Sync()
	}
	return nil
}

// lastRecord reads the file at path and returns the link of its last whole record
// and the offset behind it, zero when there is none. A record is whole when it has
// the hash it says.
func lastRecord(path string) (end int64, last link, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, link{}, err
	}
	defer file.Close()
	var scratch []byte
	for in := newLines(file); ; {
		line, err := in.next()
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, errUnfinished):
			return end, last, nil
		case errors.Is(err, errLineTooLong):
			continue
		case err != nil:
			return 0, link{}, fmt.Errorf("reading %s: %w", path, err)
		}
		body, l, err := parseLine(line)
		if err == nil && hashRecord(l.prev, l.seq, body, &scratch) == l.hash {
			end, last = in.offset, l
		}
	}
}

// setAside moves the part of the file at path from the offset end to a file of its
// own. A file of which nothing is left is removed.
func (l *Log) setAside(path string, end int64, keep bool) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if size := info.Size() - end; size > 0 {
		aside, err := copyAside(path, io.NewSectionReader(file, end, size))
		if err != nil {
			return fmt.Errorf("setting aside what a crash left: %w", err)
		}
		// At this point the copy is on the disk; a crash here leaves it twice.
		if err := file.Truncate(end); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		l.findings = append(l.findings, fmt.Sprintf("The last %d bytes of %s were not a whole record: the process "+
			"or the machine stopped while writing it. They are now in %s.", size, filepath.Base(path), filepath.Base(aside)))
	}
	if keep {
		return nil
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncDirectory(l.dir)
}

// copyAside writes r to a new file beside the one at path.
func copyAside(path string, r io.Reader) (aside string, err error) {
	for n := 1; ; n++ {
		aside = path + tornSuffix + strconv.Itoa(n)
		file, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = io.Copy(file, r)
		err = errors.Join(err, file.Sync(), file.Close(), syncDirectory(filepath.Dir(path)))
		return aside, err
	}
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// isTorn reports whether name is that of a file with what a crash left.
func isTorn(name string) bool {
	return strings.HasPrefix(name, filePrefix) && bytes.Contains([]byte(name), []byte(fileSuffix+tornSuffix))
}
