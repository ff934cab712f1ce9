package access

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// A violations list collects what is wrong with an input, in AWS's words.
type violations []string

func (v *violations) add(value, member, constraint string) {
	*v = append(*v, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: Member must %s", quoteValue(value), member, constraint))
}

// err words the list as AWS does, nil when it is empty.
func (v violations) err() error {
	if len(v) == 0 {
		return nil
	}
	noun := "errors"
	if len(v) == 1 {
		noun = "error"
	}
	return errorf("ValidationException", "%d validation %s detected: %s", len(v), noun, strings.Join(v, "; "))
}

func quoteValue(value string) string {
	if value == "" {
		return "null"
	}
	return "'" + value + "'"
}

const namePattern = `[\w+=,.@-]+`

// name checks a user's or policy's name: IAM's pattern and length.
func (v *violations) name(value, member string, longest int) {
	if value == "" {
		v.add(value, member, "not be null")
		return
	}
	if !only(value, "_+=,.@-") {
		v.add(value, member, "satisfy regular expression pattern: "+namePattern)
	}
	if len(value) > longest {
		v.add(value, member, "have length less than or equal to "+strconv.Itoa(longest))
	}
}

func (v *violations) userName(value string)   { v.name(value, "userName", users.longest) }
func (v *violations) roleName(value string)   { v.name(value, "roleName", roles.longest) }
func (v *violations) groupName(value string)  { v.name(value, "groupName", groups.longest) }
func (v *violations) policyName(value string) { v.name(value, "policyName", 128) }

// optionalUserName: where a user may be left out, the caller is meant.
func (v *violations) optionalUserName(value string) {
	if value != "" {
		v.userName(value)
	}
}

func (v *violations) accessKeyID(value string) {
	switch {
	case value == "":
		v.add(value, "accessKeyId", "not be null")
	case len(value) < 16 || len(value) > 128:
		v.add(cut(value, 128), "accessKeyId", "have length between 16 and 128")
	case !only(value, "_"):
		v.add(value, "accessKeyId", `satisfy regular expression pattern: [\w]+`)
	}
}

func (v *violations) path(value string) {
	if value == "" || value == "/" {
		return
	}
	ok := len(value) <= 512 && strings.HasPrefix(value, "/") && strings.HasSuffix(value, "/") && len(value) > 2
	for i := range len(value) {
		ok = ok && value[i] >= '!' && value[i] <= '~' && value[i] != ':' && value[i] != '*' && value[i] != '?'
	}
	if !ok {
		v.add(cut(value, 512), "path", `satisfy regular expression pattern: (\u002F)|(\u002F[\u0021-\u007E]+\u002F)`)
	}
}

func (v *violations) maxItems(n int) {
	if n < 0 || n > 1000 {
		v.add(strconv.Itoa(n), "maxItems", "have value between 1 and 1000")
	}
}

// marker checks and opens a page marker.
func (v *violations) marker(m string) {
	if _, err := openMarker(m); err != nil {
		v.add(cut(m, 128), "marker", "be a marker of an earlier answer")
	}
}

// A marker is the last name of a page. It is a hint where to go on, no secret and no permission.
func makeMarker(name string) string { return base64.RawURLEncoding.EncodeToString([]byte("1" + name)) }

func openMarker(m string) (string, error) {
	if m == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(m)
	if err != nil || len(b) == 0 || b[0] != '1' || !only(string(b), "_+=,.@-") {
		return "", fmt.Errorf("opening marker: not one of ours")
	}
	return string(b[1:]), nil
}

// only reports whether s holds ASCII letters, digits and the bytes of more.
func only(s, more string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return true
}
