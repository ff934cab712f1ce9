package server

import (
	"context"
	"os"
	"path/filepath"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/sqldb"
)

// AuditReport is what VerifyAudit found.
type AuditReport struct {
	Files          int      `json:"files"`
	Records        int      `json:"records"`
	FirstSeq       uint64   `json:"first_seq"`
	LastSeq        uint64   `json:"last_seq"`
	Head           string   `json:"head"`                     // hash of the last record
	Torn           []string `json:"torn,omitzero"`            // files with what a crash left half-written
	AnchorsSkipped string   `json:"anchors_skipped,omitzero"` // why the database was not asked; empty: it was
}

// VerifyAudit checks the audit log of a data folder against itself and, when
// the database can be opened, against the anchors in it.
func VerifyAudit(ctx context.Context, data, database string, from uint64) (AuditReport, error) {
	anchors, skipped := readAnchors(ctx, data, database)
	found, err := audit.Verify(filepath.Join(data, "audit"), audit.VerifyOptions{From: from, Anchors: anchors})
	r := AuditReport{
		Files: found.Files, Records: found.Records, FirstSeq: found.FirstSeq, LastSeq: found.LastSeq,
		Head: found.Head, Torn: found.Torn,
	}
	if skipped != nil {
		r.AnchorsSkipped = skipped.Error()
	}
	return r, err
}

func readAnchors(ctx context.Context, data, database string) ([]audit.Anchor, error) {
	if database == "" {
		file := filepath.Join(data, "keyturn.db")
		if _, err := os.Stat(file); err != nil {
			return nil, err // opening would make it
		}
		database = "sqlite:" + file
	}
	db, err := sqldb.Open(ctx, database)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return audit.Anchors(ctx, db, node())
}
