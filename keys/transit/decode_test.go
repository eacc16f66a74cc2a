package transit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

// TestRequestsAreJSON reads back what is written by hand.
func TestRequestsAreJSON(t *testing.T) {
	for _, key := range bothKeys {
		b := []byte(batchHead)
		wrap := keys.WrapItem{Context: []byte{0, 255, '"', '\\'}, Plaintext: secret.NewBytes(bytes.Repeat([]byte{0xFB}, 32))}
		b = appendWrap(b, contextName(key), 0, wrap)
		b = appendWrap(b, contextName(key), 7, wrap)
		b = appendUnwrap(b, contextName(key), keys.UnwrapItem{Context: wrap.Context, Wrapped: "vault:v1:a+/="})
		b = append(b[:len(b)-1], batchTail...)
		var got struct {
			Code  int                 `json:"partial_failure_response_code"`
			Items []map[string]string `json:"batch_input"`
		}
		text := bytes.Replace(b, []byte(`:7`), []byte(`:"7"`), 1)
		must(t, json.Unmarshal(text, &got))
		context, plain := base64.StdEncoding.EncodeToString(wrap.Context), base64.StdEncoding.EncodeToString(wrap.Plaintext.Reveal())
		name := map[keys.KeyName]string{keys.DEKKey: "context", keys.RootKey: "associated_data"}[key]
		for i, want := range []map[string]string{
			{name: context, "plaintext": plain},
			{name: context, "plaintext": plain, "key_version": "7"},
			{name: context, "ciphertext": "vault:v1:a+/="},
		} {
			if got.Code != 200 || len(got.Items) != 3 || len(got.Items[i]) != len(want) {
				t.Fatalf("%s", b)
			}
			for k, v := range want {
				if got.Items[i][k] != v {
					t.Errorf("%s: item %d: %s", key, i, got.Items[i][k])
				}
			}
		}
	}
}

// TestRoomIsEnough: a request that outgrew its buffer would leave plaintext behind where it was.
func TestRoomIsEnough(t *testing.T) {
	w := keys.Wrapped("vault:v2147483647:" + strings.Repeat("A", keys.MaxWrapped-18))
	for _, n := range []int{1, 2, 3, 255, 256} {
		context := bytes.Repeat([]byte{1}, n)
		wrap := keys.WrapItem{Context: context, Plaintext: secret.NewBytes(make([]byte, keySize))}
		if got, limit := len(appendWrap(nil, "associated_data", 1<<62, wrap)), len(context)*4/3+2*keySize+room; got > limit {
			t.Errorf("wrap takes %d bytes of %d", got, limit)
		}
		item := keys.UnwrapItem{Context: context, Wrapped: w}
		if got, limit := len(appendUnwrap(nil, "associated_data", item)), len(context)*4/3+len(w)+room; got > limit {
			t.Errorf("unwrap takes %d bytes of %d", got, limit)
		}
	}
}

func TestParseWrapped(t *testing.T) {
	for w, want := range map[keys.Wrapped]int{
		"vault:v1:AZaz09+/=": 1, "vault:v2147483647:A": 1<<31 - 1,
		"": 0, "vault:v": 0, "vault:v1": 0, "vault:v1:": 0, "vault:v0:A": 0, "vault:v01:A": 0, "vault:v-1:A": 0, "vault:v+1:A": 0,
		"vault:v2147483648:A": 0, "vault:v99999999999:A": 0, "vault:1:A": 0, "local:v1:A": 0, "Vault:v1:A": 0, " vault:v1:A": 0,
		"vault:v1:A\n": 0, "vault:v1:A\"": 0, "vault:v1:A-_": 0, "vault:v1:A:B": 0, "vault:v1:A\\": 0, "vault:v1:Ä": 0, "vault:v1:@`[{": 0,
		keys.Wrapped("vault:v1:" + strings.Repeat("A", keys.MaxWrapped-9)): 1,
		keys.Wrapped("vault:v1:" + strings.Repeat("A", keys.MaxWrapped-8)): 0,
		"vault:v1:\x00": 0, "vault:v1:?": 0,
	} {
		if got, ok := parseWrapped(w); got != want || ok != (want > 0) {
			t.Errorf("%q: %d, %t", w, got, ok)
		}
	}
}

// FuzzDecodeBatch: whatever comes, results are counted and nothing but 32 bytes is a key.
func FuzzDecodeBatch(f *testing.F) {
	for _, seed := range []string{
		`{"data":{"batch_results":[{"plaintext":"` + strings.Repeat("A", 43) + `=","reference":""},{"error":"a\nb"}]}}`,
		`{"request_id":"x","data":{"a":[{}],"batch_results":[]},"warnings":null}`,
		`{"data":{"batch_results":[{"plaintext":null}]}}`, `{"data":[`, `{"errors":["x"]}`, ``, `nul`, `{"data":{"batch_results":[[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		n := 0
		err := decodeBatch(bytes.Clone(body), "plaintext", func(value, _ []byte) {
			n++
			if plain, ok := plainKey(value); ok && plain.Len() != keySize {
				t.Errorf("a key of %d bytes", plain.Len())
			}
		})
		if err != nil && !errors.Is(err, errAnswer) {
			t.Errorf("%v", err)
		}
		if err == nil && n > 0 && !bytes.Contains(body, []byte("batch_results")) {
			t.Error("results without results")
		}
	})
}

func FuzzParseWrapped(f *testing.F) {
	f.Add("vault:v1:AAAA")
	f.Add(`vault:v1:"}`)
	f.Fuzz(func(t *testing.T, w string) {
		if _, ok := parseWrapped(keys.Wrapped(w)); !ok {
			return
		}
		item := appendUnwrap(nil, "context", keys.UnwrapItem{Context: []byte("c"), Wrapped: keys.Wrapped(w)})
		var got map[string]string
		if err := json.Unmarshal(item[:len(item)-1], &got); err != nil || got["ciphertext"] != w || len(got) != 2 {
			t.Errorf("%q is not the same in JSON: %v", w, err)
		}
	})
}

func TestEncodeJSON(t *testing.T) {
	var pool sync.Pool
	body, err := encodeJSON(&pool, map[string]string{"a": "b"})
	must(t, err)
	if string(body.b) != `{"a":"b"}` {
		t.Errorf("%s", body.b)
	}
	body.release()
	_, err = encodeJSON(&pool, func() {})
	wantError(t, err, ErrRequest)
}
