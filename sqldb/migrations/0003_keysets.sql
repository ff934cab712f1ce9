-- The Tink keysets that seal key material and other secrets, each sealed by the
-- root key. A row is made once and never changed: whoever loses it has lost
-- everything it sealed.

-- +goose Up
CREATE TABLE keysets (
    name       TEXT   NOT NULL PRIMARY KEY,
    sealed     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL -- UTC microseconds
);

-- +goose Down
DROP TABLE keysets;
