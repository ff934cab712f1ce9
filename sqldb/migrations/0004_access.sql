-- Accounts, their users, and what these may do and sign with, as package access
-- reads them. Every query names the account. Times are UTC microseconds.
-- Changes are announced under 'access-key/<id>' and 'user/<user id>'.

-- +goose Up
CREATE TABLE accounts (
    id              TEXT   NOT NULL PRIMARY KEY, -- twelve digits
    created_at      BIGINT NOT NULL,
    bootstrapped_at BIGINT NOT NULL -- when its first administrator was made, which happens once; 0: not yet
);

CREATE TABLE users (
    id         TEXT   NOT NULL PRIMARY KEY, -- AIDA…, never used twice
    account    TEXT   NOT NULL REFERENCES accounts (id),
    name       TEXT   NOT NULL,
    folded     TEXT   NOT NULL, -- the name in lower case: names that differ in case only are one name
    path       TEXT   NOT NULL, -- '/' or '/…/'
    created_at BIGINT NOT NULL,
    UNIQUE (account, folded)
);

-- slot is what limits a user to two access keys, whoever races.
CREATE TABLE access_keys (
    id                TEXT   NOT NULL PRIMARY KEY, -- AKIA…
    account           TEXT   NOT NULL REFERENCES accounts (id),
    user_id           TEXT   NOT NULL REFERENCES users (id),
    slot              BIGINT NOT NULL CHECK (slot IN (1, 2)),
    sealed_secret     BYTEA  NOT NULL, -- associated data: account, user id, access key id
    status            TEXT   NOT NULL CHECK (status IN ('Active', 'Inactive')),
    created_at        BIGINT NOT NULL,
    last_used_at      BIGINT NOT NULL, -- to the minute or so; 0: never
    last_used_service TEXT   NOT NULL,
    last_used_region  TEXT   NOT NULL,
    UNIQUE (user_id, slot)
);

CREATE TABLE user_policies (
    account    TEXT   NOT NULL REFERENCES accounts (id),
    user_id    TEXT   NOT NULL REFERENCES users (id),
    name       TEXT   NOT NULL,
    document   TEXT   NOT NULL, -- as given
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, name)
);

-- +goose Down
DROP TABLE user_policies;
DROP TABLE access_keys;
DROP TABLE users;
DROP TABLE accounts;
