package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestNothingShowsASecret prints, logs and marshals secrets in every way there is, alone and inside other values.
func TestNothingShowsASecret(t *testing.T) {
	const needle = "needle-13800138000"
	text, raw := NewText(needle), NewBytes([]byte(needle))
	type holder struct {
		Text  Text
		Bytes Bytes
		Ptr   *Text
		List  []Text
		Map   map[string]Bytes
	}
	h := holder{text, raw, &text, []Text{text}, map[string]Bytes{"k": raw}}
	var out strings.Builder
	for _, v := range []any{text, raw, &text, &raw, h, &h, []any{text, raw}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(handler).Info("m", "v", v)
		}
		fmt.Fprintln(&out, fmt.Errorf("wrapped: %v", v))
	}
	for _, form := range []string{needle, fmt.Sprintf("%x", needle), fmt.Sprintf("%X", needle), fmt.Sprint([]byte(needle))} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the content shows as %.12s...", form)
		}
	}
	if !strings.Contains(out.String(), Redacted) {
		t.Error("nothing was printed at all")
	}
}

func TestSecretsCompareAndWipe(t *testing.T) {
	if !NewText("a").Equal(NewText("a")) || NewText("a").Equal(NewText("b")) || NewText("a").Equal(NewText("aa")) {
		t.Error("texts compare wrongly")
	}
	raw := NewBytes([]byte("key"))
	if !raw.Equal(NewBytes([]byte("key"))) || raw.Len() != 3 {
		t.Error("bytes compare wrongly")
	}
	raw.Wipe()
	if !bytes.Equal(raw.Reveal(), make([]byte, 3)) {
		t.Error("wiped bytes are not zero")
	}
	if NewText("x").Empty() || !NewText("").Empty() || !(Text{}).Empty() {
		t.Error("empty is wrong")
	}
}
