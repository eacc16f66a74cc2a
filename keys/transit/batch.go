package transit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

// Wrap seals 32-byte keys under contexts of 1 to 256 bytes, at most 10,000 at once, by one request. Outcomes carry
// ErrRequest for an item outside these limits, or for a version that Vault does not wrap under. The call fails with
// ErrRequest, keys.ErrNoKey or keys.ErrKMSUnavailable.
func (t *Transit) Wrap(ctx context.Context, key keys.KeyName, version int, items []keys.WrapItem) ([]keys.Outcome, error) {
	b, err := t.newBatch(ctx, "encrypt", key, len(items))
	if err != nil {
		return nil, err
	}
	if version < 0 {
		return nil, fmt.Errorf("%w: version %d", ErrRequest, version)
	}
	size := 0
	for i, item := range items {
		if len(item.Context) < 1 || len(item.Context) > maxContext || item.Plaintext.Len() != keySize {
			b.refuse(i, fmt.Errorf("%w: wrapping takes a key of %d bytes and a context of 1 to %d bytes", ErrRequest, keySize, maxContext))
			continue
		}
		size += len(item.Context)*4/3 + 2*keySize + room
	}
	name := contextName(key)
	return b.run(ctx, size, "ciphertext", func(to []byte, i int) []byte { return appendWrap(to, name, version, items[i]) },
		func(value []byte) (keys.Outcome, error) { return wrappedKey(value, version) }, wrapRefusal)
}

// Unwrap opens wrapped keys, at most 10,000 at once, by one request. Outcomes carry keys.ErrUnwrap, or
// keys.ErrKMSUnavailable when Vault failed at this item. The call fails with ErrRequest, keys.ErrNoKey or
// keys.ErrKMSUnavailable.
func (t *Transit) Unwrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	b, err := t.newBatch(ctx, "decrypt", key, len(items))
	if err != nil {
		return nil, err
	}
	return b.runUnwrap(ctx, items, "plaintext", func(value []byte) (keys.Outcome, error) {
		plain, ok := plainKey(value)
		if !ok {
			return keys.Outcome{}, fmt.Errorf("%w: what it holds is not a key of %d bytes", keys.ErrUnwrap, keySize)
		}
		return keys.Outcome{Plaintext: plain}, nil
	}, unwrapRefusal)
}

// Rewrap brings wrapped keys to the latest version inside Vault, at most 10,000 at once, by one request. Only for
// keys.DEKKey (ErrRequest): Vault's rewrap does not look at associated data. Errors are those of Unwrap.
func (t *Transit) Rewrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	if key != keys.DEKKey {
		return nil, fmt.Errorf("%w: only the dek key rewraps", ErrRequest)
	}
	b, err := t.newBatch(ctx, "rewrap", key, len(items))
	if err != nil {
		return nil, err
	}
	return b.runUnwrap(ctx, items, "ciphertext", func(value []byte) (keys.Outcome, error) { return wrappedKey(value, 0) },
		func(text string, _ bool) error { // Vault reports its own failures for the whole batch
			return fmt.Errorf("%w: %s", keys.ErrUnwrap, text)
		})
}

// batch is one request for many items.
type batch struct {
	t    *Transit
	key  keys.KeyName
	path string
	out  []keys.Outcome
	bad  int // items that are not sent; their outcome is an error from the beginning
}

func (t *Transit) newBatch(ctx context.Context, operation string, key keys.KeyName, n int) (*batch, error) {
	name, err := t.keyName(key)
	if err != nil {
		return nil, err
	}
	if n > maxBatch {
		return nil, fmt.Errorf("%w: %d items, at most %d at once", ErrRequest, n, maxBatch)
	}
	if ctx.Err() != nil {
		return nil, ended(ctx)
	}
	return &batch{t: t, key: key, path: t.mount + "/" + operation + "/" + name, out: make([]keys.Outcome, n)}, nil
}

func (b *batch) refuse(i int, err error) {
	b.out[i].Err = err
	b.bad++
}

// runUnwrap is run for items that were wrapped.
func (b *batch) runUnwrap(ctx context.Context, items []keys.UnwrapItem, member string,
	accept func([]byte) (keys.Outcome, error), refusal func(string, bool) error) ([]keys.Outcome, error) {
	size := 0
	for i, item := range items {
		if _, ok := parseWrapped(item.Wrapped); !ok {
			b.refuse(i, fmt.Errorf("%w: not a key that vault wrapped", keys.ErrUnwrap))
			continue
		}
		if len(item.Context) < 1 || len(item.Context) > maxContext {
			b.refuse(i, fmt.Errorf("%w: a context has 1 to %d bytes", keys.ErrUnwrap, maxContext))
			continue
		}
		size += len(item.Context)*4/3 + len(item.Wrapped) + room
	}
	name := contextName(b.key)
	return b.run(ctx, size, member, func(to []byte, i int) []byte { return appendUnwrap(to, name, items[i]) }, accept, refusal)
}

// run sends the items that are fit, of size bytes together, and puts what came for each into its place. encode
// appends item i; accept takes the value of the member that holds a success, refusal the text of an error and whether
// it certainly speaks of the item, not of Vault.
func (b *batch) run(ctx context.Context, size int, member string, encode func([]byte, int) []byte,
	accept func([]byte) (keys.Outcome, error), refusal func(string, bool) error) ([]keys.Outcome, error) {
	sent := len(b.out) - b.bad
	if sent == 0 {
		return b.out, nil
	}
	body := take(&b.t.requests, size+len(batchHead)+len(batchTail))
	defer body.release()
	body.b = append(body.b, batchHead...)
	for i := range b.out {
		if b.out[i].Err == nil {
			body.b = encode(body.b, i)
		}
	}
	body.b = append(body.b[:len(body.b)-1], batchTail...) // without the last comma
	r := request{method: http.MethodPut, path: b.path, body: body, items: sent, denied: b.noKey}
	a, err := b.t.call(ctx, r)
	if err != nil {
		return nil, err
	}
	defer a.release()
	if err := b.read(a, sent, member, accept, refusal); err != nil {
		for _, o := range b.out {
			o.Plaintext.Wipe()
		}
		if errors.Is(err, errNoResults) && a.status >= 400 {
			return nil, b.refused(r, a)
		}
		return nil, fmt.Errorf("%w: %s: %w", keys.ErrKMSUnavailable, b.path, err)
	}
	return b.out, nil
}

// read matches results with the items that were sent, by their order.
func (b *batch) read(a *answer, sent int, member string, accept func([]byte) (keys.Outcome, error), refusal func(string, bool) error) error {
	i, results := 0, 0
	err := decodeBatch(a.body.b, member, func(value, text []byte) {
		if results++; results > sent {
			return
		}
		for b.out[i].Err != nil { // not sent
			i++
		}
		o := &b.out[i]
		i++
		if len(text) == 0 && len(value) == 0 {
			o.Err = fmt.Errorf("%w: vault answered nothing for this item", keys.ErrKMSUnavailable)
			return
		}
		if len(text) > 0 {
			// The status of a batch of one tells whose fault an error is; that of a larger one says only that there are some.
			o.Err = refusal(bounded(string(text)), sent == 1 && a.status == http.StatusBadRequest)
			return
		}
		var err error
		if *o, err = accept(value); err != nil {
			o.Err = err
		}
	})
	if err == nil && results != sent {
		return fmt.Errorf("%w: %d results for %d items", errAnswer, results, sent)
	}
	return err
}

// refused says what an answer without results means.
func (b *batch) refused(r request, a *answer) error {
	switch {
	case a.status == http.StatusBadRequest && strings.Contains(a.text, "encryption key not found"):
		return b.t.absent(b.key)
	case a.status == http.StatusNotFound:
		return b.t.unmounted(a)
	default:
		return refused(r, a)
	}
}

// noKey tells an absent key from a missing permission: to encrypt under one means to make it, which the service's
// policy forbids.
func (b *batch) noKey(ctx context.Context, token secret.Text) error {
	a, err := b.t.send(ctx, token, request{method: http.MethodGet, path: b.t.keyPath(b.key)})
	if err != nil {
		return nil
	}
	defer a.release()
	if a.status == http.StatusNotFound {
		return b.t.absent(b.key)
	}
	return nil
}

// wrappedKey takes what Vault wrapped from its quotes. Whatever else stands there must not be stored.
func wrappedKey(quoted []byte, version int) (keys.Outcome, error) {
	w := keys.Wrapped(bytes.Trim(quoted, `"`))
	got, ok := parseWrapped(w)
	if !ok || (version != 0 && got != version) {
		return keys.Outcome{}, fmt.Errorf("%w: vault answered with something else than a wrapped key", keys.ErrKMSUnavailable)
	}
	return keys.Outcome{Wrapped: w}, nil
}

func wrapRefusal(text string, certain bool) error {
	if certain || strings.HasPrefix(text, "requested version") {
		return fmt.Errorf("%w: %s", ErrRequest, text)
	}
	return fmt.Errorf("%w: %s", keys.ErrKMSUnavailable, text)
}

// unwrapRefusal holds an item for lost only when Vault has certainly judged the item. What else it says may pass.
func unwrapRefusal(text string, certain bool) error {
	if certain || judgesItem(text) {
		return fmt.Errorf("%w: %s", keys.ErrUnwrap, text)
	}
	return fmt.Errorf("%w: %s", keys.ErrKMSUnavailable, text)
}

// judgesItem knows what Vault's source calls a user's error of decryption (sdk/helper/keysutil, Policy.Decrypt).
func judgesItem(text string) bool {
	for _, known := range []string{
		"invalid ciphertext", "ciphertext or signature version is disallowed", "message authentication failed",
		"no such key version", "invalid key version", "missing ciphertext", "illegal base64",
	} {
		if strings.Contains(text, known) {
			return true
		}
	}
	return false
}
