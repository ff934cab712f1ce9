-- Rotation of the materials of symmetric keys.

-- +goose Up

-- service names the service of this server that keeps a policy ('kms' for a key on
-- which EnableKeyRotation was called); '' for those that people put.
ALTER TABLE rotation_policies ADD COLUMN service TEXT NOT NULL DEFAULT '';
CREATE INDEX rotation_policies_service ON rotation_policies (account, region, service, name);

-- When a key turns next is in its row of rotations, and nowhere else.
ALTER TABLE kms_keys DROP COLUMN rotation_next;

-- The materials of a key in their order: how ListKeyRotations pages through them.
CREATE UNIQUE INDEX kms_materials_seq ON kms_materials (key_arn, seq);

-- +goose Down
DROP INDEX kms_materials_seq;
ALTER TABLE kms_keys ADD COLUMN rotation_next BIGINT NOT NULL DEFAULT 0;
DROP INDEX rotation_policies_service;
ALTER TABLE rotation_policies DROP COLUMN service;
