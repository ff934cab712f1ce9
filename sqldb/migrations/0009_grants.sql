-- Grants, as package kms reads them. Changes are announced under 'grants/<ARN of
-- the key>'.

-- +goose Up

-- grantee and retiring are ARNs, or names of services, or '' for no retiring
-- principal. grantee_id and retiring_id are the unique ids that those had when
-- the grant was made, '' for principals that have none: whoever is made under the
-- name of one who was deleted gets nothing. operations are joined by commas, in
-- the order of the API model; constraints is the member as JSON, or ''.
-- fingerprint makes CreateGrant with a name idempotent: for those it is a digest
-- of all that was asked for, for others the grant's own id.
CREATE TABLE kms_grants (
    grant_id    TEXT   NOT NULL PRIMARY KEY,
    key_arn     TEXT   NOT NULL REFERENCES kms_keys (arn),
    region      TEXT   NOT NULL,
    grantee     TEXT   NOT NULL,
    grantee_id  TEXT   NOT NULL,
    retiring    TEXT   NOT NULL,
    retiring_id TEXT   NOT NULL,
    issuer      TEXT   NOT NULL, -- the account that asked for it
    name        TEXT   NOT NULL,
    operations  TEXT   NOT NULL,
    constraints TEXT   NOT NULL,
    fingerprint TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    UNIQUE (key_arn, fingerprint)
);
CREATE INDEX kms_grants_key ON kms_grants (key_arn, grant_id);
CREATE INDEX kms_grants_grantee ON kms_grants (key_arn, grantee, grant_id);
CREATE INDEX kms_grants_retiring ON kms_grants (retiring, region, grant_id) WHERE retiring <> '';

-- +goose Down
DROP TABLE kms_grants;
