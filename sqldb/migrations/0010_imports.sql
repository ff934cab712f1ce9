-- Imported material.

-- +goose Up

-- Handles that no material has any more, until the key store has destroyed what
-- it keeps of them: material that was deleted, expired or imported again. A crash
-- in between forgets none of them.
CREATE TABLE kms_condemned (
    id          TEXT  NOT NULL PRIMARY KEY,
    account     TEXT  NOT NULL,
    key_id      TEXT  NOT NULL,
    material_id TEXT  NOT NULL,
    handle      BYTEA NOT NULL
);

-- The id of an imported material is made from the material itself, under a key
-- that lies sealed in keysets: it tells whether the same comes again.
ALTER TABLE kms_materials DROP COLUMN fingerprint;

-- +goose Down
ALTER TABLE kms_materials ADD COLUMN fingerprint BYTEA;
DROP TABLE kms_condemned;
