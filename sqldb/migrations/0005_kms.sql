-- Keys, their materials, tags and aliases, as package kms reads them.
-- Booleans are 0/1, times are UTC microseconds, ARNs are the names by which
-- changes are announced (sqldb.Tx.Touch).

-- +goose Up

-- One row a key. gen counts the changes; every change is a compare-and-swap
-- on it. state is AWS's KeyState, or 'Destroyed' for a key whose date of
-- deletion has come and whose material is on its way out: nobody sees such a
-- key any more, and no road leads back.
CREATE TABLE kms_keys (
    arn           TEXT   NOT NULL PRIMARY KEY,
    account       TEXT   NOT NULL,
    region        TEXT   NOT NULL,
    key_id        TEXT   NOT NULL,
    spec          TEXT   NOT NULL,
    key_usage     TEXT   NOT NULL,
    origin        TEXT   NOT NULL,
    state         TEXT   NOT NULL,
    description   TEXT   NOT NULL,
    policy        TEXT   NOT NULL,
    material_id   TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    deletion_at   BIGINT,
    deletion_days BIGINT,
    due_seen_at   BIGINT,
    gen           BIGINT NOT NULL,
    UNIQUE (account, region, key_id)
);
CREATE INDEX kms_keys_deletion ON kms_keys (deletion_at) WHERE deletion_at IS NOT NULL;

-- What the key store needs to open a material: sealed bytes for the software
-- store, a label for a token. Never plaintext. material_id of kms_keys names
-- the current one.
CREATE TABLE kms_materials (
    key_arn     TEXT   NOT NULL REFERENCES kms_keys (arn),
    material_id TEXT   NOT NULL,
    handle      BYTEA,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (key_arn, material_id)
);

CREATE TABLE kms_tags (
    key_arn   TEXT NOT NULL REFERENCES kms_keys (arn),
    tag_key   TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    PRIMARY KEY (key_arn, tag_key)
);

CREATE TABLE kms_aliases (
    arn        TEXT   NOT NULL PRIMARY KEY,
    account    TEXT   NOT NULL,
    region     TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    key_arn    TEXT   NOT NULL REFERENCES kms_keys (arn),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    gen        BIGINT NOT NULL,
    UNIQUE (account, region, name)
);
CREATE INDEX kms_aliases_key ON kms_aliases (key_arn, name);

-- The last cryptographic use of a key. Apart from kms_keys, so that noting a
-- use neither changes gen nor announces a change.
CREATE TABLE kms_key_usage (
    key_arn    TEXT   NOT NULL PRIMARY KEY REFERENCES kms_keys (arn),
    used_at    BIGINT NOT NULL,
    operation  TEXT   NOT NULL,
    event_id   TEXT   NOT NULL,
    request_id TEXT   NOT NULL
);

-- Callers who were allowed to use a key and were turned away because it is
-- disabled: how many since it was, who came last, and when.
CREATE TABLE kms_key_refusals (
    key_arn    TEXT   NOT NULL PRIMARY KEY REFERENCES kms_keys (arn),
    calls      BIGINT NOT NULL,
    refused_at BIGINT NOT NULL,
    caller     TEXT   NOT NULL
);

-- +goose Down
DROP TABLE kms_key_refusals;
DROP TABLE kms_key_usage;
DROP TABLE kms_aliases;
DROP TABLE kms_tags;
DROP TABLE kms_materials;
DROP TABLE kms_keys;
