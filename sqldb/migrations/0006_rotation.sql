-- Rotation policies, their lineages with every generation, the rotations and
-- the history, as package rotation reads them. Booleans are 0/1, times are UTC
-- microseconds and 0 for never where they are not null.

-- +goose Up

-- One row a policy. doc is the document as JSON; gen counts the changes and
-- every change is a compare-and-swap on it.
CREATE TABLE rotation_policies (
    arn        TEXT   NOT NULL PRIMARY KEY,
    account    TEXT   NOT NULL,
    region     TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    alias_arn  TEXT   NOT NULL,
    doc        TEXT   NOT NULL,
    paused     BIGINT NOT NULL,
    gen        BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (account, region, name),
    UNIQUE (target, alias_arn)
);

-- One row a lineage. It outlives its policy. numbers and events are the last
-- numbers given to a generation and to a line of the history.
CREATE TABLE lineages (
    target       TEXT   NOT NULL,
    alias_arn    TEXT   NOT NULL,
    active_key   TEXT   NOT NULL, -- that the alias names; '' until it is adopted
    previous_key TEXT   NOT NULL, -- that it named before: what a roll back goes back to
    numbers      BIGINT NOT NULL,
    events       BIGINT NOT NULL,
    PRIMARY KEY (target, alias_arn)
);

CREATE TABLE generations (
    target         TEXT   NOT NULL,
    alias_arn      TEXT   NOT NULL,
    number         BIGINT NOT NULL,
    key_arn        TEXT   NOT NULL,
    state          TEXT   NOT NULL,
    made           TEXT   NOT NULL,
    spec           TEXT   NOT NULL,
    key_usage      TEXT   NOT NULL,
    public_key     BYTEA,             -- SubjectPublicKeyInfo, kept for ever
    note           TEXT   NOT NULL,
    created_at     BIGINT NOT NULL,
    published_at   BIGINT NOT NULL,
    activated_at   BIGINT NOT NULL,
    deactivated_at BIGINT NOT NULL,
    overlap_ends   BIGINT NOT NULL,
    suspended_at   BIGINT NOT NULL,
    deletion_at    BIGINT NOT NULL,
    compromised_at BIGINT NOT NULL,
    destroyed_at   BIGINT NOT NULL,
    usable_until   BIGINT NOT NULL,   -- may verify and decrypt until then; 0: no longer
    PRIMARY KEY (target, alias_arn, number),
    UNIQUE (target, alias_arn, key_arn)
);
CREATE INDEX generations_key ON generations (key_arn, target);
CREATE INDEX generations_usable ON generations (target, alias_arn, usable_until);

-- One row a rotation. wake is when an engine must look at it, NULL for never:
-- this one index finds all the work there is. head marks the one row of a
-- policy that moves its alias next. stage: 1 scheduled, 2 begun, 0 over.
CREATE TABLE rotations (
    id          TEXT   NOT NULL PRIMARY KEY,
    policy      TEXT   NOT NULL,
    gen         BIGINT NOT NULL,
    kind        TEXT   NOT NULL,
    status      TEXT   NOT NULL,
    stage       BIGINT NOT NULL,
    head        BIGINT NOT NULL,
    step        TEXT   NOT NULL,
    begun       BIGINT NOT NULL,
    attempt     BIGINT NOT NULL,
    error       TEXT   NOT NULL,
    hint        TEXT   NOT NULL,
    switched    BIGINT NOT NULL,
    parked      BIGINT NOT NULL,
    due         BIGINT NOT NULL,
    wake        BIGINT,
    start_at    BIGINT NOT NULL,
    window_end  BIGINT NOT NULL,
    wanted      BIGINT NOT NULL,
    base        BIGINT NOT NULL,
    why         TEXT   NOT NULL,
    token       TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    begun_at    BIGINT NOT NULL,
    switched_at BIGINT NOT NULL,
    ended_at    BIGINT NOT NULL,
    owner       TEXT   NOT NULL,
    lease_until BIGINT NOT NULL,
    data        TEXT   NOT NULL
);
CREATE INDEX rotations_wake ON rotations (wake) WHERE wake IS NOT NULL;
CREATE UNIQUE INDEX rotations_head ON rotations (policy) WHERE head = 1;
CREATE INDEX rotations_open ON rotations (policy, created_at) WHERE stage > 0;
CREATE INDEX rotations_begun ON rotations (policy, begun_at);
CREATE INDEX rotations_created ON rotations (policy, created_at, id);
CREATE INDEX rotations_stage ON rotations (stage, wanted) WHERE stage > 0;

-- The history: rows are only ever added, in the transaction of what they tell.
CREATE TABLE rotation_events (
    target    TEXT   NOT NULL,
    alias_arn TEXT   NOT NULL,
    seq       BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    policy    TEXT   NOT NULL,
    rotation  TEXT   NOT NULL,
    kind      TEXT   NOT NULL,
    step      TEXT   NOT NULL,
    what      TEXT   NOT NULL,
    note      TEXT   NOT NULL,
    error     TEXT   NOT NULL,
    next_at   BIGINT NOT NULL,
    node      TEXT   NOT NULL,
    caller    TEXT   NOT NULL,
    PRIMARY KEY (target, alias_arn, seq)
);
CREATE INDEX rotation_events_rotation ON rotation_events (rotation, seq);

-- +goose Down
DROP TABLE rotation_events;
DROP TABLE rotations;
DROP TABLE generations;
DROP TABLE lineages;
DROP TABLE rotation_policies;
