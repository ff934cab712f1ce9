package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"sync"
)

type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// statements keeps prepared statements by text. Preparing costs SQLite more than
// running most of them.
type statements struct {
	on preparer

	mu     sync.RWMutex
	byText map[string]*sql.Stmt
}

func newStatements(on preparer) *statements {
	return &statements{on: on, byText: make(map[string]*sql.Stmt)}
}

// find returns the prepared statement of text. It returns nil when text cannot be
// prepared, and then running it says why, or when there are too many already.
func (s *statements) find(ctx context.Context, text string) *sql.Stmt {
	s.mu.RLock()
	stmt, ok := s.byText[text]
	full := len(s.byText) >= maxTexts/4
	s.mu.RUnlock()
	if ok || full {
		return stmt
	}
	stmt, err := s.on.PrepareContext(ctx, text)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.byText[text]; ok {
		stmt.Close()
		return first
	}
	s.byText[text] = stmt
	return stmt
}

func (s *statements) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for text, stmt := range s.byText {
		errs = append(errs, stmt.Close())
		delete(s.byText, text)
	}
	return errors.Join(errs...)
}

// normalize makes SQLite store what PostgreSQL would: a nil []byte is NULL there.
func normalize(args []any) []any {
	for i, a := range args {
		if b, ok := a.([]byte); ok && b == nil {
			args[i] = nil
		}
	}
	return args
}
