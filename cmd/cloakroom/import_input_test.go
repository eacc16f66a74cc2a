package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/tablefile"
)

func TestInterruptible(t *testing.T) {
	const text = "a table of people"
	for name, in := range map[string]io.Reader{"at once": strings.NewReader(text), "in pieces": iotest.OneByteReader(strings.NewReader(text)), "with its end": iotest.DataErrReader(strings.NewReader(text))} {
		if got, err := io.ReadAll(iotest.HalfReader(interruptible(t.Context(), in))); string(got) != text || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	gone := errors.New("the disk is gone")
	if got, err := io.ReadAll(interruptible(t.Context(), io.MultiReader(strings.NewReader(text), iotest.ErrReader(gone)))); string(got) != text || !errors.Is(err, gone) {
		t.Errorf("%q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	from, to := io.Pipe()
	defer to.Close()
	ended := make(chan error, 1)
	r := interruptible(ctx, from)
	go func() {
		_, err := r.Read(make([]byte, 10))
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := r.Read(make([]byte, 10)); !errors.Is(err, context.Canceled) {
		t.Errorf("again: %v", err)
	}
}

// A member that the first records of an NDJSON input do not have is read where it comes.
func TestImportLateMember(t *testing.T) {
	plan := testPlan
	plan.Format = tablefile.NDJSON
	var said strings.Builder
	p := &program{err: &said}
	in := strings.Repeat("{\"id\":\"x\"}\n", 300) + `{"id":"u1","tel":"13800138000","note":"n"}` + "\n"
	rows, err := p.openRows(&importInput{Reader: strings.NewReader(in)}, "-", plan)
	if err != nil {
		t.Fatal(err)
	}
	if want := "The first records do not have note, tel;"; !strings.HasPrefix(said.String(), want) {
		t.Errorf("it says %q", said.String())
	}
	var last tableRow
	for n := 0; ; n++ {
		row, err := rows.next()
		if errors.Is(err, io.EOF) {
			if n != 301 {
				t.Errorf("%d rows", n)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = row
	}
	if last.fault != nil || last.subject.Text != "u1" || last.values[0] != "13800138000" || last.kept[0].Text != "n" {
		t.Errorf("the last row is %+v", last.fault)
	}
	if _, err := p.openRows(&importInput{Reader: strings.NewReader(`{"tel":"1"}`)}, "-", plan); err == nil || !strings.Contains(err.Error(), "there is no column id, note") {
		t.Errorf("without an id: %v", err)
	}
}
