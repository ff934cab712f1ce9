-- Multi-Region keys, and lineages whose alias stands in several Regions.

-- +goose Up

-- Primary keys that wait for their last replica to go.
CREATE INDEX kms_keys_waiting ON kms_keys (account, key_id) WHERE state = 'PendingReplicaDeletion';

-- A generation that is a Multi-Region key is one generation in all its Regions.
-- key_arn is its key in the Region of the lineage; regions are all its Regions as
-- far as they were seen, separated by spaces, and kin is what the ARNs of all its
-- keys end in, from the account on. Both are '' for a key of one Region.
ALTER TABLE generations ADD COLUMN regions TEXT NOT NULL DEFAULT '';
ALTER TABLE generations ADD COLUMN kin TEXT NOT NULL DEFAULT '';
CREATE INDEX generations_kin ON generations (kin, target) WHERE kin <> '';

-- The aliases of the same name in other Regions that turn with a lineage.
CREATE TABLE lineage_regions (
    target    TEXT NOT NULL,
    alias_arn TEXT NOT NULL, -- in the other Region
    home      TEXT NOT NULL, -- alias_arn of the lineage
    PRIMARY KEY (target, alias_arn)
);
CREATE INDEX lineage_regions_home ON lineage_regions (target, home);

-- +goose Down
DROP TABLE lineage_regions;
DROP INDEX generations_kin;
ALTER TABLE generations DROP COLUMN kin;
ALTER TABLE generations DROP COLUMN regions;
DROP INDEX kms_keys_waiting;
