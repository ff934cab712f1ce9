package sqldb_test

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/sqldb"
)

func TestRewrite(t *testing.T) {
	for query, want := range map[string]string{
		`SELECT 1`:                             `SELECT 1`,
		`WHERE a = $1 AND b IN ($2,$10)`:       `WHERE a = ?1 AND b IN (?2,?10)`,
		`'$1' || $1 || 'it''s $2'`:             `'$1' || ?1 || 'it''s $2'`,
		`"$1" = $1`:                            `"$1" = ?1`,
		"-- costs $1\nSELECT $1":               "-- costs $1\nSELECT ?1",
		`/* $1 * / ' */ $1`:                    `/* $1 * / ' */ ?1`,
		`a$1 = $1`:                             `a$1 = ?1`,
		`$ $0 $a $1`:                           `$ $0 $a ?1`,
		`'unfinished $1`:                       `'unfinished $1`,
		`/* unfinished $1`:                     `/* unfinished $1`,
		`-- unfinished $1`:                     `-- unfinished $1`,
		`a-$1, a/$2, -$3`:                      `a-?1, a/?2, -?3`,
		`'a' /* ' */ = $1 -- ' ` + "\n and $2": `'a' /* ' */ = ?1 -- ' ` + "\n and ?2",
	} {
		if got := sqldb.Rewrite(query); got != want {
			t.Errorf("%s\n got %s\nwant %s", query, got, want)
		}
	}
}

// FuzzRewrite holds that only the $ of placeholders changes, and that what stands
// in quotes stays, however the parts around it look.
func FuzzRewrite(f *testing.F) {
	f.Add(`SELECT $1 FROM t WHERE a = '`, `it's $2`, `' AND b = $3`)
	f.Add("-- $1 \n", `/* $1 */`, `"`)
	f.Fuzz(func(t *testing.T, before, inside, after string) {
		for _, query := range []string{before, before + after} {
			got := sqldb.Rewrite(query)
			if len(got) != len(query) {
				t.Fatalf("%q became %q", query, got)
			}
			for i := range len(got) {
				if got[i] != query[i] && (got[i] != '?' || query[i] != '$' || i+1 == len(query) || query[i+1] < '1' || query[i+1] > '9') {
					t.Fatalf("byte %d of %q became %q", i, query, got[i])
				}
			}
			if again := sqldb.Rewrite(got); again != got {
				t.Fatalf("%q changes again to %q", got, again)
			}
		}
		quoted := `'` + strings.ReplaceAll(inside, `'`, `''`) + `'`
		if got := sqldb.Rewrite(quoted + ` = $1`); got != quoted+` = ?1` {
			t.Fatalf("string %q became %q", quoted, got)
		}
		name := `"` + strings.ReplaceAll(inside, `"`, `""`) + `"`
		if got := sqldb.Rewrite(name + ` = $1`); got != name+` = ?1` {
			t.Fatalf("name %q became %q", name, got)
		}
	})
}
