package rotators

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// document is a key policy, as far as a rotator must understand one: it copies a key's policy to the
// successor and adds or removes one statement of its own. All else is carried along as it was read.
type document struct {
	root map[string]any
}

// sidDeactivated begins the Sid of the statement that takes the originator's half of a key's work away.
// Statements whose Sid begins so are Keyturn's; all others are somebody else's and never changed.
const sidDeactivated = "keyturnDeactivated"

// deactivatedActions make something new with a key. What reads what was made before (Verify, VerifyMac, Decrypt,
// Decapsulate, DeriveSharedSecret, ReEncryptFrom, GetPublicKey) stays allowed: PCI DSS 3.7.5, NIST SP 800-57 "deactivated".
var deactivatedActions = []any{
	"kms:Sign", "kms:Encrypt", "kms:GenerateMac", "kms:GenerateDataKey*", "kms:ReEncryptTo", "kms:Encapsulate",
}

func parseDocument(text string) (*document, error) {
	var root map[string]any
	if err := json.Unmarshal([]byte(text), &root); err != nil {
		return nil, fmt.Errorf("reading the key policy: %w", err)
	}
	if root == nil {
		return nil, fmt.Errorf("reading the key policy: it is not an object")
	}
	return &document{root: root}, nil
}

func (d *document) String() string {
	text, err := json.Marshal(d.root, json.Deterministic(true), jsontext.EscapeForHTML(false))
	if err != nil {
		// What was decoded from JSON encodes again.
		panic("encoding a key policy: " + err.Error())
	}
	return string(text)
}

// statements answers the list of statements; a policy may hold one outside a list.
func (d *document) statements() []any {
	switch s := d.root["Statement"].(type) {
	case []any:
		return s
	case map[string]any:
		return []any{s}
	}
	return nil
}

func ourStatement(s any) bool {
	m, _ := s.(map[string]any)
	sid, _ := m["Sid"].(string)
	return strings.HasPrefix(sid, sidDeactivated)
}

func (d *document) deactivated() bool { return slices.ContainsFunc(d.statements(), ourStatement) }

// deactivate adds the deny statement; without reports the document without it.
func (d *document) deactivate() *document {
	out := d.without()
	out.root["Statement"] = append(out.root["Statement"].([]any), map[string]any{
		"Sid": sidDeactivated, "Effect": "Deny", "Principal": map[string]any{"AWS": "*"},
		"Action": slices.Clone(deactivatedActions), "Resource": "*",
	})
	return out
}

func (d *document) without() *document {
	root := make(map[string]any, len(d.root))
	for k, v := range d.root {
		root[k] = v
	}
	kept := []any{}
	for _, s := range d.statements() {
		if !ourStatement(s) {
			kept = append(kept, s)
		}
	}
	root["Statement"] = kept
	return &document{root: root}
}

// administrable reports whether some statement allows somebody to change the policy. It is less than AWS's lockout
// check, which asks whether the caller himself still could, and never stricter.
func (d *document) administrable() bool {
	for _, s := range d.statements() {
		m, _ := s.(map[string]any)
		if m["Effect"] != "Allow" || m["NotAction"] != nil {
			if m["Effect"] == "Allow" {
				return true
			}
			continue
		}
		actions, ok := m["Action"].([]any)
		if !ok {
			actions = []any{m["Action"]}
		}
		for _, a := range actions {
			text, _ := a.(string)
			if matchesAction(strings.ToLower(text), "kms:putkeypolicy") {
				return true
			}
		}
	}
	return false
}

// matchesAction matches IAM's wildcards in an action, * and ?, in time linear in the pattern for each letter of the action.
func matchesAction(pattern, action string) bool {
	p, a, star, mark := 0, 0, -1, 0
	for a < len(action) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, a
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == action[a]):
			p, a = p+1, a+1
		case star >= 0:
			mark++
			p, a = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// successor answers the policy for the key that replaces the key of the given ARN. A Resource that names the old key
// becomes "*", which in a key policy means the key it is attached to: the successor's ARN is not known before it
// exists, and a policy that named the old key would grant nothing. Any other mention of the old key (in a condition, say)
// becomes the new ARN or id once that is known; until then rest is true and newARN is empty.
func (d *document) successor(oldARN, newARN string) (policy *document, rest bool) {
	oldID, newID := keyID(oldARN), keyID(newARN)
	out := d.without()
	for i, s := range out.statements() {
		m, ok := s.(map[string]any)
		if !ok {
			continue
		}
		changed := make(map[string]any, len(m))
		for k, v := range m {
			if k == "Resource" {
				v = replaceStrings(v, func(s string) string {
					if s == oldARN || s == oldID {
						return "*"
					}
					return s
				})
			}
			changed[k] = v
		}
		out.root["Statement"].([]any)[i] = changed
	}
	root := replaceStrings(out.root, func(s string) string {
		if !strings.Contains(s, oldID) {
			return s
		}
		rest = true
		if newARN == "" {
			return s
		}
		return strings.ReplaceAll(strings.ReplaceAll(s, oldARN, newARN), oldID, newID)
	})
	out.root = root.(map[string]any)
	return out, rest
}

// same reports whether two policies say the same: order of members, spacing, and a list of one instead of a
// single string do not matter. AWS itself answers a policy in another form than it was given.
func (d *document) same(other *document) bool {
	return reflect.DeepEqual(canonical(d.root), canonical(other.root))
}

func canonical(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = canonical(e)
		}
		return out
	case []any:
		if len(v) == 1 {
			return canonical(v[0])
		}
		out := make([]any, len(v))
		plain := true
		for i, e := range v {
			out[i] = canonical(e)
			_, isString := out[i].(string)
			plain = plain && isString
		}
		if plain {
			// Lists of actions, principals and resources are sets.
			slices.SortFunc(out, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		}
		return out
	}
	return v
}

func replaceStrings(v any, replace func(string) string) any {
	switch v := v.(type) {
	case string:
		return replace(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = replaceStrings(e, replace)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = replaceStrings(e, replace)
		}
		return out
	}
	return v
}

// keyID is the id at the end of a key's ARN.
func keyID(arn string) string {
	return arn[strings.LastIndexByte(arn, '/')+1:]
}

// samePolicyText reports whether two texts are the same policy; unreadable texts are the same only when equal byte for byte.
func samePolicyText(a, b string) bool {
	da, errA := parseDocument(a)
	db, errB := parseDocument(b)
	if errA != nil || errB != nil {
		return bytes.Equal([]byte(a), []byte(b))
	}
	return da.same(db)
}
