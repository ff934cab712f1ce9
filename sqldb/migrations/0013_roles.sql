-- Roles, groups, tags and permissions boundaries, as package access reads them.
-- Every query names the account. Times are UTC microseconds. Changes are
-- announced under 'role/<role id>' and 'user/<user id>'; those of a group under
-- the names of its members.

-- +goose Up

-- boundary is the policy document that bounds what identity policies allow; '': none.
ALTER TABLE users ADD COLUMN boundary TEXT NOT NULL DEFAULT '';

CREATE TABLE roles (
    id          TEXT   NOT NULL PRIMARY KEY, -- AROA…, never used twice: sessions name it
    account     TEXT   NOT NULL REFERENCES accounts (id),
    name        TEXT   NOT NULL,
    folded      TEXT   NOT NULL, -- the name in lower case: names that differ in case only are one name
    path        TEXT   NOT NULL, -- '/' or '/…/'
    created_at  BIGINT NOT NULL,
    boundary    TEXT   NOT NULL,
    description TEXT   NOT NULL,
    trust       TEXT   NOT NULL, -- the policy document that says who may assume it
    max_session BIGINT NOT NULL, -- seconds
    UNIQUE (account, folded)
);

CREATE TABLE user_groups (
    id         TEXT   NOT NULL PRIMARY KEY, -- AGPA…
    account    TEXT   NOT NULL REFERENCES accounts (id),
    name       TEXT   NOT NULL,
    folded     TEXT   NOT NULL,
    path       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (account, folded)
);

CREATE TABLE group_members (
    account  TEXT NOT NULL REFERENCES accounts (id),
    user_id  TEXT NOT NULL REFERENCES users (id),
    group_id TEXT NOT NULL REFERENCES user_groups (id),
    PRIMARY KEY (user_id, group_id)
);
CREATE INDEX group_members_group ON group_members (group_id);

CREATE TABLE role_policies (
    account    TEXT   NOT NULL REFERENCES accounts (id),
    role_id    TEXT   NOT NULL REFERENCES roles (id),
    name       TEXT   NOT NULL,
    document   TEXT   NOT NULL, -- as given
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (role_id, name)
);

CREATE TABLE group_policies (
    account    TEXT   NOT NULL REFERENCES accounts (id),
    group_id   TEXT   NOT NULL REFERENCES user_groups (id),
    name       TEXT   NOT NULL,
    document   TEXT   NOT NULL, -- as given
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (group_id, name)
);

-- folded is the tag key in lower case: keys that differ in case only are one key.
CREATE TABLE user_tags (
    account   TEXT NOT NULL REFERENCES accounts (id),
    user_id   TEXT NOT NULL REFERENCES users (id),
    folded    TEXT NOT NULL,
    tag_key   TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    PRIMARY KEY (user_id, folded)
);

CREATE TABLE role_tags (
    account   TEXT NOT NULL REFERENCES accounts (id),
    role_id   TEXT NOT NULL REFERENCES roles (id),
    folded    TEXT NOT NULL,
    tag_key   TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    PRIMARY KEY (role_id, folded)
);

-- +goose Down
DROP TABLE role_tags;
DROP TABLE user_tags;
DROP TABLE group_policies;
DROP TABLE role_policies;
DROP TABLE group_members;
DROP TABLE user_groups;
DROP TABLE roles;
ALTER TABLE users DROP COLUMN boundary;
