package awsapi

import (
	"fmt"
	"slices"
	"strings"
)

// Compatibility renders the page that says which operations exist and how they
// differ, in Markdown, from the operation tables themselves.
func Compatibility(services []Service) string {
	var b strings.Builder
	b.WriteString("# Compatibility\n\nPrinted from the operation tables; do not edit.\n")
	for _, s := range services {
		existing := make(map[string]bool, len(s.Operations))
		names := slices.Clone(s.Known)
		for _, op := range s.Operations {
			existing[op.Name] = true
			names = append(names, op.Name)
		}
		slices.Sort(names)
		names = slices.Compact(names)
		call, answer := "X-Amz-Target: "+s.TargetPrefix+".<operation>", codeUnknownOperation
		if s.QueryVersion != "" {
			call, answer = "Action=<operation>&Version="+s.QueryVersion, codeInvalidAction
		}
		fmt.Fprintf(&b, "\n## %s\n\n`%s`, signed for `%s`", s.Name, call, s.SigningName)
		for _, also := range s.AlsoSignedAs {
			fmt.Fprintf(&b, " or `%s`", also)
		}
		fmt.Fprintf(&b, ". %d of %d operations exist; the others answer `%s`.\n\n", len(existing), len(names), answer)
		b.WriteString("| operation | exists |\n|---|---|\n")
		for _, name := range names {
			mark := "yes"
			if !existing[name] {
				mark = "not yet"
			}
			fmt.Fprintf(&b, "| %s | %s |\n", name, mark)
		}
		if len(s.Notes) > 0 {
			b.WriteString("\nWhere AWS is silent, contradicts itself, or is departed from on purpose:\n\n")
		}
		notes := slices.Clone(s.Notes)
		slices.SortStableFunc(notes, func(a, b Note) int { return strings.Compare(a.Operation, b.Operation) })
		for _, n := range notes {
			fmt.Fprintf(&b, "- **%s**: %s\n", n.Operation, n.Text)
		}
	}
	return b.String()
}
