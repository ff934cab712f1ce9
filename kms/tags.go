package kms

import (
	"context"
	"fmt"
	"strings"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/sqldb"
)

// checkTags refuses what the model does not: reserved and repeated tag keys.
func (s *Service) checkTags(tags []Tag) error {
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		if strings.HasPrefix(strings.ToLower(t.TagKey), "aws:") {
			return awsapi.Errorf("TagException", "Tags beginning with aws: are reserved")
		}
		if seen[t.TagKey] {
			return awsapi.Errorf("TagException", "Duplicate tag keys")
		}
		seen[t.TagKey] = true
	}
	if len(tags) > s.quotas.TagsPerKey {
		return awsapi.Errorf("LimitExceededException", "A key has at most %d tags", s.quotas.TagsPerKey)
	}
	return nil
}

func putTag(tx *sqldb.Tx, keyARN string, t Tag) error {
	_, err := tx.Exec(`INSERT INTO kms_tags (key_arn, tag_key, tag_value) VALUES ($1, $2, $3)
		ON CONFLICT (key_arn, tag_key) DO UPDATE SET tag_value = excluded.tag_value`, keyARN, t.TagKey, t.TagValue)
	return err
}

// TagResource adds tags, or gives present ones another value; all or none.
func (s *Service) TagResource(ctx context.Context, call *access.Call, in *TagResourceRequest) (*awsapi.Empty, error) {
	if err := s.checkTags(in.Tags); err != nil {
		return nil, err
	}
	_, err := s.change(ctx, call, &request{operation: "TagResource", keyID: in.KeyId, tags: in.Tags}, func(tx *sqldb.Tx, k *keyRow) error {
		for _, t := range in.Tags {
			if err := putTag(tx, k.arn, t); err != nil {
				return err
			}
		}
		var count int
		if err := tx.QueryRow(`SELECT COUNT(*) FROM kms_tags WHERE key_arn = $1`, k.arn).Scan(&count); err != nil {
			return err
		}
		if count > s.quotas.TagsPerKey {
			return awsapi.Errorf("LimitExceededException", "A key has at most %d tags", s.quotas.TagsPerKey)
		}
		return nil
	})
	return nil, err
}

// UntagResource removes tags; one that is not there is no error.
func (s *Service) UntagResource(ctx context.Context, call *access.Call, in *UntagResourceRequest) (*awsapi.Empty, error) {
	_, err := s.change(ctx, call, &request{operation: "UntagResource", keyID: in.KeyId, tagKeys: in.TagKeys}, func(tx *sqldb.Tx, k *keyRow) error {
		for _, key := range in.TagKeys {
			if _, err := tx.Exec(`DELETE FROM kms_tags WHERE key_arn = $1 AND tag_key = $2`, k.arn, key); err != nil {
				return err
			}
		}
		return nil
	})
	return nil, err
}

// ListResourceTags lists a key's tags, ordered by tag key.
func (s *Service) ListResourceTags(ctx context.Context, call *access.Call, in *ListResourceTagsRequest) (*ListResourceTagsResponse, error) {
	n, err := parseKeyName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit(in.Limit, 50, 50)
	if err != nil {
		return nil, err
	}
	last, err := parseMarker("ListResourceTags", n.arn(), in.Marker)
	if err != nil {
		return nil, err
	}
	k, err := s.findKey(ctx, call, &request{operation: "ListResourceTags", keyID: in.KeyId}, n)
	if err != nil {
		return nil, err
	}
	rows, err := s.db.Query(ctx, `SELECT tag_key, tag_value FROM kms_tags WHERE key_arn = $1 AND tag_key > $2
		ORDER BY tag_key LIMIT $3`, k.arn, last, limit+1)
	if err != nil {
		return nil, fmt.Errorf("listing tags: %w", err)
	}
	defer rows.Close()
	out := &ListResourceTagsResponse{Tags: []Tag{}}
	for rows.Next() {
		var t Tag
		if err := rows.Scan(&t.TagKey, &t.TagValue); err != nil {
			return nil, fmt.Errorf("listing tags: %w", err)
		}
		if len(out.Tags) == limit {
			out.Truncated = true
			out.NextMarker = formatMarker("ListResourceTags", k.arn, out.Tags[limit-1].TagKey)
			break
		}
		out.Tags = append(out.Tags, t)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing tags: %w", err)
	}
	return out, nil
}

const keysTagged = `SELECT k.arn FROM kms_tags t JOIN kms_keys k ON k.arn = t.key_arn
	WHERE t.tag_key = $1 AND t.tag_value = $2 AND k.account = $3 AND k.region = $4 AND k.state <> 'Destroyed' ORDER BY k.arn`

// KeysTagged answers the ARNs of the account's keys in the Region that carry a
// tag. It costs one search in an index, however many keys there are. Nobody is
// asked whether the caller may know: it is for the server's own use, and what is
// then done with the keys passes the Guard as ever.
func (s *Service) KeysTagged(ctx context.Context, account, region, key, value string) (arns []string, err error) {
	rows, err := s.db.Query(ctx, keysTagged, key, value, account, region)
	if err != nil {
		return nil, fmt.Errorf("looking for keys tagged %s: %w", key, err)
	}
	defer rows.Close()
	for rows.Next() {
		var arn string
		if err := rows.Scan(&arn); err != nil {
			return nil, fmt.Errorf("looking for keys tagged %s: %w", key, err)
		}
		arns = append(arns, arn)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("looking for keys tagged %s: %w", key, err)
	}
	return arns, nil
}
