-- Where each node's audit log stood when it last said so: a file that ends
-- before its newest anchor has lost its tail. Rows are only ever added.

-- +goose Up
CREATE TABLE audit_anchors (
    node TEXT NOT NULL,
    log TEXT NOT NULL,      -- the log's id, made when its directory was first opened
    seq BIGINT NOT NULL,    -- sequence number of the record
    hash TEXT NOT NULL,     -- its chain hash, lower-case hex
    at BIGINT NOT NULL,     -- UTC microseconds
    PRIMARY KEY (log, seq)
);

-- +goose Down
DROP TABLE audit_anchors;
