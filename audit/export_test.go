package audit

import "time"

// Encode is the encoding of r for benchmarks.
func Encode(b []byte, r *Record, now time.Time) []byte { return r.appendTo(b, now) }

// File is a file of the log, for tests that make one fail.
type File = file

// Wrap puts what wrap returns in the place of the file that l appends to. It must
// be called before the first Append.
func Wrap(l *Log, wrap func(File) File) error {
	if err := l.rotate(); err != nil {
		return err
	}
	l.file = wrap(l.file)
	return nil
}

// ParseLine parses a line and writes it again from what it has understood. right
// says whether the line has the hash that it should.
func ParseLine(line []byte) (again []byte, right bool, err error) {
	body, l, err := parseLine(line)
	if err != nil {
		return nil, false, err
	}
	var scratch []byte
	again, n := appendChained(nil, body, link{seq: l.seq - 1, hash: l.prev}, &scratch)
	return again, n.hash == l.hash, nil
}
