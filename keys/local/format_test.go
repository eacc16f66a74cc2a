package local

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/cloakroom-io/cloakroom/keys"
)

func TestLimits(t *testing.T) {
	ctx := t.Context()
	k := ready(t, newPath(t), "")
	w := canary(t, k, keys.DEKKey)
	if _, err := k.Wrap(ctx, keys.DEKKey, 0, make([]keys.WrapItem, maxBatch+1)); !errors.Is(err, ErrRequest) {
		t.Errorf("wrap: %v", err)
	}
	if _, err := k.Unwrap(ctx, keys.DEKKey, make([]keys.UnwrapItem, maxBatch+1)); !errors.Is(err, ErrRequest) {
		t.Errorf("unwrap: %v", err)
	}
	if _, err := k.Rewrap(ctx, keys.DEKKey, make([]keys.UnwrapItem, maxBatch+1)); !errors.Is(err, ErrRequest) {
		t.Errorf("rewrap: %v", err)
	}
	if err := k.Create(ctx, "signing"); !errors.Is(err, ErrRequest) {
		t.Errorf("create: %v", err)
	}
	if _, err := k.Versions(ctx, "signing"); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("versions: %v", err)
	}
	text := string(w)
	for name, bad := range map[string]string{
		"other scheme":         strings.Replace(text, "local", "vault", 1),
		"version 0":            strings.Replace(text, "v1", "v0", 1),
		"leading zero":         strings.Replace(text, "v1", "v01", 1),
		"sign":                 strings.Replace(text, "v1", "v+1", 1),
		"unknown version":      strings.Replace(text, "v1", "v2", 1),
		"far too large":        strings.Replace(text, "v1", "v99999999999", 1),
		"no version":           strings.Replace(text, "v1", "v", 1),
		"line end":             text + "\n",
		"line ends within":     text[:len(text)-4] + "\n\n\n\n",
		"line ends, one apart": text[:len(text)-8] + "\n" + text[len(text)-8:len(text)-4] + "\n\n\n",
		"no base64":            text[:len(text)-1] + "!",
		"too long":             text + "AAAA",
		"nothing after it":     "local:v1:",
		"version and no :":     "local:v1",
		"only the scheme":      "local:v",
		"space before":         " " + text,
		"url-safe alphabet":    text[:len(text)-1] + "_",
	} {
		// After the good one, so that nothing of that is taken for what the bad one lacks.
		out, err := k.Unwrap(ctx, keys.DEKKey, []keys.UnwrapItem{
			{Context: testContext, Wrapped: w}, {Context: testContext, Wrapped: keys.Wrapped(bad)}})
		must(t, err, out[0].Err)
		if !errors.Is(out[1].Err, keys.ErrUnwrap) {
			t.Errorf("%s: %v", name, out[1].Err)
		}
	}
}

func TestTooManyVersions(t *testing.T) {
	full := &key{available: 1}
	for range maxVersions {
		must(t, full.extend(zeros{}))
	}
	if err := full.extend(zeros{}); !errors.Is(err, ErrRequest) {
		t.Fatal(err)
	}
	last := &key{available: maxVersion, latest: maxVersion}
	if err := last.extend(zeros{}); !errors.Is(err, ErrRequest) {
		t.Fatal(err)
	}
	file, err := (&ring{serial: 1, root: full, dek: full}).encode(nil, zeros{})
	must(t, err)
	e, err := parse(file)
	must(t, err)
	if _, err := e.open(nil); err != nil {
		t.Fatalf("the largest keyring can't be read: %v", err)
	}
}

// A keyring written once must be read for ever: a change of these bytes is a new format.
func TestFormatIsFixed(t *testing.T) {
	r := seedRing(t)
	for name, c := range map[string]struct {
		seal *seal
		want string
	}{
		"unsealed": {nil, "075ba141e640b701b6e06a4b70598e41c0f6206d983d5be46c98eeb981a53b1d"},
		"sealed":   {newSeal(passphrase("p"), cheap, [saltSize]byte{}), "dc9fc83583b61098206bdd2ae7c66c7b16817b8773b0a26fa60d0cefc929f246"},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := r.encode(c.seal, zeros{})
			must(t, err)
			if got := sha256.Sum256(file); hex.EncodeToString(got[:]) != c.want {
				t.Fatalf("digest of the file = %x", got)
			}
		})
	}
}

// Opens wrapped keys by what the comment in wrap.go says alone.
func TestWrappedFormat(t *testing.T) {
	k := ready(t, newPath(t), "")
	for _, name := range []keys.KeyName{keys.RootKey, keys.DEKKey} {
		must(t, k.Rotate(t.Context(), name))
		text, ok := strings.CutPrefix(string(canary(t, k, name)), "local:v2:")
		if !ok {
			t.Fatal("prefix")
		}
		box, err := base64.StdEncoding.DecodeString(text)
		must(t, err)
		key, data := material(k, name)[2], []byte("cloakroom/local/root/1\x00context")
		if name == keys.DEKKey {
			key, err = hkdf.Expand(sha256.New, key, "cloakroom/local/dek/1\x00context", 32)
			must(t, err)
			data = nil
		}
		aead, err := chacha20poly1305.NewX(key)
		must(t, err)
		plain, err := aead.Open(nil, box[:24], box[24:], data)
		must(t, err)
		if string(plain) != string(canaryKey().Reveal()) {
			t.Fatalf("%s: another key", name)
		}
	}
}

func TestMalformedBody(t *testing.T) {
	v := strings.Repeat("00", keySize)
	entry := func(code, latest, minimum, available string) string {
		return code + "000000" + latest + "000000" + minimum + "000000" + available
	}
	for name, c := range map[string]struct {
		body string
		ok   bool
	}{
		"no key":                     {"00", true},
		"one key":                    {"01" + entry("02", "01", "00", "01") + v, true},
		"two keys":                   {"02" + entry("01", "01", "01", "01") + v + entry("02", "02", "02", "02") + v, true},
		"empty":                      {"", false},
		"bytes after it":             {"0000", false},
		"key missing":                {"01", false},
		"keys out of order":          {"02" + entry("02", "01", "00", "01") + v + entry("01", "01", "00", "01") + v, false},
		"key twice":                  {"02" + entry("01", "01", "00", "01") + v + entry("01", "01", "00", "01") + v, false},
		"code 0":                     {"01" + entry("00", "01", "00", "01") + v, false},
		"code 3":                     {"01" + entry("03", "01", "00", "01") + v, false},
		"no version":                 {"01" + entry("01", "00", "00", "01"), false},
		"available 0":                {"01" + entry("01", "01", "00", "00") + v + v, false},
		"available above minimum":    {"01" + entry("01", "03", "01", "02") + v + v, false},
		"available, minimum unset":   {"01" + entry("01", "02", "00", "02") + v, false},
		"minimum above latest":       {"01" + entry("01", "01", "02", "01") + v, false},
		"version missing":            {"01" + entry("01", "02", "00", "01") + v, false},
		"version cut short":          {"01" + entry("01", "01", "00", "01") + v[2:], false},
		"version too many":           {"01" + entry("01", "01", "00", "01") + v + v, false},
		"latest above 31 bits":       {"01" + "01" + "ffffffff" + "ffffffff" + "ffffffff" + v, false},
		"all versions ever, no keys": {"01" + "01" + "7fffffff" + "00000000" + "00000001", false},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := hex.DecodeString(c.body)
			must(t, err)
			err = new(ring).decode(body)
			if c.ok != (err == nil) || (err != nil && !errors.Is(err, ErrDamaged)) {
				t.Fatal(err)
			}
		})
	}
}

// endsAfter is a context that ends when it has been asked some times.
type endsAfter struct {
	context.Context
	asked int
}

func (c *endsAfter) Err() error {
	if c.asked--; c.asked < 0 {
		return context.Canceled
	}
	return nil
}

func TestCancelledWithinBatch(t *testing.T) {
	k := ready(t, newPath(t), "")
	items := make([]keys.UnwrapItem, 3*ctxEvery)
	out, err := k.Unwrap(&endsAfter{t.Context(), 2}, keys.DEKKey, items)
	if !errors.Is(err, context.Canceled) || out != nil {
		t.Fatalf("%d outcomes, %v", len(out), err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
