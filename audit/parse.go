package audit

import (
	"errors"
	"time"
	"unicode/utf8"
)

// errSyntax is all that is said about a malformed line: its content may be anything.
var errSyntax = errors.New("not an entry")

// entry is a parsed line.
type entry struct {
	index uint64
	prev  [32]byte
	event Event
}

// parseLine reads a line without its line feed. It takes what the encoder writes and nothing else: one text for
// each entry, so that parsing and encoding again gives the same bytes.
func parseLine(line []byte) (entry, error) {
	var e entry
	p := parser{b: line, ok: true}
	p.start(&e)
	p.rest(&e.event)
	if !p.ok || len(p.b) != 0 {
		return entry{}, errSyntax
	}
	return e, nil
}

// parseStart reads only the place in the chain.
func parseStart(line []byte) (entry, error) {
	var e entry
	p := parser{b: line, ok: true}
	p.start(&e)
	if !p.ok {
		return entry{}, errSyntax
	}
	return e, nil
}

// parser eats b from the front. Once ok is false everything else reads as empty.
type parser struct {
	b  []byte
	ok bool
}

func (p *parser) start(e *entry) {
	p.must(`{"i":`)
	e.index = p.number()
	p.must(`,"prev":"`)
	p.bytes(e.prev[:])
}

func (p *parser) rest(e *Event) {
	p.must(`,"time":"`)
	e.Time = p.time()
	e.RequestID = p.member(`,"request_id":"`, MaxText)
	e.Service = p.member(`,"service":"`, MaxText)
	e.Credential = p.member(`,"credential":"`, MaxText)
	p.must(`,"action":"`)
	e.Action = p.text(MaxText)
	e.Purpose = p.member(`,"purpose":"`, MaxText)
	e.Reason = p.member(`,"reason":"`, MaxReason)
	if p.may(`,"policy":`) {
		e.Policy = p.number()
		p.ok = p.ok && e.Policy != 0
	}
	e.Source = p.member(`,"source":"`, MaxText)
	e.Code = p.member(`,"code":"`, MaxText)
	if p.may(`,"items":[`) {
		for p.ok {
			if len(e.Items) == MaxItems {
				p.ok = false
				return
			}
			e.Items = append(e.Items, p.item())
			if !p.may(",") {
				break
			}
		}
		p.must("]")
	}
	p.must("}")
}

func (p *parser) item() Item {
	var it Item
	p.must(`{"o":"`)
	it.Outcome = p.text(MaxName)
	it.Subject = p.digest(`,"s":"`)
	it.Token = p.digest(`,"t":"`)
	it.Field = p.member(`,"f":"`, MaxName)
	it.View = p.member(`,"v":"`, MaxName)
	p.must("}")
	return it
}

// may eats s if b begins with it.
func (p *parser) may(s string) bool {
	if !p.ok || len(p.b) < len(s) || string(p.b[:len(s)]) != s {
		return false
	}
	p.b = p.b[len(s):]
	return true
}

func (p *parser) must(s string) {
	if !p.may(s) {
		p.ok = false
	}
}

// number reads decimal digits without leading zeros that fit a uint64.
func (p *parser) number() uint64 {
	var n uint64
	i := 0
	for ; i < len(p.b) && p.b[i] >= '0' && p.b[i] <= '9'; i++ {
		d := uint64(p.b[i] - '0')
		if i == 20 || n > (1<<64-1-d)/10 {
			p.ok = false
			return 0
		}
		n = n*10 + d
	}
	if i == 0 || (i > 1 && p.b[0] == '0') {
		p.ok = false
		return 0
	}
	p.b = p.b[i:]
	return n
}

// bytes reads base64url that fills dst, and the closing quote.
func (p *parser) bytes(dst []byte) {
	n := digestText.EncodedLen(len(dst))
	if !p.ok || len(p.b) < n || !decodeFixed(dst, p.b[:n]) {
		p.ok = false
		return
	}
	p.b = p.b[n:]
	p.must(`"`)
}

func (p *parser) digest(name string) Digest {
	var d Digest
	if p.may(name) {
		p.bytes(d[:])
		p.ok = p.ok && !d.IsZero()
	}
	return d
}

func (p *parser) time() time.Time {
	if !p.ok || len(p.b) < len(timeLayout) {
		p.ok = false
		return time.Time{}
	}
	text := p.b[:len(timeLayout)]
	t, err := time.Parse(timeLayout, string(text))
	// Parse is lenient about what it reads (a comma, a leap day's hour); only the one written form is meant.
	if err != nil || string(t.AppendFormat(nil, timeLayout)) != string(text) || t.IsZero() {
		p.ok = false
		return time.Time{}
	}
	p.b = p.b[len(timeLayout):]
	p.must(`"`)
	return t
}

func (p *parser) member(name string, limit int) string {
	if !p.may(name) {
		return ""
	}
	return p.text(limit)
}

// text reads a text of 1 to limit bytes and the closing quote.
func (p *parser) text(limit int) string {
	if !p.ok {
		return ""
	}
	for i := 0; i < len(p.b) && i <= limit; i++ {
		switch {
		case p.b[i] == '"':
			s := string(p.b[:i])
			p.b = p.b[i+1:]
			p.ok = i > 0 && utf8.ValidString(s)
			return s
		case p.b[i] == '\\':
			return p.escapedText(limit)
		case escaped(p.b[i]):
			p.ok = false
			return ""
		}
	}
	p.ok = false
	return ""
}

func (p *parser) escapedText(limit int) string {
	out := make([]byte, 0, limit)
	for len(p.b) > 0 && len(out) <= limit {
		c := p.b[0]
		p.b = p.b[1:]
		switch {
		case c == '"':
			p.ok = utf8.Valid(out)
			return string(out)
		case c == '\\':
			c = p.escape()
			if !p.ok {
				return ""
			}
		case escaped(c):
			p.ok = false
			return ""
		}
		out = append(out, c)
	}
	p.ok = false
	return ""
}

// escape reads what follows a backslash.
func (p *parser) escape() byte {
	if p.may(`"`) {
		return '"'
	}
	if p.may(`\`) {
		return '\\'
	}
	p.must("u00")
	if !p.ok || len(p.b) < 2 {
		p.ok = false
		return 0
	}
	high, low := unhex(p.b[0]), unhex(p.b[1])
	c := high<<4 | low
	p.ok = high < 16 && low < 16 && escaped(c) && c != '"' && c != '\\'
	p.b = p.b[2:]
	return c
}

// unhex returns 16 for what is no lower-case hexadecimal digit.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}
