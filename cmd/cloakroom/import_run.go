package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/shell"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/tablefile"
)

// beginImport starts an import into new files.
func (p *program) beginImport(ctx context.Context, c *cobra.Command, file, out string, plan importPlan, force bool) error {
	in, err := p.openInput(ctx, file)
	if err != nil {
		return err
	}
	defer in.close()
	if err := distinctFiles(in, out); err != nil {
		return err
	}
	// The header is read before an output is made.
	rows, err := p.openRows(in, file, plan)
	if err != nil {
		return interruption(ctx, err, "")
	}
	cl, err := p.connect(appKey)
	if err != nil {
		return err
	}
	defer cl.Close()
	state := importProgress{Version: 1, Input: in.path, Size: in.size(), Plan: plan, Totals: importTotals{Reasons: []importReason{}}}
	if in.info != nil {
		state.Modified = in.info.ModTime()
	}
	files, err := makeFiles(out, state, force)
	if err != nil {
		return err
	}
	r := p.importRun(cl, rows, files, in.size())
	r.fresh = true
	return p.runImport(ctx, c, r)
}

// distinctFiles refuses to write over the input, which --force would.
func distinctFiles(in *importInput, out string) error {
	if in.info == nil {
		return nil
	}
	for _, path := range []string{out, out + errorsSuffix, out + progressSuffix, out + newSuffix, out + errorsSuffix + newSuffix} {
		if info, err := os.Stat(path); err == nil && os.SameFile(info, in.info) {
			return usage("--out would write over the input; give another name")
		}
	}
	return nil
}

// resumeImport goes on where another run stopped. file names the input when it lies elsewhere by now.
func (p *program) resumeImport(ctx context.Context, c *cobra.Command, file, progress string) error {
	out, ok := strings.CutSuffix(progress, progressSuffix)
	if _, known := tablefile.FormatOf(out); !ok || !known {
		return usage("--resume takes the progress file, which is named OUT" + progressSuffix)
	}
	state, err := readProgress(progress)
	if err != nil {
		return err
	}
	moved := file != "" && file != state.Input
	if !moved {
		file = state.Input
	}
	in, err := p.openInput(ctx, file)
	if err != nil {
		return err
	}
	defer in.close()
	if in.path != "-" && state.Input != "-" && (in.size() != state.Size || !moved && !in.info.ModTime().Equal(state.Modified)) {
		return errChanged
	}
	rows, err := p.openRows(in, file, state.Plan)
	if err == nil {
		err = rows.skip(ctx, state.Next)
	}
	if err != nil {
		return interruption(ctx, err, p.resumeCommand(c, out, state.Input))
	}
	cl, err := p.connect(appKey)
	if err != nil {
		return err
	}
	defer cl.Close()
	files, err := reopenFiles(out, state)
	if err != nil {
		return err
	}
	return p.runImport(ctx, c, p.importRun(cl, rows, files, in.size()))
}

var errChanged = errors.New("the input is not the one that the import began with; begin anew with --force, or put the first one back")

// skip reads the rows that are done. It does not seek past them: which ids stood there has to be known, and whether
// they are the same rows still.
func (t *tableRows) skip(ctx context.Context, to tablefile.Position) error {
	if to == (tablefile.Position{}) {
		return nil
	}
	for {
		row, err := t.next()
		switch {
		case errors.Is(err, io.EOF):
			return errChanged
		case err != nil:
			return err
		case row.after == to:
			return nil
		case row.after.Rows >= to.Rows:
			return errChanged
		}
		if err := stopped(ctx, row.number); err != nil {
			return err
		}
	}
}

// importRun joins an import with its server.
func (p *program) importRun(cl *client.Client, rows *tableRows, files *importFiles, size int64) *importRun {
	return &importRun{
		rows: rows, files: files, bar: p.importBar(size, files.state.Next.Offset),
		watch: newImportWatch(func(ctx context.Context) error { return cl.Health(ctx) }, p.now),
		store: func(ctx context.Context, next func() (wire.ImportRow, error), each func(wire.ImportResult) error) (wire.ImportEnd, error) {
			return cl.Import(ctx, next, each)
		},
	}
}

// importSummary is what --json prints.
type importSummary struct {
	Done     bool           `json:"done"` // false: stopped before the end of the input
	Rows     int64          `json:"rows"`
	Stored   int64          `json:"stored"`
	Failed   int64          `json:"failed"`
	Warnings int64          `json:"warnings"`
	Reasons  []importReason `json:"reasons"`
	Encoding string         `json:"encoding"`
	Out      string         `json:"out"`
	Errors   string         `json:"errors,omitzero"` // "" = no row is bad
	Resume   string         `json:"resume,omitzero"` // the command that goes on
}

// runImport does the work, says how it went, and turns that into an exit code.
func (p *program) runImport(ctx context.Context, c *cobra.Command, r *importRun) error {
	failed := r.run(ctx)
	r.bar.end()
	if failed == nil {
		failed = r.files.finish()
	} else if r.fresh && !r.files.begun() {
		// What is wrong can be set right and the same command run again. Some rows may be stored: that is harmless.
		return errors.Join(interruption(ctx, failed, ""), r.files.drop())
	} else {
		failed = errors.Join(failed, r.files.checkpoint(), r.files.close())
	}
	t := r.files.state.Totals
	s := importSummary{
		Done: failed == nil, Rows: t.Rows, Stored: t.Stored, Failed: t.Failed, Warnings: t.Warnings, Reasons: t.sorted(),
		Encoding: string(r.encoding), Out: r.files.path,
	}
	if s.Encoding == "" {
		s.Encoding = "ascii"
	}
	if t.Failed > 0 {
		s.Errors = r.files.path + errorsSuffix
	}
	if failed != nil {
		s.Resume = p.resumeCommand(c, r.files.path, r.files.state.Input)
	}
	if err := p.showImport(s); err != nil {
		return err
	}
	if failed != nil {
		if !p.json {
			_, _ = fmt.Fprintf(p.err, "Stopped after %d rows; what is done stays done. Go on with:\n  %s\n", t.Rows, s.Resume)
		}
		return interruption(ctx, failed, s.Resume)
	}
	return items(int(t.Failed), int(t.Rows))
}

// interruption names what the person did instead of what it made fail.
func interruption(ctx context.Context, failed error, resume string) error {
	switch {
	case ctx.Err() == nil:
		return failed
	case resume == "":
		return leftError{"interrupted before the first answer; run the same command again"}
	}
	return leftError{"interrupted; go on with: " + resume}
}

func (p *program) showImport(s importSummary) error {
	if p.json {
		return p.printJSON(s)
	}
	t := newTable("ROWS", strconv.FormatInt(s.Rows, 10))
	t.add("stored", strconv.FormatInt(s.Stored, 10))
	t.add("bad", strconv.FormatInt(s.Failed, 10))
	if s.Warnings > 0 {
		t.add("doubtful values", strconv.FormatInt(s.Warnings, 10))
	}
	t.add("encoding", s.Encoding)
	t.add("tokens", s.Out)
	if s.Errors != "" {
		t.add("bad rows", s.Errors)
	}
	if err := t.write(p.out); err != nil {
		return err
	}
	return showReasons(p.out, s.Reasons)
}

// resumeCommand is what goes on with the import, for a shell.
func (p *program) resumeCommand(c *cobra.Command, out, input string) string {
	words := []string{"cloakroom", "import", "--resume", shellWord(out + progressSuffix)}
	c.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "addr", "data", "as", "ca":
			words = append(words, "--"+f.Name, shellWord(f.Value.String()))
		case "insecure-http", "json":
			words = append(words, "--"+f.Name)
		}
	})
	if input == "-" {
		words = append(words, "< THE-SAME-INPUT")
	}
	return strings.Join(words, " ")
}

// shellWord is a word that can be copied from a terminal, which a name must not take over.
func shellWord(s string) string { return printable(shell.Quote(s)) }
