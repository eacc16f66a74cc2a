package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/internal/tablefile"
	"github.com/cloakroom-io/cloakroom/tokenizer"
)

// detectRows is how many rows --detect looks at.
const detectRows = 1000

// columnGuess is what one column of a table is taken for.
type columnGuess struct {
	Column string `json:"column"`
	Field  string `json:"field"` // "" = none
	By     string `json:"by"`    // header, content, or ""
	Filled int    `json:"filled"`
	Valid  int    `json:"valid"` // of the filled cells, by the field's kind

	cells []string
}

// proposal is what --detect prints with --json.
type proposal struct {
	Subject string         `json:"subject"` // "" = no column looks like an id
	Fields  []fieldColumn  `json:"fields"`
	Columns []*columnGuess `json:"columns"`
	Rows    int            `json:"rows"` // that were looked at
	Command string         `json:"command,omitzero"`

	named bool // Subject by its name, or by the person
}

// detectColumns proposes a command. It shows no cell.
func (p *program) detectColumns(ctx context.Context, file string, plan importPlan) error {
	kinds, note, err := p.fieldKinds(ctx)
	if err != nil {
		return err
	}
	if note != "" {
		_, _ = fmt.Fprintln(p.err, note)
	}
	in, err := p.openInput(ctx, file)
	if err != nil {
		return err
	}
	defer in.close()
	out := proposal{Fields: []fieldColumn{}, Subject: plan.Subject}
	if out.Columns, out.Rows, err = sampleColumns(in, plan); err != nil {
		return fmt.Errorf("%s: %w", inputName(file), err)
	}
	out.guess(kinds)
	if !out.hasHeader() {
		return fmt.Errorf("%s: none of the columns was found out; %s; or say which they are with --subject and --map", inputName(file), tablefile.Unshown(len(out.Columns)))
	}
	if out.Subject != "" && len(out.Fields) > 0 {
		out.Command = importCommandLine(file, plan, out)
	}
	if err := p.print(out, func() *table {
		t := newTable("COLUMN", "BECOMES", "BY", "VALID")
		for _, c := range out.Columns {
			becomes, valid := c.Field, ""
			if c.Column == out.Subject {
				becomes = "(subject)"
			} else if c.Field != "" {
				valid = fmt.Sprintf("%d of %d", c.Valid, c.Filled)
			}
			t.add(c.Column, becomes, c.By, valid)
		}
		return t
	}); err != nil {
		return err
	}
	switch {
	case out.Subject == "":
		return errors.New("no column looks like an id that names each person once; say which one it is with --subject")
	case len(out.Fields) == 0:
		return errors.New("no column looks like a field of the policy; say what to store with --map")
	case p.json:
		return nil
	}
	_, err = fmt.Fprintf(p.out, "\nFrom the first %d rows. Check it, add --keep for columns to pass through, and run it with --dry-run first:\n  %s\n", out.Rows, out.Command)
	return err
}

func importCommandLine(file string, plan importPlan, out proposal) string {
	var pairs []string
	for _, f := range out.Fields {
		pairs = append(pairs, listWord(f.Field+"="+f.Column))
	}
	words := []string{"cloakroom", "import", shellWord(file), "--subject", shellWord(out.Subject), "--map", shellWord(strings.Join(pairs, ","))}
	if plan.Encoding != tablefile.Detect {
		words = append(words, "--encoding", string(plan.Encoding))
	}
	if byName, ok := tablefile.FormatOf(file); !ok && plan.Format != tablefile.CSV || ok && byName != plan.Format {
		words = append(words, "--format", string(plan.Format))
	}
	return strings.Join(append(words, "--out", "tokens.csv"), " ")
}

// listWord quotes a word for a list with commas, as listed reads it.
func listWord(s string) string {
	if strings.ContainsAny(s, `,"`) {
		return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
	}
	return s
}

// sampleColumns reads the first rows.
func sampleColumns(in *importInput, plan importPlan) ([]*columnGuess, int, error) {
	reader, err := tablefile.NewReader(in, tablefile.Options{Format: plan.Format, Encoding: plan.Encoding})
	if err != nil {
		return nil, 0, err
	}
	var out []*columnGuess
	for _, name := range reader.Columns() {
		if tablefile.LooksLikeData(name) {
			return nil, 0, errors.New("the first line does not look like a header, which must name the columns")
		}
		if name != "" {
			out = append(out, &columnGuess{Column: name})
		}
	}
	if plan.Subject != "" {
		err = reader.Select(plan.Subject)
	}
	names := make([]string, len(out))
	for i, c := range out {
		names[i] = c.Column
	}
	if err = errors.Join(err, reader.Select(names...)); err != nil {
		return nil, 0, err
	}
	rows := 0
	for rows < detectRows {
		row, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		if row.Fault != "" {
			continue
		}
		rows++
		for i, c := range row.Cells {
			if c.Text != "" && !c.Nested() {
				out[i].cells = append(out[i].cells, c.Text)
			}
		}
	}
	for _, c := range out {
		c.Filled = len(c.cells)
	}
	return out, rows, nil
}

// guess fills the proposal in. A header's word decides unless most cells speak against it; then what all cells are.
func (d *proposal) guess(kinds map[string]tokenizer.Kind) {
	if d.Subject == "" {
		d.Subject = d.guessSubject(true)
	}
	d.named = d.Subject != ""
	fields := slices.Sorted(maps.Keys(kinds))
	for _, by := range []string{"header", "content"} {
		for _, c := range d.Columns {
			if c.Field != "" || c.Column == d.Subject {
				continue
			}
			for _, field := range fields {
				if d.takes(field) {
					continue
				}
				if valid := c.valid(kinds[field]); c.speaksFor(field, kinds[field].Name(), by, valid) {
					c.Field, c.By, c.Valid = field, by, valid
					d.Fields = append(d.Fields, fieldColumn{field, c.Column})
					break
				}
			}
		}
	}
	if d.Subject == "" {
		d.Subject = d.guessSubject(false)
	}
}

// hasHeader reports whether a name of the first line is known to be one: the word for a field or for an id, or what the
// person gave as --subject. The cells below a field that was found by its content are proof as well: the first line's
// would be of that kind too and would have been refused as data.
func (d *proposal) hasHeader() bool {
	return len(d.Fields) > 0 || d.named
}

func (d *proposal) takes(field string) bool {
	return slices.ContainsFunc(d.Fields, func(f fieldColumn) bool { return f.Field == field })
}

func (c *columnGuess) valid(kind tokenizer.Kind) int {
	n := 0
	for _, cell := range c.cells {
		if _, err := kind.Canonical(cell); err == nil {
			n++
		}
	}
	return n
}

// speaksFor judges a column. By content alone only kinds are told whose values look like nothing else.
func (c *columnGuess) speaksFor(field, kind, by string, valid int) bool {
	if by == "header" {
		return (columnWord(c.Column) == columnWord(field) || named(c.Column, kindWords(kind))) && 2*valid >= c.Filled
	}
	return (kind == "phone" || kind == "email") && c.Filled >= 3 && 10*valid >= 9*c.Filled
}

// guessSubject finds the column whose cells name each person once. Named: only columns that are called an id.
func (d *proposal) guessSubject(byName bool) string {
	for _, c := range d.Columns {
		if c.Field != "" || c.Filled == 0 || c.Filled != d.Rows || byName && !named(c.Column, kindWords("")) {
			continue
		}
		seen := map[string]bool{}
		for _, id := range c.cells {
			if !tokenizer.ValidSubjectID(id) || tokenizer.IdentifyingID(id) || seen[id] {
				break
			}
			seen[id] = true
		}
		if len(seen) == c.Filled {
			return c.Column
		}
	}
	return ""
}

// columnWord drops what varies in the names of columns.
func columnWord(name string) string {
	return strings.NewReplacer(" ", "", "_", "", "-", "", ".", "", "　", "").Replace(strings.ToLower(name))
}

// named compares a column's name with words, also without the person in front: customer_phone, 客户手机号.
func named(column string, words []string) bool {
	name := columnWord(column)
	if slices.Contains(words, name) {
		return true
	}
	for _, whose := range []string{"customer", "client", "user", "member", "contact", "buyer", "receiver", "recipient", "person",
		"客户", "用户", "会员", "联系人", "收件人", "收货人", "买家", "顾客", "本人"} {
		if rest, ok := strings.CutPrefix(name, whose); ok && slices.Contains(words, rest) {
			return true
		}
	}
	return false
}

// kindWords are names that columns of a kind have; those of "" are names of ids.
func kindWords(kind string) []string {
	switch kind {
	case "":
		return []string{"id", "uid", "no", "number", "key", "编号", "号", "编码", "代码", "账号", "唯一标识"}
	case "phone":
		return []string{"phone", "phonenumber", "phoneno", "mobile", "mobilephone", "mobilenumber", "mobileno", "tel", "telephone", "cell", "cellphone", "msisdn",
			"手机", "手机号", "手机号码", "电话", "电话号码", "联系电话", "移动电话", "联系方式"}
	case "name":
		return []string{"name", "fullname", "realname", "姓名", "名字", "名称", "真实姓名", "联系人", "收件人", "收货人"}
	case "email":
		return []string{"email", "emailaddress", "mail", "邮箱", "邮箱地址", "电子邮箱", "邮件", "电子邮件", "邮件地址"}
	case "address":
		return []string{"address", "addr", "streetaddress", "postaladdress", "homeaddress", "地址", "住址", "详细地址", "家庭住址", "家庭地址", "收货地址", "联系地址", "通讯地址"}
	case "resident_id":
		return []string{"idcard", "idcardno", "idnumber", "residentid", "身份证", "身份证号", "身份证号码", "证件号", "证件号码"}
	case "bank_card":
		return []string{"bankcard", "cardnumber", "cardno", "银行卡", "银行卡号", "卡号"}
	case "plate":
		return []string{"plate", "licenseplate", "platenumber", "车牌", "车牌号", "车牌号码"}
	case "vin":
		return []string{"vin", "车架号", "车辆识别代号"}
	}
	return nil
}
