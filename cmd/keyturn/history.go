package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/rotation"
	"github.com/spf13/cobra"
)

// pages is how much of a list a person wants to see.
type pages struct{ limit int }

func (p *pages) flag(cmd *cobra.Command, what string) {
	cmd.Flags().IntVar(&p.limit, "limit", 50, "at most so many "+what+"; 0: all")
}

// page is the next page to ask for, after have items.
func (p *pages) page(have int, token string) rotation.Page {
	size := 1000
	if p.limit > 0 {
		size = min(p.limit-have, size)
	}
	return rotation.Page{MaxResults: size, NextToken: token}
}

func (p *pages) check() error {
	if p.limit < 0 {
		return usageError(errors.New("--limit is less than nothing"), "0 shows all")
	}
	return nil
}

// enough reports whether no further page is wanted or there.
func (p *pages) enough(have int, token string) bool {
	return token == "" || p.limit > 0 && have >= p.limit
}

func (a *app) historyCommand() *cobra.Command {
	var p pages
	cmd := &cobra.Command{
		Use: "history POLICY", Short: "What has happened to a key lineage, the newest first",
		Example: "keyturn history alias/payments --limit 200",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.check(); err != nil {
				return err
			}
			on, err := a.onPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			events, token := []rotation.Event{}, ""
			for {
				var out rotation.ListHistoryOutput
				if err := on.call(cmd.Context(), "ListHistory", &rotation.ListHistoryInput{Name: on.policy, Page: p.page(len(events), token)}, &out); err != nil {
					return err
				}
				events, token = append(events, out.Events...), out.NextToken
				if p.enough(len(events), token) {
					break
				}
			}
			return a.print(map[string]any{"policy": on.policy, "events": events}, func() error {
				var rows [][]string
				for _, e := range events {
					rows = append(rows, []string{when(e.At), string(e.Kind), string(e.Step), a.whatColour(e.What), eventWords(&e)})
				}
				return a.rows([]string{"TIME", "KIND", "STEP", "WHAT", "NOTE"}, rows, "Nothing has happened yet.")
			})
		},
	}
	p.flag(cmd, "events")
	return cmd
}

func (a *app) whatColour(w rotation.What) string {
	switch w {
	case rotation.WhatFailed:
		return a.colour(string(w), red)
	case rotation.WhatRetry, rotation.WhatRecovered, rotation.WhatCanceled, rotation.WhatRolledBack, rotation.WhatMoved, rotation.WhatCapped:
		return a.colour(string(w), yellow)
	case rotation.WhatDone, rotation.WhatFinished:
		return a.colour(string(w), green)
	}
	return string(w)
}

// eventWords are the error, the note, when it goes on and who asked, as far as there are any.
func eventWords(e *rotation.Event) string {
	var words []string
	for _, s := range []string{e.Error, e.Note} {
		if s != "" {
			words = append(words, brief(s))
		}
	}
	if !e.Next.IsZero() {
		words = append(words, "next "+when(e.Next))
	}
	if e.Caller != "" {
		words = append(words, "by "+brief(e.Caller))
	}
	return strings.Join(words, "; ")
}

func (a *app) generationsCommand() *cobra.Command {
	var p pages
	cmd := &cobra.Command{
		Use: "generations POLICY", Short: "Every key that has stood behind the alias, the newest first",
		Example: "keyturn generations alias/payments",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.check(); err != nil {
				return err
			}
			on, err := a.onPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			var all rotation.ListGenerationsOutput
			for {
				var out rotation.ListGenerationsOutput
				in := &rotation.ListGenerationsInput{Name: on.policy, Page: p.page(len(all.Generations), all.NextToken)}
				if err := on.call(cmd.Context(), "ListGenerations", in, &out); err != nil {
					return err
				}
				all.Alias, all.NextToken = out.Alias, out.NextToken
				all.Generations = append(all.Generations, out.Generations...)
				if p.enough(len(all.Generations), all.NextToken) {
					break
				}
			}
			if all.Generations == nil {
				all.Generations = []rotation.Generation{}
			}
			return a.print(all, func() error {
				var rows [][]string
				for i := range all.Generations {
					g := &all.Generations[i]
					rows = append(rows, []string{fmt.Sprintf("v%d", g.Number), a.generationColour(g), g.Spec, keyOf(g.Key), generationWords(g, time.Now()) + inRegions(g)})
				}
				return a.rows([]string{"", "STATE", "SPEC", "KEY", "WHEN"}, rows, "The key behind the alias is not adopted yet; try again in a moment.")
			})
		},
	}
	p.flag(cmd, "generations")
	return cmd
}

func (a *app) generationColour(g *rotation.Generation) string {
	text := string(g.State)
	if g.Active && g.State != rotation.StateActive {
		text += ", behind the alias"
	}
	switch g.State {
	case rotation.StateActive:
		return a.colour(text, green)
	case rotation.StatePreActivation:
		return a.colour(text, blue)
	case rotation.StateCompromised:
		return a.colour(text, red)
	case rotation.StateDeactivated:
		return a.colour(text, yellow)
	}
	return a.colour(text, grey)
}

// generationWords says what time says about a generation's state.
// inRegions names the Regions of a Multi-Region key.
func inRegions(g *rotation.Generation) string {
	if len(g.Regions) == 0 {
		return ""
	}
	return "; in " + strings.Join(g.Regions, ", ")
}

func generationWords(g *rotation.Generation, now time.Time) string {
	words := ""
	switch g.State {
	case rotation.StatePreActivation:
		words = "not published"
		if !g.PublishedAt.IsZero() {
			words = "published " + until(g.PublishedAt, now)
		}
	case rotation.StateActive:
		words = "since " + when(g.ActivatedAt)
		if g.ActivatedAt.IsZero() {
			words = "adopted " + when(g.CreatedAt)
		}
	case rotation.StateDeactivated:
		words = "verifies and decrypts for ever"
		if !g.OverlapEnds.IsZero() {
			words = "needed until " + when(g.OverlapEnds)
			if g.OverlapEnds.Before(now) {
				words = "no longer needed since " + when(g.OverlapEnds)
			}
		}
	case rotation.StateSuspended:
		words = "disabled " + when(g.SuspendedAt)
		if !g.DeletionAt.IsZero() {
			words = "deleted " + until(g.DeletionAt, now)
		}
	case rotation.StateCompromised:
		words = "since " + when(g.CompromisedAt)
	case rotation.StateDestroyed:
		words = "since " + when(g.DestroyedAt)
	}
	if g.Note != "" {
		words += "; " + brief(g.Note)
	}
	return words
}
