package local

import (
	"bytes"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
)

// seedRing is a keyring as it could lie on a disk.
func seedRing(tb testing.TB) *ring {
	tb.Helper()
	r := &ring{serial: 9, root: &key{available: 1}, dek: &key{available: 1}}
	for range 3 {
		if err := r.dek.extend(zeros{}); err != nil {
			tb.Fatal(err)
		}
	}
	r.dek.minimum, r.dek.available, r.dek.material = 2, 2, r.dek.material[1:]
	if err := r.root.extend(zeros{}); err != nil {
		tb.Fatal(err)
	}
	return r
}

// FuzzParse: whatever a file holds, it is refused or is the one way to write what was read.
func FuzzParse(f *testing.F) {
	r := seedRing(f)
	for _, s := range []*seal{nil, newSeal(passphrase("p"), cheap, [saltSize]byte{})} {
		for _, r := range []*ring{r, {serial: 1}, {serial: 1, dek: r.dek}} {
			file, err := r.encode(s, zeros{})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(file[:len(file)-sumSize])
		}
	}
	f.Add([]byte(nil))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, content []byte) {
		if e, err := parse(content); err == nil && !bytes.Equal(withSum(e.raw), content) {
			t.Fatal("a file without a fitting digest was accepted")
		}
		file := withSum(content)
		e, err := parse(file)
		if err != nil {
			return
		}
		if e.sealed {
			if err := e.cost.check(); err != nil {
				t.Fatal("accepted a cost outside its limits")
			}
			return
		}
		r, err := e.open(nil)
		if err != nil {
			return
		}
		again, err := r.encode(nil, zeros{})
		if err != nil || !bytes.Equal(again, file) {
			t.Fatalf("read and written anew, the file differs: %v", err)
		}
		for _, k := range r.keys() {
			if len(k.material) != k.latest-k.available+1 || k.available > max(k.minimum, 1) {
				t.Fatal("versions contradict each other")
			}
		}
	})
}

// FuzzUnwrap: nothing opens but what was wrapped, written in the one way.
func FuzzUnwrap(f *testing.F) {
	r := seedRing(f)
	c := &wrapper{key: r.dek, name: keys.DEKKey, random: zeros{}}
	plain := secret.NewBytes(make([]byte, keySize))
	good := c.wrap(0, testContext, plain)
	if good.Err != nil {
		f.Fatal(good.Err)
	}
	for _, seed := range []string{string(good.Wrapped), "", "local:v", "local:v3:", "vault:v1:AAAA"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out := c.unwrap(testContext, keys.Wrapped(text))
		if (out.Err == nil) != (keys.Wrapped(text) == good.Wrapped) {
			// Versions 2 and 3 hold the same zeros here, so the number alone may differ.
			if out.Err != nil || text[len("local:v3"):] != string(good.Wrapped)[len("local:v3"):] {
				t.Fatalf("error %v", out.Err)
			}
		}
	})
}
