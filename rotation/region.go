package rotation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/sqldb"
)

// A lineage is the alias of one Region. When the keys behind it are Multi-Region
// keys, aliases of the same name in other Regions turn with it: they follow. A
// generation is then one key in all its Regions, recorded once, by its ARN in the
// Region of the lineage; what holds for it holds for each of its kin.

// kinOf is what the ARNs of all kin of a Multi-Region key end in; empty for the ARN
// of any other key.
func kinOf(keyARN string) string {
	parts := strings.SplitN(keyARN, ":", 5)
	if len(parts) < 5 || !strings.Contains(parts[4], ":key/mrk-") {
		return ""
	}
	return parts[4]
}

// inRegion is the ARN of the same thing in another Region.
func inRegion(arn, region string) string {
	parts := strings.SplitN(arn, ":", 5)
	if len(parts) < 5 {
		return arn
	}
	parts[3] = region
	return strings.Join(parts, ":")
}

func regionOf(arn string) string {
	parts := strings.SplitN(arn, ":", 5)
	if len(parts) < 5 {
		return ""
	}
	return parts[3]
}

// follows reads in which other Regions the alias of a lineage turns with it.
func (t *SQLTable) follows(ctx context.Context, p *Policy) ([]string, error) {
	rows, err := t.db.Query(ctx, followsQuery, p.Target, p.AliasARN())
	if err != nil {
		return nil, fmt.Errorf("reading the Regions of a lineage: %w", err)
	}
	return scanRegions(rows)
}

func scanRegions(rows *sql.Rows) (regions []string, err error) {
	defer rows.Close()
	for rows.Next() {
		var alias string
		if err := rows.Scan(&alias); err != nil {
			return nil, fmt.Errorf("reading the Regions of a lineage: %w", err)
		}
		regions = append(regions, regionOf(alias))
	}
	slices.Sort(regions)
	return regions, rows.Err()
}

// storeFollows stores in which other Regions the alias turns with the lineage of p. An
// alias that has a policy of its own meanwhile is left to that.
func storeFollows(tx *sqldb.Tx, p *Policy, regions []string) error {
	// Those that follow no longer must hear of it too.
	if err := touchLineage(tx, p.Target, p.AliasARN()); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM lineage_regions WHERE target = $1 AND home = $2`, p.Target, p.AliasARN()); err != nil {
		return fmt.Errorf("storing the Regions of a lineage: %w", err)
	}
	for _, region := range regions {
		alias := inRegion(p.AliasARN(), region)
		if _, err := tx.Exec(`INSERT INTO lineage_regions (target, alias_arn, home)
			SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT)
			WHERE NOT EXISTS (SELECT 1 FROM rotation_policies WHERE target = $1 AND alias_arn = $2)
			ON CONFLICT (target, alias_arn) DO NOTHING`, p.Target, alias, p.AliasARN()); err != nil {
			return fmt.Errorf("storing the Regions of a lineage: %w", err)
		}
		tx.Touch(alias)
	}
	return nil
}

// touchLineage announces a change of a lineage under the aliases of all its Regions.
func touchLineage(tx *sqldb.Tx, target, home string) error {
	tx.Touch(home)
	rows, err := tx.Query(followsQuery, target, home)
	if err != nil {
		return fmt.Errorf("reading the Regions of a lineage: %w", err)
	}
	regions, err := scanRegions(rows)
	for _, region := range regions {
		tx.Touch(inRegion(home, region))
	}
	return err
}

// TurnedBy implements Table.
func (t *SQLTable) TurnedBy(ctx context.Context, target, aliasARN string) (policy string, err error) {
	err = t.db.QueryRow(ctx, `SELECT arn FROM rotation_policies WHERE target = $1 AND alias_arn = $2`, target, aliasARN).Scan(&policy)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading policies: %w", err)
	}
	return policy, nil
}

// homeOf finds the lineage that an alias of this server belongs to: its own, or that
// of another Region which it follows.
func (t *SQLTable) homeOf(ctx context.Context, aliasARN string) (string, error) {
	home := aliasARN
	err := t.db.QueryRow(ctx, homeQuery, TargetLocal, aliasARN).Scan(&home)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("reading the Regions of a lineage: %w", err)
	}
	return home, nil
}

const (
	followsQuery = `SELECT alias_arn FROM lineage_regions WHERE target = $1 AND home = $2`
	homeQuery    = `SELECT home FROM lineage_regions WHERE target = $1 AND alias_arn = $2`
)
