package transit

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/cloakroom-io/cloakroom/keys"
)

// Limits of a batch. With them the largest request has 15 MiB, below the 32 MiB that Vault reads of one.
const (
	maxBatch   = 10_000 // Vault takes no longer array
	maxContext = 256    // bytes
	keySize    = 32     // bytes of what is wrapped
)

const (
	scheme = "vault:v"
	// Without it Vault answers a batch with one bad item by status 400, and by 200 with it.
	batchHead = `{"partial_failure_response_code":200,"batch_input":[`
	batchTail = `]}`
	// room is what an item takes beside its values, at most: names, quotes and a version.
	room = 80
)

// contextName is the member that binds an item: it derives the key, or is authenticated beside the text.
func contextName(key keys.KeyName) string {
	if key == keys.DEKKey {
		return "context"
	}
	return "associated_data"
}

// appendUnwrap appends an item of decrypt or rewrap. Both values need no escapes: one is base64, the other was checked
// by parseWrapped.
func appendUnwrap(b []byte, name string, item keys.UnwrapItem) []byte {
	b = appendContext(b, name, item.Context)
	b = append(b, `","ciphertext":"`...)
	b = append(b, item.Wrapped...)
	return append(b, `"},`...)
}

// appendWrap appends an item of encrypt; version 0 is the latest.
func appendWrap(b []byte, name string, version int, item keys.WrapItem) []byte {
	b = appendContext(b, name, item.Context)
	b = append(b, `","plaintext":"`...)
	b = base64.StdEncoding.AppendEncode(b, item.Plaintext.Reveal())
	b = append(b, '"')
	if version != 0 {
		b = append(b, `,"key_version":`...)
		b = strconv.AppendInt(b, int64(version), 10)
	}
	return append(b, `},`...)
}

func appendContext(b []byte, name string, context []byte) []byte {
	b = append(b, `{"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	return base64.StdEncoding.AppendEncode(b, context)
}

// parseWrapped returns the key version in what Vault wrapped, `vault:v<version>:<base64>`.
func parseWrapped(w keys.Wrapped) (version int, ok bool) {
	rest, ok := strings.CutPrefix(string(w), scheme)
	if !ok || len(w) > keys.MaxWrapped {
		return 0, false
	}
	number, text, ok := strings.Cut(rest, ":")
	if !ok || len(number) < 1 || len(number) > 10 || number[0] < '1' || number[0] > '9' || text == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return 0, false
	}
	for i := range len(text) {
		if !inBase64(text[i]) {
			return 0, false
		}
	}
	return int(n), true
}

// inBase64 asks two bit sets, the characters below and above 64: it runs for each byte that is sent.
func inBase64(c byte) bool {
	const (
		low  uint64 = 1<<'+' | 1<<'/' | (1<<10-1)<<'0' | 1<<'='
		high uint64 = (1<<26-1)<<('A'-64) | (1<<26-1)<<('a'-64)
	)
	switch c >> 6 {
	case 0:
		return low>>c&1 == 1
	case 1:
		return high>>(c-64)&1 == 1
	default:
		return false
	}
}

// encodeJSON makes the body of a small request.
func encodeJSON(pool *sync.Pool, v any) (*buffer, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: encode: %w", ErrRequest, err)
	}
	body := take(pool, len(text))
	body.b = append(body.b, text...)
	clear(text)
	return body, nil
}
