package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// maxInput bounds what is read as one value or one list of values, in bytes: the server takes bodies up to this size.
const maxInput = 8 << 20

const fieldHelp = "field to set: `NAME` asks for the value or reads it from standard input, NAME=@FILE reads a file, NAME=@- all of standard input; may be repeated"

// namedValue is a field and its value as it was typed or read.
type namedValue struct {
	field string
	value wire.Plain
}

// fieldSource is one --field, taken apart.
type fieldSource struct {
	name string
	file string // "" = prompt or standard input, "-" = standard input as it is
}

// parseFields takes the flags apart. A value in a flag is refused, and never repeated.
func parseFields(flags []string) ([]fieldSource, error) {
	out := make([]fieldSource, 0, len(flags))
	seen := map[string]bool{}
	for _, f := range flags {
		name, rest, inline := strings.Cut(f, "=")
		file, fromFile := strings.CutPrefix(rest, "@")
		switch {
		case name == "":
			return nil, usage("--field needs the name of a field, such as --field phone")
		case inline && !fromFile:
			return nil, usage("--field " + printable(name) + "=... would show the value in ps and in the shell's history; give it on standard input, or as " + printable(name) + "=@FILE")
		case inline && file == "":
			return nil, usage("--field " + printable(name) + "=@ names no file")
		case seen[name]:
			return nil, usage("--field " + printable(name) + " stands twice")
		}
		seen[name] = true
		out = append(out, fieldSource{name, file})
	}
	return out, nil
}

// fieldValues reads the values of fields by these rules:
//
//   - NAME=@FILE is the file's text, NAME=@- all of standard input, less one line end.
//   - On a terminal each NAME is asked for, without echo.
//   - Elsewhere one NAME alone takes all of standard input, less one line end. It may also be written `NAME=value`.
//   - Several NAMEs take one line `NAME=value` each, in any order; each must be there, and no other.
//   - No --field at all takes lines `NAME=value` of any names.
func (p *program) fieldValues(sources []fieldSource) ([]namedValue, error) {
	var asked []string
	whole := 0
	for _, s := range sources {
		switch s.file {
		case "":
			asked = append(asked, s.name)
		case "-":
			whole++
		}
	}
	if whole > 1 || whole == 1 && len(asked) > 0 && !p.inTerminal {
		return nil, usage("standard input can be the value of one field only; give the others as NAME=@FILE")
	}
	if len(sources) == 0 && p.inTerminal {
		return nil, usage("name the fields with --field, or give lines NAME=value on standard input")
	}
	var typed map[string]wire.Plain
	if !p.inTerminal && (len(asked) > 0 || len(sources) == 0) {
		text, err := readText(p.in, "standard input")
		if err != nil {
			return nil, err
		}
		if len(asked) == 1 {
			value := strings.TrimPrefix(trimLineEnd(text), asked[0]+"=")
			typed = map[string]wire.Plain{asked[0]: wire.Plain(value)}
		} else {
			var order []string
			if typed, order, err = parseLines(text, asked); err != nil {
				return nil, err
			}
			if len(sources) == 0 {
				for _, name := range order {
					sources = append(sources, fieldSource{name: name})
				}
			}
		}
	}
	out := make([]namedValue, 0, len(sources))
	for _, s := range sources {
		value, err := p.fieldValue(s, typed)
		if err != nil {
			return nil, err
		}
		out = append(out, namedValue{s.name, value})
	}
	return out, nil
}

func (p *program) fieldValue(s fieldSource, typed map[string]wire.Plain) (wire.Plain, error) {
	switch {
	case s.file == "-":
		text, err := readText(p.in, "standard input")
		return wire.Plain(trimLineEnd(text)), err
	case s.file != "":
		f, err := os.Open(s.file)
		if err != nil {
			return "", fmt.Errorf("field %s: %w", s.name, err)
		}
		defer func() { _ = f.Close() }()
		text, err := readText(f, s.file)
		return wire.Plain(trimLineEnd(text)), err
	case p.inTerminal:
		return p.ask(s.name)
	default:
		return typed[s.name], nil
	}
}

// ask reads one value from the terminal without showing it.
func (p *program) ask(what string) (wire.Plain, error) {
	_, _ = fmt.Fprintf(p.err, "%s: ", what)
	line, err := p.readHidden()
	_, _ = fmt.Fprintln(p.err)
	if errors.Is(err, io.EOF) {
		return "", errors.New("no value was typed")
	}
	if err != nil {
		return "", fmt.Errorf("reading from the terminal: %w", err)
	}
	return wire.Plain(line), nil
}

// parseLines reads lines NAME=value; when names are given, each of them once and no other.
func parseLines(text string, names []string) (map[string]wire.Plain, []string, error) {
	want := map[string]bool{}
	for _, n := range names {
		want[n] = true
	}
	values := map[string]wire.Plain{}
	var order []string
	for i, line := range strings.Split(trimLineEnd(text), "\n") {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\r"), "=")
		switch {
		case !ok || name == "":
			return nil, nil, usage(fmt.Sprintf("standard input, line %d: expected NAME=value", i+1))
		case len(names) > 0 && !want[name]:
			return nil, nil, usage(fmt.Sprintf("standard input, line %d: names a field that no --field asks for", i+1))
		}
		if _, again := values[name]; again {
			return nil, nil, usage(fmt.Sprintf("standard input, line %d: names a field for the second time", i+1))
		}
		values[name] = wire.Plain(value)
		order = append(order, name)
	}
	for _, n := range names {
		if _, ok := values[n]; !ok {
			return nil, nil, usage("standard input has no line " + printable(n) + "=...")
		}
	}
	return values, order, nil
}

// readText reads UTF-8 up to maxInput.
func readText(r io.Reader, name string) (string, error) {
	var buf bytes.Buffer
	n, err := buf.ReadFrom(io.LimitReader(r, maxInput+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("reading %s: %w", name, err)
	case n > maxInput:
		return "", fmt.Errorf("%s is longer than %d MiB, the most a request can hold", name, maxInput>>20)
	case !utf8.Valid(buf.Bytes()):
		return "", fmt.Errorf("%s is not UTF-8 text; bytes of a picture are given in base64: base64 -w0 FILE | cloakroom subject put ID", name)
	}
	return buf.String(), nil
}

// trimLineEnd takes one line end off: the one that echo and editors add.
func trimLineEnd(s string) string {
	if t, ok := strings.CutSuffix(s, "\n"); ok {
		return strings.TrimSuffix(t, "\r")
	}
	return s
}

// tokens reads tokens, one a line, from standard input. Empty lines are passed over.
func (p *program) tokens() ([]wire.Plain, error) {
	if p.inTerminal {
		_, _ = fmt.Fprintln(p.err, "Tokens, one a line; Ctrl-D ends:")
	}
	text, err := readText(p.in, "standard input")
	if err != nil {
		return nil, err
	}
	var out []wire.Plain
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, wire.Plain(line))
		}
	}
	if len(out) == 0 {
		return nil, usage("no token on standard input; give one a line")
	}
	return out, nil
}
