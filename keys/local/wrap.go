package local

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

// A wrapped key, V being the 32 bytes of version N:
//
//	"local:v" ‖ N in decimal ‖ ":" ‖ base64(nonce (24) ‖ XChaCha20-Poly1305(K, nonce, key, AD))
//
//	root: K = V, AD = "cloakroom/local/root/1\0" ‖ context
//	dek:  K = HKDF-Expand(SHA-256, V, "cloakroom/local/dek/1\0" ‖ context), AD empty
//
// Nonces are random: 192 bits leave room for any number of wraps under one version.
const (
	scheme     = "local:v"
	rootLabel  = "cloakroom/local/root/1\x00"
	dekLabel   = "cloakroom/local/dek/1\x00"
	sealedKey  = nonceSize + keySize + tagSize // 72 bytes: a multiple of three, so base64 has no padding
	maxContext = 256
	maxBatch   = 10_000
	ctxEvery   = 256 // items between two looks at the context
)

// Wrap seals 32-byte keys under contexts of 1 to 256 bytes, at most 10,000 at once. Outcomes carry ErrRequest for an
// item outside these limits. The call fails with ErrRequest for too many items, or a version that is above the
// latest, below the minimum or destroyed.
func (k *Keyring) Wrap(ctx context.Context, name keys.KeyName, version int, items []keys.WrapItem) ([]keys.Outcome, error) {
	return k.batch(ctx, name, len(items), func(c *wrapper, i int) keys.Outcome {
		return c.wrap(version, items[i].Context, items[i].Plaintext)
	}, func(found *key) error {
		if version != 0 && (version < max(found.minimum, found.available) || version > found.latest) {
			return fmt.Errorf("%w: wrapping takes a version from %d to %d, not %d",
				ErrRequest, max(found.minimum, found.available), found.latest, version)
		}
		return nil
	})
}

// Unwrap opens wrapped keys, at most 10,000 at once (ErrRequest). Outcomes carry keys.ErrUnwrap.
func (k *Keyring) Unwrap(ctx context.Context, name keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	return k.batch(ctx, name, len(items), func(c *wrapper, i int) keys.Outcome {
		return c.unwrap(items[i].Context, items[i].Wrapped)
	}, nil)
}

// Rewrap wraps under the latest version what older ones wrapped, at most 10,000 at once. ErrRequest for any key but
// dek. Outcomes carry keys.ErrUnwrap.
func (k *Keyring) Rewrap(ctx context.Context, name keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	return k.batch(ctx, name, len(items), func(c *wrapper, i int) keys.Outcome {
		opened := c.unwrap(items[i].Context, items[i].Wrapped)
		if opened.Err != nil {
			return opened
		}
		defer opened.Plaintext.Wipe()
		return c.wrap(0, items[i].Context, opened.Plaintext)
	}, func(*key) error {
		if name != keys.DEKKey {
			return fmt.Errorf("%w: only the dek key rewraps", ErrRequest)
		}
		return nil
	})
}

// batch looks at the file once, calls allow, then each for every item.
func (k *Keyring) batch(ctx context.Context, name keys.KeyName, n int,
	each func(*wrapper, int) keys.Outcome, allow func(*key) error) ([]keys.Outcome, error) {
	if n > maxBatch {
		return nil, fmt.Errorf("%w: %d items, at most %d at once", ErrRequest, n, maxBatch)
	}
	out := make([]keys.Outcome, n)
	err := k.view(ctx, func(r *ring) error {
		found, err := r.key(name)
		if err != nil {
			return err
		}
		if allow != nil {
			if err := allow(found); err != nil {
				return err
			}
		}
		c := &wrapper{key: found, name: name, random: k.random}
		for i := range out {
			if i%ctxEvery == ctxEvery-1 && ctx.Err() != nil {
				for _, o := range out[:i] {
					o.Plaintext.Wipe()
				}
				return fmt.Errorf("local keyring: %w", ctx.Err())
			}
			out[i] = each(c, i)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// wrapper wraps and unwraps under one key, keeping its scratch space from item to item.
type wrapper struct {
	key    *key
	name   keys.KeyName
	random io.Reader
	data   []byte // associated data of the item at hand
	text   []byte // wrapped key of the item at hand
	box    [sealedKey]byte
}

func (c *wrapper) wrap(version int, context []byte, plaintext secret.Bytes) keys.Outcome {
	if len(context) < 1 || len(context) > maxContext || plaintext.Len() != keySize {
		return keys.Outcome{Err: fmt.Errorf("%w: wrapping takes a key of %d bytes and a context of 1 to %d bytes",
			ErrRequest, keySize, maxContext)}
	}
	if version == 0 {
		version = c.key.latest
	}
	aead, data, err := c.aead(version, context)
	if err != nil {
		return keys.Outcome{Err: err}
	}
	nonce := c.box[:nonceSize]
	if _, err := io.ReadFull(c.random, nonce); err != nil {
		return keys.Outcome{Err: fmt.Errorf("%w: random: %w", keys.ErrKMSUnavailable, err)}
	}
	box := aead.Seal(nonce, nonce, plaintext.Reveal(), data)
	c.text = append(c.text[:0], scheme...)
	c.text = strconv.AppendInt(c.text, int64(version), 10)
	c.text = append(c.text, ':')
	c.text = base64.StdEncoding.AppendEncode(c.text, box)
	return keys.Outcome{Wrapped: keys.Wrapped(c.text)}
}

func (c *wrapper) unwrap(context []byte, wrapped keys.Wrapped) keys.Outcome {
	version, ok := c.parse(wrapped)
	if !ok {
		return keys.Outcome{Err: fmt.Errorf("%w: not a key that a keyring wrapped", keys.ErrUnwrap)}
	}
	if version < c.key.minimum || version < c.key.available || version > c.key.latest {
		return keys.Outcome{Err: fmt.Errorf("%w: version %d is destroyed, refused or unknown", keys.ErrUnwrap, version)}
	}
	if len(context) < 1 || len(context) > maxContext {
		return keys.Outcome{Err: fmt.Errorf("%w: a context has 1 to %d bytes", keys.ErrUnwrap, maxContext)}
	}
	aead, data, err := c.aead(version, context)
	if err != nil {
		return keys.Outcome{Err: err}
	}
	plaintext, err := aead.Open(nil, c.box[:nonceSize], c.box[nonceSize:], data)
	if err != nil {
		return keys.Outcome{Err: fmt.Errorf("%w: wrong context, or altered", keys.ErrUnwrap)}
	}
	return keys.Outcome{Plaintext: secret.NewBytes(plaintext)}
}

// aead returns the cipher for version and context, and the associated data.
func (c *wrapper) aead(version int, context []byte) (cipher.AEAD, []byte, error) {
	material, ok := c.key.version(version)
	if !ok {
		return nil, nil, fmt.Errorf("%w: version %d is not there", keys.ErrUnwrap, version)
	}
	if c.name == keys.RootKey {
		aead, err := chacha20poly1305.NewX(material.Reveal())
		c.data = append(append(c.data[:0], rootLabel...), context...)
		return aead, c.data, err
	}
	derived, err := hkdf.Expand(sha256.New, material.Reveal(), dekLabel+string(context), keySize)
	if err != nil {
		return nil, nil, fmt.Errorf("derive key: %w", err)
	}
	aead, err := chacha20poly1305.NewX(derived)
	clear(derived)
	return aead, nil, err
}

// parse reads wrapped into the box and returns its version. Only what wrap writes is accepted.
func (c *wrapper) parse(wrapped keys.Wrapped) (int, bool) {
	rest, ok := strings.CutPrefix(string(wrapped), scheme)
	if !ok {
		return 0, false
	}
	number, text, ok := strings.Cut(rest, ":")
	if !ok || len(number) < 1 || len(number) > 10 || number[0] < '1' || len(text) != sealedKey/3*4 {
		return 0, false
	}
	version, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return 0, false
	}
	c.text = append(c.text[:0], text...)
	// The decoder skips line ends, so that a short result is not an error of its own.
	n, err := base64.StdEncoding.Strict().Decode(c.box[:], c.text)
	if err != nil || n != sealedKey {
		return 0, false
	}
	return int(version), true
}
