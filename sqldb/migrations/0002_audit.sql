-- How far each node's audit log had come when it last said so: a log that ends
-- before its newest anchor has lost its tail.

-- +goose Up
CREATE TABLE audit_anchors (
    node TEXT NOT NULL,
    seq BIGINT NOT NULL,    -- of the record
    hash TEXT NOT NULL,     -- its chain hash, lower-case hex
    at BIGINT NOT NULL,     -- UTC microseconds
    PRIMARY KEY (node, seq)
);

-- +goose Down
DROP TABLE audit_anchors;
