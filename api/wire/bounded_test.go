package wire

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// TestListsAreBounded: a body full of empty items must not become millions of structs.
func TestListsAreBounded(t *testing.T) {
	var tokenize Tokenize
	if err := json.Unmarshal([]byte(`{"items":[`+strings.Repeat(`{},`, 5000)+`{}]}`), &tokenize); err != nil || len(tokenize.Items) != keptItems {
		t.Errorf("%d items are kept, %v", len(tokenize.Items), err)
	}
	var tokens Tokens
	if err := json.Unmarshal([]byte(`{"tokens":[`+strings.Repeat(`"",`, 5000)+`""]}`), &tokens); err != nil || len(tokens.Tokens) != keptItems {
		t.Errorf("%d tokens are kept, %v", len(tokens.Tokens), err)
	}
	var fields strings.Builder
	for i := range 500 {
		fields.WriteString(`"f` + strings.Repeat("x", i) + `":"",`)
	}
	var put PutSubject
	if err := json.Unmarshal([]byte(`{"fields":{`+fields.String()+`"z":""}}`), &put); err != nil || len(put.Fields) != keptFields {
		t.Errorf("%d fields are kept, %v", len(put.Fields), err)
	}
	for _, text := range []string{`{"items":7}`, `{"items":{}}`, `{"items":[`, `{"items":[7]}`} {
		if err := json.Unmarshal([]byte(text), &tokenize); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
	if err := json.Unmarshal([]byte(`{"fields":{"a":"","a":""}}`), &put); err == nil {
		t.Error("a field that stands twice is accepted")
	}
}
