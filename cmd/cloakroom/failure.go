package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitPartly = 3
)

// usageError is a mistake in the command itself.
type usageError string

func (e usageError) Error() string { return string(e) }

func usage(text string) error { return usageError(text) }

// itemsError: of a batch, some or all items failed. The items themselves were printed.
type itemsError struct{ failed, of int }

func (e itemsError) Error() string {
	if e.failed == e.of {
		return fmt.Sprintf("none of %d succeeded; the reasons stand above", e.of)
	}
	return fmt.Sprintf("%d of %d failed; the reasons stand above", e.failed, e.of)
}

// items returns nil when none failed.
func items(failed, of int) error {
	if failed == 0 {
		return nil
	}
	return itemsError{failed, of}
}

// itemError is why the one item of a command failed.
type itemError struct{ wire.ItemError }

func (e itemError) Error() string { return describe(&e.ItemError) }

// partlyError is why a result that is complete in itself lacks something: the exit code is exitPartly, even when it lacks everything.
type partlyError struct{ error }

func (e partlyError) Unwrap() error { return e.error }

// partly returns nil when nothing is missing.
func partly(err error) error {
	if err == nil {
		return nil
	}
	return partlyError{err}
}

// quiet is a failure that was explained on standard output already.
type quiet struct{}

func (quiet) Error() string { return "" }

// explain turns an error into an exit code and one line for people, which says what to do next.
func (p *program) explain(err error) (int, string) {
	var (
		use   usageError
		some  itemsError
		reply *client.Error
	)
	switch {
	case errors.As(err, &use):
		return exitUsage, use.Error()
	case errors.Is(err, quiet{}), errors.Is(err, syscall.EPIPE):
		// Whoever read the output has seen enough, or has all that there is to say.
		return exitFailed, ""
	case errors.As(err, new(partlyError)):
		return exitPartly, oneLine(err.Error())
	case errors.As(err, &some):
		if some.failed < some.of {
			return exitPartly, some.Error()
		}
		return exitFailed, some.Error()
	case errors.As(err, &reply):
		return exitFailed, oneLine(err.Error()) + p.advice(reply.Problem.Code)
	case errors.As(err, new(leftError)):
		return exitFailed, oneLine(err.Error())
	case errors.Is(err, context.Canceled):
		return exitFailed, "interrupted"
	case errors.Is(err, client.ErrUnreachable):
		return exitFailed, fmt.Sprintf("no answer from %s (%s); is the server running? start one with: cloakroom serve", p.conn.address(p.lookup), rootCause(err))
	}
	return exitFailed, oneLine(err.Error())
}

// advice adds what only the command line can know: where the key came from.
func (p *program) advice(code wire.Code) string {
	switch code {
	case wire.Unauthenticated:
		return "; the key came from " + p.conn.keySource
	case wire.Forbidden:
		return "; the key came from " + p.conn.keySource + ", another is chosen with --as NAME"
	default:
		return ""
	}
}

func rootCause(err error) string {
	for {
		switch next := err.(type) {
		case interface{ Unwrap() error }:
			if inner := next.Unwrap(); inner != nil {
				err = inner
				continue
			}
		case interface{ Unwrap() []error }:
			if all := next.Unwrap(); len(all) > 0 {
				err = all[len(all)-1]
				continue
			}
		}
		return oneLine(err.Error())
	}
}

// oneLine keeps messages greppable and terminals safe. What a message lists line by line goes on behind semicolons.
func oneLine(s string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(s, "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), "- ")
		switch {
		case line == "":
			continue
		case strings.HasSuffix(b.String(), ":"):
			b.WriteString(" ")
		case b.Len() > 0:
			b.WriteString("; ")
		}
		b.WriteString(printable(line))
	}
	return b.String()
}
