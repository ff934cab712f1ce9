package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// VerifyOptions says what Verify holds the files against.
type VerifyOptions struct {
	// From is the number of the first record that should be there, for a log
	// whose older files were archived; zero means 1.
	From uint64
	// Anchors are those of the log, from the function Anchors.
	Anchors []Anchor
}

// Report says what Verify has read.
type Report struct {
	Files    int
	Records  int
	FirstSeq uint64
	LastSeq  uint64
	Head     string   // the last record's hash, lower-case hex
	Anchors  int      // anchors that were compared with their record
	Torn     []string // names of files with what a crash left half-written
}

// Damage is the error of Verify for a log that is not as it was written.
type Damage struct {
	File string // base name
	Line int    // 1 is the first; 0: the file as a whole
	Seq  uint64 // of the first record that is altered, missing or out of place
	What string
}

func (d *Damage) Error() string {
	if d.Line == 0 {
		return fmt.Sprintf("audit log is damaged at record %d (%s): %s", d.Seq, d.File, d.What)
	}
	return fmt.Sprintf("audit log is damaged at record %d (%s, line %d): %s", d.Seq, d.File, d.Line, d.What)
}

// Verify reads the whole log in dir and checks that every record is there, in its
// place and unaltered. A *Damage names the first that is not; the report then covers
// what comes before. Other errors mean that the files could not be read. It may run
// beside the process that writes the log. Its memory does not grow with the log.
func Verify(dir string, o VerifyOptions) (Report, error) {
	v := &verifier{anchors: make(map[uint64]string), next: max(o.From, 1)}
	for _, a := range o.Anchors {
		v.anchors[a.Seq] = a.Hash
		v.anchored = max(v.anchored, a.Seq)
		if a.Seq == v.next-1 {
			// The record before the first one is known by its anchor.
			if !decodeDigest(&v.prev, []byte(a.Hash)) {
				return Report{}, fmt.Errorf("the anchor of record %d is damaged", a.Seq)
			}
			v.prevKnown = true
		}
	}
	v.prevKnown = v.prevKnown || v.next == 1
	files, err := listFiles(dir)
	if err != nil {
		return Report{}, fmt.Errorf("verifying audit log: %w", err)
	}
	if err := v.list(dir); err != nil {
		return Report{}, fmt.Errorf("verifying audit log: %w", err)
	}
	err = v.files(files)
	if v.report.Records > 0 {
		v.report.Head = v.prev.String()
	}
	return v.report, err
}

// verifier is a walk through a log.
type verifier struct {
	anchors   map[uint64]string // seq → hash
	anchored  uint64            // the largest of them
	next      uint64            // number of the record that must come next
	prev      digest            // hash of the record before
	prevKnown bool
	scratch   []byte
	report    Report
}

// list notes the files that a crash left.
func (v *verifier) list(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if isTorn(entry.Name()) {
			v.report.Torn = append(v.report.Torn, entry.Name())
		}
	}
	return nil
}

func (v *verifier) files(files []logFile) error {
	name := "no file"
	for i, f := range files {
		if err := v.file(f, i == len(files)-1); err != nil {
			return err
		}
		name = filepath.Base(f.path)
	}
	if v.anchored >= v.next {
		return &Damage{name, 0, v.next, fmt.Sprintf("the log ends before it, but record %d was anchored "+
			"in the database: the end of the log was cut off", v.anchored)}
	}
	return nil
}

func (v *verifier) file(f logFile, newest bool) error {
	name := filepath.Base(f.path)
	if f.first != v.next {
		return &Damage{name, 0, min(v.next, f.first), v.misplaced(f.first)}
	}
	file, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("verifying audit log: %w", err)
	}
	defer file.Close()
	v.report.Files++
	in := newLines(file)
	for number := 1; ; number++ {
		line, err := in.next()
		if newest && errors.Is(err, errUnfinished) {
			line, err = v.waitForRest(file, in, line)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errUnfinished), errors.Is(err, errLineTooLong):
			return &Damage{name, number, v.next, err.Error()}
		case err != nil:
			return fmt.Errorf("verifying audit log: reading %s: %w", name, err)
		}
		if what, seq := v.line(line); what != "" {
			return &Damage{name, number, seq, what}
		}
	}
}

// waitForRest gives the process that may be writing the line that has begun a
// moment to end it.
func (v *verifier) waitForRest(file *os.File, in *lines, begun []byte) ([]byte, error) {
	start := in.offset - int64(len(begun))
	for range 20 {
		time.Sleep(10 * time.Millisecond)
		again := newLines(io.NewSectionReader(file, start, 1<<62))
		line, err := again.next()
		if !errors.Is(err, errUnfinished) {
			again.offset += start
			*in = *again
			return line, err
		}
	}
	return begun, errUnfinished
}

// line checks one record. It returns what is wrong, and the number of the record
// that it is wrong with.
func (v *verifier) line(line []byte) (what string, seq uint64) {
	body, l, err := parseLine(line)
	if err != nil {
		return err.Error(), v.next
	}
	if hashRecord(l.prev, l.seq, body, &v.scratch) != l.hash {
		return "it was altered: it does not have the hash it says", v.next
	}
	if l.seq != v.next {
		return v.misplaced(l.seq), min(v.next, l.seq)
	}
	if v.prevKnown && l.prev != v.prev {
		return "it does not follow the record before it: one of the two was replaced", l.seq
	}
	if hash, ok := v.anchors[l.seq]; ok {
		if hash != l.hash.String() {
			return "it is not the record that was anchored in the database: the log was rewritten", l.seq
		}
		v.report.Anchors++
	}
	v.prev, v.prevKnown = l.hash, true
	v.next++
	if v.report.Records == 0 {
		v.report.FirstSeq = l.seq
	}
	v.report.Records++
	v.report.LastSeq = l.seq
	return "", 0
}

func (v *verifier) misplaced(found uint64) string {
	if found > v.next {
		return fmt.Sprintf("records %d to %d are missing or out of order: record %d comes next", v.next, found-1, found)
	}
	return fmt.Sprintf("record %d comes again or out of order, where record %d should be", found, v.next)
}
