-- Keys by their tags: a rotation finds again what it made (package rotators).

-- +goose Up
CREATE INDEX kms_tags_value ON kms_tags (tag_key, tag_value);

-- +goose Down
DROP INDEX kms_tags_value;
