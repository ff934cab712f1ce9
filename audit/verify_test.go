package audit_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// small makes files of some records each.
var small = audit.Options{MaxSize: 4000}

// written makes a log of 20 records in several files and returns its directory,
// files and lines.
func written(t testing.TB) (dir string, paths []string, texts [][]string) {
	t.Helper()
	dir = t.TempDir()
	fill(t, open(t, dir, nil, small), 20)
	paths = files(t, dir)
	if len(paths) < 4 {
		t.Fatalf("only %d files", len(paths))
	}
	for _, path := range paths {
		texts = append(texts, strings.SplitAfter(strings.TrimSuffix(read(t, path), "\n"), "\n"))
	}
	return dir, paths, texts
}

func store(t testing.TB, path string, lines ...string) {
	t.Helper()
	text := strings.Join(lines, "")
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// damaged wants Verify to find the first damage at the record seq in the line of
// the file.
func damaged(t testing.TB, dir string, o audit.VerifyOptions, seq uint64, file string, line int) {
	t.Helper()
	report, err := audit.Verify(dir, o)
	var damage *audit.Damage
	if !errors.As(err, &damage) {
		t.Fatalf("Verify: %+v, %v; want damage at record %d", report, err, seq)
	}
	if damage.Seq != seq || damage.Line != line || file != "" && damage.File != filepath.Base(file) {
		t.Errorf("damage at record %d, %s line %d; want record %d, %s line %d: %v",
			damage.Seq, damage.File, damage.Line, seq, filepath.Base(file), line, err)
	}
	if report.Records >= 20 {
		t.Errorf("the report covers %d records", report.Records)
	}
}

// TestEveryAlteredByteIsFound flips each byte of a record in the middle of the log.
func TestEveryAlteredByteIsFound(t *testing.T) {
	dir, paths, texts := written(t)
	first := uint64(len(texts[0])) + 1
	whole := strings.Join(texts[1], "")
	for i := range texts[1][0] {
		altered := []byte(whole)
		altered[i] ^= 1
		store(t, paths[1], string(altered))
		_, err := audit.Verify(dir, audit.VerifyOptions{})
		var damage *audit.Damage
		if !errors.As(err, &damage) || damage.Seq != first || damage.Line != 1 {
			t.Fatalf("byte %d, %q: %v", i, whole[i], err)
		}
	}
	store(t, paths[1], whole)
	verify(t, dir, audit.VerifyOptions{})
}

func TestDamageIsFound(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, dir string, paths []string, texts [][]string){
		"removed record": func(t *testing.T, dir string, paths []string, texts [][]string) {
			store(t, paths[0], append(texts[0][:1:1], texts[0][2:]...)...)
			damaged(t, dir, audit.VerifyOptions{}, 2, paths[0], 2)
		},
		"removed first record": func(t *testing.T, dir string, paths []string, texts [][]string) {
			store(t, paths[0], texts[0][1:]...)
			damaged(t, dir, audit.VerifyOptions{}, 1, paths[0], 1)
		},
		"swapped records": func(t *testing.T, dir string, paths []string, texts [][]string) {
			texts[0][0], texts[0][1] = texts[0][1], texts[0][0]
			store(t, paths[0], texts[0]...)
			damaged(t, dir, audit.VerifyOptions{}, 1, paths[0], 1)
		},
		"duplicated record": func(t *testing.T, dir string, paths []string, texts [][]string) {
			store(t, paths[0], append([]string{texts[0][0]}, texts[0]...)...)
			damaged(t, dir, audit.VerifyOptions{}, 1, paths[0], 2)
		},
		"record moved to another file": func(t *testing.T, dir string, paths []string, texts [][]string) {
			store(t, paths[0], texts[0][:len(texts[0])-1]...)
			store(t, paths[1], append(texts[0][len(texts[0])-1:], texts[1]...)...)
			damaged(t, dir, audit.VerifyOptions{}, uint64(len(texts[0])), paths[1], 0)
		},
		"record moved into the file before": func(t *testing.T, dir string, paths []string, texts [][]string) {
			texts[0][len(texts[0])-1] += "\n"
			store(t, paths[0], append(texts[0], texts[1][0])...)
			store(t, paths[1], texts[1][1:]...)
			damaged(t, dir, audit.VerifyOptions{}, uint64(len(texts[0]))+1, paths[1], 0)
		},
		"removed file": func(t *testing.T, dir string, paths []string, texts [][]string) {
			os.Remove(paths[1])
			damaged(t, dir, audit.VerifyOptions{}, uint64(len(texts[0]))+1, paths[2], 0)
		},
		"removed first file": func(t *testing.T, dir string, paths []string, texts [][]string) {
			os.Remove(paths[0])
			damaged(t, dir, audit.VerifyOptions{}, 1, paths[1], 0)
		},
		"swapped files": func(t *testing.T, dir string, paths []string, texts [][]string) {
			store(t, paths[0], texts[1]...)
			store(t, paths[1], texts[0]...)
			damaged(t, dir, audit.VerifyOptions{}, 1, paths[0], 1)
		},
		"renamed file": func(t *testing.T, dir string, paths []string, texts [][]string) {
			os.Rename(paths[0], filepath.Join(dir, "audit-00000000000000000002.jsonl"))
			damaged(t, dir, audit.VerifyOptions{}, 1, "audit-00000000000000000002.jsonl", 0)
		},
		"empty line": func(t *testing.T, dir string, paths []string, texts [][]string) {
			store(t, paths[0], append([]string{texts[0][0], "\n"}, texts[0][1:]...)...)
			damaged(t, dir, audit.VerifyOptions{}, 2, paths[0], 2)
		},
		"no line end": func(t *testing.T, dir string, paths []string, texts [][]string) {
			last := paths[len(paths)-1]
			text := read(t, last)
			if err := os.WriteFile(last, []byte(text[:len(text)-1]), 0o600); err != nil {
				t.Fatal(err)
			}
			damaged(t, dir, audit.VerifyOptions{}, 20, last, strings.Count(text, "\n"))
		},
		"endless line": func(t *testing.T, dir string, paths []string, texts [][]string) {
			store(t, paths[0], texts[0][0], "{"+strings.Repeat("x", 5<<20), "\n", texts[0][1])
			damaged(t, dir, audit.VerifyOptions{}, 2, paths[0], 2)
		},
		"record of another log": func(t *testing.T, dir string, paths []string, texts [][]string) {
			_, _, others := written(t)
			store(t, paths[0], append([]string{texts[0][0], others[0][1]}, texts[0][2:]...)...)
			damaged(t, dir, audit.VerifyOptions{}, 2, paths[0], 2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, paths, texts := written(t)
			test(t, dir, paths, texts)
		})
	}
}

func anchors(t testing.TB, db *sqldb.DB) audit.VerifyOptions {
	t.Helper()
	all, err := audit.Anchors(t.Context(), db, "node-1")
	if err != nil {
		t.Fatal(err)
	}
	return audit.VerifyOptions{Anchors: all}
}

// TestAnchorsFindWhatTheChainCannot cuts off the tail, at a record's end, and makes
// the whole chain anew: both leave files that are right by themselves.
func TestAnchorsFindWhatTheChainCannot(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		dir := t.TempDir()
		fill(t, open(t, dir, db, small), 20)
		paths := files(t, dir)
		if report := verify(t, dir, anchors(t, db)); report.Anchors != len(paths) {
			t.Errorf("%d anchors for %d files", report.Anchors, len(paths))
		}
		last := paths[len(paths)-1]
		whole := strings.SplitAfter(read(t, last), "\n")
		store(t, last, whole[:len(whole)-2]...)
		if len(whole) == 2 {
			os.Remove(last)
		}
		verify(t, dir, audit.VerifyOptions{})
		damaged(t, dir, anchors(t, db), 20, "", 0)

		forged := t.TempDir()
		fill(t, open(t, forged, nil, small), 20)
		verify(t, forged, audit.VerifyOptions{})
		if _, err := audit.Verify(forged, anchors(t, db)); err == nil || !strings.Contains(err.Error(), "rewritten") {
			t.Errorf("a log made anew: %v", err)
		}
		empty := t.TempDir()
		verify(t, empty, audit.VerifyOptions{})
		damaged(t, empty, anchors(t, db), 1, "", 0)
	})
}

// TestArchivedFiles removes old files on purpose and verifies the rest.
func TestArchivedFiles(t *testing.T) {
	db := sqldbtest.SQLite(t)
	dir := t.TempDir()
	fill(t, open(t, dir, db, small), 20)
	paths := files(t, dir)
	from := uint64(strings.Count(read(t, paths[0]), "\n")) + 1
	if err := os.Remove(paths[0]); err != nil {
		t.Fatal(err)
	}
	o := anchors(t, db)
	damaged(t, dir, o, 1, paths[1], 0)
	o.From = from
	if report := verify(t, dir, o); report.FirstSeq != from || report.LastSeq != 20 {
		t.Errorf("report %+v", report)
	}
	o.From++
	damaged(t, dir, o, from, paths[1], 0)
}

// FuzzVerify feeds any file to Verify and Open: neither may panic, nor call right
// what has been changed.
func FuzzVerify(f *testing.F) {
	dir := f.TempDir()
	l := open(f, dir, nil, audit.Options{})
	fixed := sample()
	fixed.EventID = "9f3f9d0e-2b7c-4a57-9d3e-5c2e0a7c1f00" // every process must make the same
	for range 2 {
		if err := l.Append(f.Context(), fixed); err != nil {
			f.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	good := read(f, files(f, dir)[0])
	f.Add([]byte(good))
	f.Add([]byte(good[:len(good)/2]))
	f.Add([]byte("{}\n\n" + good))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "audit-00000000000000000001.jsonl")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) { // where waiting for the rest of a line takes no time
			if _, err := audit.Verify(dir, audit.VerifyOptions{}); err == nil && !strings.HasPrefix(good, string(text)) {
				t.Fatalf("Verify calls right what was never written: %q", text)
			}
			l := open(t, dir, nil, audit.Options{}) // whatever stands there, the server must be able to go on
			fill(t, l, 1)
		})
	})
}

// FuzzLine holds that one spelling only of a record is read: what the parser
// understands, written again, is the line, except for a hash that is wrong.
func FuzzLine(f *testing.F) {
	_, _, texts := written(f)
	for _, text := range append(texts[0], texts[3][0], "{}", `{,"chain":{"seq":01,"prev":"`) {
		f.Add([]byte(strings.TrimSuffix(text, "\n")))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		again, right, err := audit.ParseLine(line)
		if err != nil {
			return
		}
		const tail = len(`"}}`) + 64 // the hash and what follows it
		same := string(again[:len(again)-1-tail]) == string(line[:len(line)-tail])
		if !same || right != (string(again) == string(line)+"\n") {
			t.Fatalf("%q\nis read as\n%q", line, again)
		}
	})
}

// TestChainIsAsDocumented computes the chain from the words of docs/audit.md.
func TestChainIsAsDocumented(t *testing.T) {
	_, _, texts := written(t)
	prev, seq := make([]byte, 32), uint64(0)
	for _, file := range texts {
		for _, text := range file {
			var r struct {
				Chain struct {
					Seq        uint64
					Prev, Hash string
				}
			}
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Fatal(err)
			}
			seq++
			h := sha256.New()
			h.Write([]byte("keyturn audit 1\n"))
			h.Write(prev)
			h.Write(binary.BigEndian.AppendUint64(nil, seq))
			h.Write([]byte(text[:strings.LastIndex(text, `,"chain":`)]))
			if r.Chain.Seq != seq || r.Chain.Prev != hex.EncodeToString(prev) || r.Chain.Hash != hex.EncodeToString(h.Sum(nil)) {
				t.Fatalf("record %d has the chain %+v", seq, r.Chain)
			}
			prev = h.Sum(nil)
		}
	}
}
