package server_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/server"
)

// docs/api.md names every operation of the native service, and no other.
func TestAPIDocumentIsComplete(t *testing.T) {
	text, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, m := range regexp.MustCompile("`([A-Z][A-Za-z]+)`").FindAllStringSubmatch(cells[1], -1) {
			documented[m[1]] = true
		}
	}
	for _, s := range server.Services() {
		if s.Name != "keyturn" {
			continue
		}
		for _, o := range s.Operations {
			if !documented[o.Name] {
				t.Errorf("docs/api.md does not name %s", o.Name)
			}
			delete(documented, o.Name)
		}
	}
	for name := range documented {
		t.Errorf("docs/api.md names %s, which does not exist", name)
	}
}
