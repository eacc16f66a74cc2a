package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on a policy text.
const (
	MaxSource = 1 << 20 // bytes
	MaxLines  = 20_000

	maxColumn   = 64  // of a block key or entry: blocks nest by indentation, so this bounds how deep they do
	maxFlow     = 4   // [ and { inside each other
	maxEntries  = 512 // of one mapping or sequence
	maxProblems = 20  // that one error lists
)

// Parse reads a policy text: YAML, one document, no anchors, aliases, tags or merge keys, no key that is unknown or
// named twice. kindKnown tells whether a kind of that name exists. Every error is an *InvalidError and
// errors.Is(err, ErrInvalid).
func Parse(text []byte, kindKnown func(string) bool) (*Policy, error) {
	f := &faults{}
	root := parseTree(text, f)
	if f.any() {
		return nil, f.err()
	}
	r := &reader{faults: f, kindKnown: kindKnown}
	p := r.policy(root)
	if f.any() {
		return nil, f.err()
	}
	p.source = bytes.Clone(text)
	return p, nil
}

// parseTree bounds the text, then its tokens, and only then builds a tree: the library's parser is recursive and has
// no limits of its own. The answer is the root of the document, or nil with a fault.
func parseTree(text []byte, f *faults) (root ast.Node) {
	switch {
	case len(text) > MaxSource:
		f.add(0, "", "the text is longer than %d bytes; shorten it", MaxSource)
		return nil
	case bytes.Count(text, []byte("\n")) >= MaxLines:
		f.add(0, "", "the text has more than %d lines; shorten it", MaxLines)
		return nil
	case !utf8.Valid(text):
		f.add(0, "", "the text is not UTF-8; save it as UTF-8")
		return nil
	}
	if line := forbiddenRune(text); line > 0 {
		f.add(line, "", "there is a control character; indent with spaces and remove it")
		return nil
	}
	// A fault of the library must not take the server down with it: the text comes from outside.
	defer func() {
		if recover() != nil {
			root = nil
			f.add(0, "", "the text cannot be read as YAML")
		}
	}()
	// Some editors begin a file with a byte order mark; the library would take it for a part of the first key.
	tokens := lexer.Tokenize(strings.TrimPrefix(string(text), "\ufeff"))
	if checkTokens(tokens, f); f.any() {
		return nil
	}
	// Keys named twice are refused by the reader, which names the path.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		f.syntax(err)
		return nil
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		f.add(0, "", "the text is empty; start from the starter policy")
		return nil
	}
	return file.Docs[0].Body
}

// checkTokens refuses what a policy has no use for, and what nests too deep.
func checkTokens(tokens token.Tokens, f *faults) {
	flow, begun, ended := 0, false, false
	for _, t := range tokens {
		line := t.Position.Line
		if t.Type == token.CommentType {
			continue
		}
		if ended || begun && t.Type == token.DocumentHeaderType {
			f.add(line, "", "there is more than one document; keep one")
			return
		}
		begun, ended = true, t.Type == token.DocumentEndType
		switch t.Type {
		case token.AnchorType, token.AliasType:
			f.add(line, "", "anchors and aliases are not allowed; write the value out")
		case token.MergeKeyType:
			f.add(line, "", "merge keys are not allowed; write the values out")
		case token.TagType:
			f.add(line, "", "tags are not allowed; remove %.20q", t.Value)
		case token.DirectiveType:
			f.add(line, "", "directives are not allowed; remove the line")
		case token.MappingKeyType:
			f.add(line, "", "a key with ? is not allowed; write key: value")
		case token.LiteralType, token.FoldedType:
			f.add(line, "", "a text over several lines is not allowed; write it on one line, in quotes")
		case token.SequenceStartType, token.MappingStartType:
			if flow++; flow > maxFlow {
				f.add(line, "", "brackets nest deeper than %d; a policy needs no more than 2", maxFlow)
			}
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingValueType:
			if flow <= 0 && structureColumn(t) > maxColumn {
				f.add(line, "", "the line is indented further than %d columns; indent by two spaces", maxColumn)
			}
		}
		if f.full() {
			return
		}
	}
}

// structureColumn is where the block that t belongs to begins: its own column for "-", the key's for ":".
func structureColumn(t *token.Token) int {
	if t.Type == token.MappingValueType && t.Prev != nil {
		return t.Prev.Position.Column
	}
	return t.Position.Column
}

// forbiddenRune returns the line of the first control character that is not a line break, or 0.
// A tab is among them: YAML does not indent with it, and in a name it could not be seen.
func forbiddenRune(text []byte) int {
	line := 1
	for i, c := range text {
		switch {
		case c == '\n':
			line++
		case c == '\r' && i+1 < len(text) && text[i+1] == '\n':
		case c < 0x20 || c == 0x7f:
			return line
		}
	}
	return 0
}

func lineOf(n ast.Node) int {
	if n == nil {
		return 0
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// faults collects problems until there are enough of them.
type faults struct{ list []Problem }

func (f *faults) add(line int, path, format string, args ...any) {
	if !f.full() {
		f.list = append(f.list, Problem{Line: line, Path: path, Text: fmt.Sprintf(format, args...)})
	}
}

// syntax takes the library's own words and line, without the excerpt of the text that it would print.
func (f *faults) syntax(err error) {
	var e yaml.Error
	if !errors.As(err, &e) {
		f.add(0, "", "the text cannot be read as YAML")
		return
	}
	line := 0
	if t := e.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	f.add(line, "", "the text cannot be read as YAML: %s", e.GetMessage())
}

func (f *faults) any() bool  { return len(f.list) > 0 }
func (f *faults) full() bool { return len(f.list) >= maxProblems }

func (f *faults) err() error {
	slices.SortStableFunc(f.list, func(a, b Problem) int { return a.Line - b.Line })
	return &InvalidError{Problems: f.list}
}
