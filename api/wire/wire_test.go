package wire

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// TestPlainShowsInJSONAlone: what travels is readable for the peer and for nobody who prints or logs it.
func TestPlainShowsInJSONAlone(t *testing.T) {
	const needle = "13800138000"
	value := Plain(needle)
	for _, v := range []any{
		value, &value, Detokenize{Tokens: []Plain{value}}, Revealed{Token: value, Value: &value},
		PutSubject{Fields: map[string]FieldValue{"phone": {Value: value}}}, ServiceKey{Key: value},
	} {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		if strings.Contains(out.String(), needle) || strings.Contains(out.String(), fmt.Sprintf("%x", needle)) {
			t.Errorf("%T shows its value when printed or logged", v)
		}
		b, err := json.Marshal(v)
		if err != nil || !strings.Contains(string(b), needle) {
			t.Errorf("%T does not travel: %v", v, err)
		}
	}
}

func TestFieldValueForms(t *testing.T) {
	for _, c := range []struct {
		text string
		want FieldValue
	}{
		{`"x"`, FieldValue{Value: "x"}},
		{`""`, FieldValue{}},
		{`null`, FieldValue{Remove: true}},
		{`{"value":"x","source":"partner:7","authorization":"form 9"}`, FieldValue{Value: "x", Source: "partner:7", Authorization: "form 9"}},
		{`{"value":"x","source":"partner:7"}`, FieldValue{Value: "x", Source: "partner:7"}},
	} {
		var got FieldValue
		if err := json.Unmarshal([]byte(c.text), &got, json.RejectUnknownMembers(true)); err != nil || got != c.want {
			t.Errorf("%s is read wrongly (%v)", c.text, err)
		}
		if back, err := json.Marshal(c.want); err != nil || string(back) != c.text {
			t.Errorf("%s is written as %s (%v)", c.text, back, err)
		}
	}
	for _, text := range []string{`7`, `true`, `[]`, `{}`, `{"value":null}`, `{"value":7}`, `{"value":"x","other":1}`, `{"value":"x","value":"y"}`} {
		var got FieldValue
		if err := json.Unmarshal([]byte(text), &got, json.RejectUnknownMembers(true)); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}
