-- One row for each shard of topics that has ever changed. A writer adds one to
-- the epochs of the shards it touched inside its own transaction; other nodes
-- read all epochs and so learn what to read again. SQLite, which serves one
-- process only, leaves the table empty.

-- +goose Up
CREATE TABLE change_epochs (
    shard BIGINT NOT NULL PRIMARY KEY, -- 0..255, see sqldb.ShardOf
    epoch BIGINT NOT NULL
);

-- +goose Down
DROP TABLE change_epochs;
