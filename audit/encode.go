package audit

import (
	"strconv"
	"time"
)

// timeLayout is RFC 3339 with milliseconds, always in UTC.
const timeLayout = "2006-01-02T15:04:05.000Z"

const hexDigits = "0123456789abcdef"

// appendStart appends what only the writer knows: the place in the chain.
func appendStart(b []byte, index uint64, prev [32]byte) []byte {
	b = append(b, `{"i":`...)
	b = strconv.AppendUint(b, index, 10)
	b = append(b, `,"prev":"`...)
	b = digestText.AppendEncode(b, prev[:])
	return append(b, '"')
}

// appendRest appends the rest of the line, which callers encode at the same time, and its line feed.
func appendRest(b []byte, e *Event, at time.Time) []byte {
	b = append(b, `,"time":"`...)
	b = at.UTC().AppendFormat(b, timeLayout)
	b = append(b, '"')
	b = appendMember(b, `,"request_id":"`, e.RequestID)
	b = appendMember(b, `,"service":"`, e.Service)
	b = appendMember(b, `,"credential":"`, e.Credential)
	b = appendMember(b, `,"action":"`, e.Action)
	b = appendMember(b, `,"purpose":"`, e.Purpose)
	b = appendMember(b, `,"reason":"`, e.Reason)
	if e.Policy != 0 {
		b = append(b, `,"policy":`...)
		b = strconv.AppendUint(b, e.Policy, 10)
	}
	b = appendMember(b, `,"source":"`, e.Source)
	b = appendMember(b, `,"code":"`, e.Code)
	if len(e.Items) > 0 {
		b = append(b, `,"items":[`...)
		for i := range e.Items {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendItem(b, &e.Items[i])
		}
		b = append(b, ']')
	}
	return append(b, '}', '\n')
}

func appendItem(b []byte, it *Item) []byte {
	b = appendMember(b, `{"o":"`, it.Outcome)
	if !it.Subject.IsZero() {
		b = append(b, `,"s":"`...)
		b = digestText.AppendEncode(b, it.Subject[:])
		b = append(b, '"')
	}
	if !it.Token.IsZero() {
		b = append(b, `,"t":"`...)
		b = digestText.AppendEncode(b, it.Token[:])
		b = append(b, '"')
	}
	b = appendMember(b, `,"f":"`, it.Field)
	b = appendMember(b, `,"v":"`, it.View)
	return append(b, '}')
}

// appendMember appends name, which ends in the opening quote, and the text. An empty text is left out.
func appendMember(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	b = append(b, name...)
	start := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if !escaped(c) {
			continue
		}
		b = append(b, text[start:i]...)
		start = i + 1
		if c == '"' || c == '\\' {
			b = append(b, '\\', c)
		} else {
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	b = append(b, text[start:]...)
	return append(b, '"')
}

// escaped reports which bytes a line never holds as they are. JSON asks for all but DEL, which is kept from
// terminals together with the other control characters.
func escaped(c byte) bool { return c < 0x20 || c == '"' || c == '\\' || c == 0x7f }
