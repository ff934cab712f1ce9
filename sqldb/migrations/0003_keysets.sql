-- The key store's own keys. 'store' is the Tink keyset that seals key material
-- and other secrets, sealed by the root key; the others are sealed by it. A row is
-- made once and never changed: whoever loses 'store' has lost everything it sealed.

-- +goose Up
CREATE TABLE keysets (
    name       TEXT   NOT NULL PRIMARY KEY,
    sealed     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL -- UTC microseconds
);

-- +goose Down
DROP TABLE keysets;
