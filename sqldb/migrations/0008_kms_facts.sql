-- What keys have beside their own material: who manages them, their Multi-Region
-- kin, automatic rotation; and what materials have when a key has more than one
-- or they came from outside.

-- +goose Up

-- manager is AWS's KeyManager. The keys of a Multi-Region key are rows of the same
-- account and key_id, one a Region; primary_region is '' for all other keys.
-- rotation_days is the period of automatic rotation, 0 while it is off, and
-- rotation_next when it is due next; on_demand counts RotateKeyOnDemand.
ALTER TABLE kms_keys ADD COLUMN manager TEXT NOT NULL DEFAULT 'CUSTOMER';
ALTER TABLE kms_keys ADD COLUMN primary_region TEXT NOT NULL DEFAULT '';
ALTER TABLE kms_keys ADD COLUMN rotation_days BIGINT NOT NULL DEFAULT 0;
ALTER TABLE kms_keys ADD COLUMN rotation_next BIGINT NOT NULL DEFAULT 0;
ALTER TABLE kms_keys ADD COLUMN on_demand BIGINT NOT NULL DEFAULT 0;

-- seq orders the materials of a key as they were made, from 1. state is AWS's
-- KeyMaterialState, import_state AWS's ImportState or '' for what was made here.
-- A material whose handle is NULL waits to be imported (again). fingerprint tells
-- whether material that is imported again is the same; it is no digest that could
-- be guessed at. rotated_at is when it became the current one, 0 for the first.
ALTER TABLE kms_materials ADD COLUMN seq BIGINT NOT NULL DEFAULT 1;
ALTER TABLE kms_materials ADD COLUMN state TEXT NOT NULL DEFAULT 'CURRENT';
ALTER TABLE kms_materials ADD COLUMN import_state TEXT NOT NULL DEFAULT '';
ALTER TABLE kms_materials ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE kms_materials ADD COLUMN valid_to BIGINT;
ALTER TABLE kms_materials ADD COLUMN fingerprint BYTEA;
ALTER TABLE kms_materials ADD COLUMN rotated_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE kms_materials ADD COLUMN rotation_type TEXT NOT NULL DEFAULT '';
ALTER TABLE kms_materials ADD COLUMN rotation_token TEXT NOT NULL DEFAULT '';
CREATE INDEX kms_materials_expiry ON kms_materials (valid_to) WHERE valid_to IS NOT NULL;
CREATE INDEX kms_keys_kin ON kms_keys (account, key_id);

-- +goose Down
DROP INDEX kms_keys_kin;
DROP INDEX kms_materials_expiry;
ALTER TABLE kms_materials DROP COLUMN rotation_token;
ALTER TABLE kms_materials DROP COLUMN rotation_type;
ALTER TABLE kms_materials DROP COLUMN rotated_at;
ALTER TABLE kms_materials DROP COLUMN fingerprint;
ALTER TABLE kms_materials DROP COLUMN valid_to;
ALTER TABLE kms_materials DROP COLUMN description;
ALTER TABLE kms_materials DROP COLUMN import_state;
ALTER TABLE kms_materials DROP COLUMN state;
ALTER TABLE kms_materials DROP COLUMN seq;
ALTER TABLE kms_keys DROP COLUMN on_demand;
ALTER TABLE kms_keys DROP COLUMN rotation_next;
ALTER TABLE kms_keys DROP COLUMN rotation_days;
ALTER TABLE kms_keys DROP COLUMN primary_region;
ALTER TABLE kms_keys DROP COLUMN manager;
