package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/tablefile"
)

const importHelp = `Read a table of people, store the mapped columns as fields, and write a table of tokens in its place: the subject's id,
the columns of --keep, then a token for each field of --map, in the order of the input. A row is stored whole or not at
all. Bad rows go to OUT.errors.csv with their row number, field and rule, without their values.

FILE is CSV, TSV or NDJSON (by its name's end, or --format), - is standard input. Text is UTF-8, with or without a mark,
GB18030, or UTF-16 with a mark; --encoding says so where it is not found out. CSV and TSV begin with a line that names
the columns. An empty cell is no value and gets no token; a row of empty cells alone is passed over. A record of NDJSON
may leave members out, but each needs the one of --subject: which of the others the first 200 records (or 1 MiB) do not
have is noted on standard error.

In CSV and TSV outputs a cell that a spreadsheet would take for a formula (it begins with = + - @, a tab or a line end)
gets an apostrophe in front, and in CSV one with a ; in it is quoted. Tokens never begin so; an id that begins with - is the one case in which an id is altered,
and an --out of NDJSON alters nothing.

When it is interrupted, or fails, or is killed, what was done stays done, and OUT.progress tells how far it came. The
command that goes on is printed: cloakroom import --resume OUT.progress. It makes no duplicates and leaves nothing out,
and refuses an input that has changed. No two imports may write to one OUT at the same time.

An id may stand in one row of the input only; a later row with it is bad (rule duplicate_subject). To know this, 16 bytes
are kept in memory for each row, or a little more: a hash of 64 bits, by which one row in many millions of tables of a
million rows is called a duplicate and is none.

Exit codes: 0 all rows stored, 3 some rows are bad, 1 failed or all rows are bad, 2 wrong usage.`

// importFlags are the flags as they were given.
type importFlags struct {
	subject          string
	fields, keep     []string
	out              string
	format, encoding string
	resume           string
	dryRun, detect   bool
	force            bool
}

func (p *program) importCommand() *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use:   "import FILE --subject COLUMN --map FIELD=COLUMN,... --out TOKENS.csv",
		Short: "Turn a table of people into a table of tokens",
		Long:  importHelp,
		Example: `  cloakroom import customers.csv --detect
  cloakroom import customers.csv --subject id --map phone=手机号,name=姓名 --dry-run
  cloakroom import customers.csv --subject id --map phone=手机号,name=姓名 --keep level --out tokens.csv
  cloakroom import --resume tokens.csv.progress`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("import reads one FILE; see " + c.CommandPath() + " --help")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			file := ""
			if len(args) > 0 {
				file = args[0]
			}
			return p.importTable(c, file, f)
		},
	}
	fs := c.Flags()
	fs.StringVar(&f.subject, "subject", "", "the `column` with the ids of the people")
	fs.StringArrayVar(&f.fields, "map", nil, "`FIELD=COLUMN`,...: store the column as the field; may be repeated")
	fs.StringArrayVar(&f.keep, "keep", nil, "`columns` to pass through as they are, with commas between them")
	fs.StringVar(&f.out, "out", "", "`file` for the tokens, .csv, .tsv or .ndjson; readable by you alone")
	fs.StringVar(&f.format, "format", "", "format of FILE: csv, tsv or ndjson (default: by its name)")
	fs.StringVar(&f.encoding, "encoding", "", "encoding of FILE: utf-8, gb18030, utf-16le or utf-16be (default: found out)")
	fs.BoolVar(&f.dryRun, "dry-run", false, "store nothing; tell what would be bad, and how many values there are")
	fs.BoolVar(&f.detect, "detect", false, "store nothing; propose the command from the header and the first rows")
	fs.StringVar(&f.resume, "resume", "", "go on with an import that left this `file` (OUT.progress)")
	fs.BoolVar(&f.force, "force", false, "write over OUT, and give up an import that can be resumed, once the server has answered")
	p.connects(c)
	return c
}

func (p *program) importTable(c *cobra.Command, file string, f importFlags) error {
	ctx := c.Context()
	if f.resume != "" {
		for _, name := range []string{"subject", "map", "keep", "out", "format", "encoding", "dry-run", "detect", "force"} {
			if c.Flags().Changed(name) {
				return usage("--resume takes everything from the progress file; leave out --" + name)
			}
		}
		return p.resumeImport(ctx, c, file, f.resume)
	}
	if file == "" {
		return usage("import needs a FILE, or - for standard input; see " + c.CommandPath() + " --help")
	}
	plan, err := f.plan(file)
	if err != nil {
		return err
	}
	switch {
	case f.dryRun && f.detect:
		return usage("give --dry-run or --detect, not both")
	case f.detect:
		return p.detectColumns(ctx, file, plan)
	case plan.Subject == "" || len(plan.Fields) == 0:
		return usage("import needs --subject COLUMN and --map FIELD=COLUMN; try: cloakroom import FILE --detect")
	case f.dryRun:
		return p.importDryRun(ctx, file, plan)
	case f.out == "":
		return usage("import needs --out FILE for the tokens")
	}
	if _, ok := tablefile.FormatOf(f.out); !ok {
		return usage("--out must end in .csv, .tsv or .ndjson")
	}
	return p.beginImport(ctx, c, file, f.out, plan, f.force)
}

// fieldColumn is one pair of --map.
type fieldColumn struct {
	Field  string `json:"field"`
	Column string `json:"column"`
}

// importPlan says what an import does with its input's columns. It is part of the progress file.
type importPlan struct {
	Format   tablefile.Format   `json:"format"`
	Encoding tablefile.Encoding `json:"encoding"` // as asked for; "" = found out
	Subject  string             `json:"subject"`
	Fields   []fieldColumn      `json:"fields"`
	Keep     []string           `json:"keep"`
}

func (f importFlags) plan(file string) (importPlan, error) {
	p := importPlan{Subject: strings.TrimSpace(f.subject), Fields: []fieldColumn{}, Keep: []string{}}
	var ok bool
	switch {
	case f.format != "":
		if p.Format, ok = tablefile.ParseFormat(f.format); !ok {
			return p, usage("--format is csv, tsv or ndjson")
		}
	case file == "-":
		p.Format = tablefile.CSV
	default:
		if p.Format, ok = tablefile.FormatOf(file); !ok {
			return p, unknownFormat(file)
		}
	}
	if f.encoding != "" {
		if p.Encoding, ok = tablefile.ParseEncoding(f.encoding); !ok {
			return p, usage("--encoding is utf-8, gb18030, utf-16le or utf-16be")
		}
	}
	var err error
	if p.Fields, err = fieldColumns("map", f.fields); err != nil {
		return p, err
	}
	if p.Keep, err = listed("keep", f.keep); err != nil {
		return p, err
	}
	return p, p.check()
}

// unknownFormat looks into a file whose name does not tell its format: it may be no table at all.
func unknownFormat(file string) error {
	if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
		if f, err := os.Open(file); err == nil {
			head := make([]byte, 16)
			n, _ := io.ReadFull(f, head)
			_ = f.Close()
			if err := tablefile.NotATable(head[:n]); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return usage("the file's name does not tell its format; give --format csv, tsv or ndjson")
}

// fieldColumns takes the pairs of a flag apart.
func fieldColumns(flag string, given []string) ([]fieldColumn, error) {
	pairs, err := listed(flag, given)
	if err != nil {
		return nil, err
	}
	out := []fieldColumn{}
	for _, pair := range pairs {
		field, column, ok := strings.Cut(pair, "=")
		field, column = strings.TrimSpace(field), strings.TrimSpace(column)
		if !ok || field == "" || column == "" {
			return nil, usage("--" + flag + " is FIELD=COLUMN,... such as --" + flag + " phone=手机号,name=姓名")
		}
		out = append(out, fieldColumn{field, column})
	}
	return out, nil
}

// listed takes the words of flags apart, without the spaces around them. A word with a comma in it is quoted as in CSV.
func listed(flag string, given []string) ([]string, error) {
	out := []string{}
	for _, text := range given {
		r := csv.NewReader(strings.NewReader(text))
		r.TrimLeadingSpace = true
		words, err := r.Read()
		for i := range words {
			words[i] = strings.TrimSpace(words[i])
		}
		if err != nil || slices.Contains(words, "") {
			return nil, usage("--" + flag + " is a list with commas between its words")
		}
		if _, err := r.Read(); !errors.Is(err, io.EOF) {
			return nil, usage("--" + flag + " is one line")
		}
		out = append(out, words...)
	}
	return out, nil
}

// check refuses what would lose a column or show values beside their tokens.
func (p importPlan) check() error {
	heads := map[string]bool{p.Subject: true}
	mapped := map[string]bool{}
	fields := map[string]bool{}
	for _, f := range p.Fields {
		if fields[f.Field] {
			return usage("--map names field " + printable(f.Field) + " twice")
		}
		fields[f.Field], mapped[f.Column] = true, true
	}
	for _, column := range p.Keep {
		switch {
		case column == p.Subject:
			return usage("--keep names the subject's column, which is kept always")
		case mapped[column]:
			return usage("--keep names column " + printable(column) + ", which --map replaces by tokens: its values would stand beside them")
		case heads[column]:
			return usage("--keep names column " + printable(column) + " twice")
		}
		heads[column] = true
	}
	for _, f := range p.Fields {
		if heads[f.Field] {
			return usage("the output would have two columns " + printable(f.Field) + ": the tokens of that field, and a column of the input")
		}
	}
	return nil
}

// heads are the columns of the output.
func (p importPlan) heads() []string {
	out := append([]string{p.Subject}, p.Keep...)
	for _, f := range p.Fields {
		out = append(out, f.Field)
	}
	return out
}

// columns are those of the input that are read, each once.
func (p importPlan) columns() []string {
	all := append([]string{p.Subject}, p.Keep...)
	for _, f := range p.Fields {
		if !slices.Contains(all, f.Column) {
			all = append(all, f.Column)
		}
	}
	return all
}
