package kms_test

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// What each turn of a lineage reads is found in an index, or the thousandth turn
// would cost more than the tenth. SQLite says how it will go about it;
// PostgreSQL decides by the size of tables, which are empty here.
func TestTurnsSearchAnIndex(t *testing.T) {
	n := newNode(t, sqldbtest.SQLite(t), options{})
	for query, index := range kms.TurnQueries {
		args := []any{"", "", 1}[:strings.Count(query, "$")]
		rows, err := n.db.Query(ctx, `EXPLAIN QUERY PLAN `+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		found := false
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			found = found || strings.HasPrefix(detail, "SEARCH") && strings.Contains(detail, index+" ")
			if strings.HasPrefix(detail, "SCAN") || strings.Contains(detail, "TEMP B-TREE") {
				t.Errorf("%s: %s", query, detail)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if !found {
			t.Errorf("%s does not search %s", query, index)
		}
	}
}
