package sqldb_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// BenchmarkCommit measures durable single-row writes by so many writers at once.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("sqlite/writers=%d", writers), func(b *testing.B) { benchmarkCommit(b, sqldbtest.SQLite(b), writers) })
	}
	b.Run("postgres/writers=16", func(b *testing.B) { benchmarkCommit(b, sqldbtest.Open(b, sqldbtest.Postgres(b)), 16) })
}

func benchmarkCommit(b *testing.B, db *sqldb.DB, writers int) {
	makeTable(b, db)
	var next atomic.Int64
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range writers {
		all.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				id := fmt.Sprintf("arn:aws:kms:eu-central-1:111122223333:key/%032d", n)
				if err := insert(db, b, id, n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// BenchmarkRead measures reading one row by its key.
func BenchmarkRead(b *testing.B) {
	db := sqldbtest.SQLite(b)
	makeTable(b, db)
	if err := insert(db, b, "a", 1); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var n int64
		if err := db.QueryRow(b.Context(), `SELECT n FROM items WHERE id = $1`, "a").Scan(&n); err != nil {
			b.Fatal(err)
		}
	}
}
