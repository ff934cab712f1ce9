-- Multi-Region keys.

-- +goose Up

-- Primary keys that wait for their last replica to go.
CREATE INDEX kms_keys_waiting ON kms_keys (account, key_id) WHERE state = 'PendingReplicaDeletion';

-- +goose Down
DROP INDEX kms_keys_waiting;
