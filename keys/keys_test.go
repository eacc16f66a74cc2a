package keys

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stream is randomness that is the same in each run, for one goroutine.
func stream(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

// oneByOne is r for several goroutines.
type oneByOne struct {
	mu sync.Mutex
	r  io.Reader
}

func (o *oneByOne) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return io.ReadFull(o.r, p)
}

func testInstance(seed byte) InstanceID {
	return InstanceID(bytes.Repeat([]byte{seed}, 16))
}

// unlocked returns the keys of seed, in an installation of its own or, with the same seed, of the same keys.
func unlocked(t testing.TB, seed byte, inst InstanceID) (*Hierarchy, secret.Bytes) {
	t.Helper()
	h, er, err := Generate(stream(seed), inst, DefaultLog2P)
	if err != nil {
		t.Fatal(err)
	}
	return h, er
}

func testKey(seed byte) secret.Bytes { return secret.NewBytes(bytes.Repeat([]byte{seed}, keySize)) }

// sidAt returns a subject of bucket b and of partition x among 64.
func sidAt(b, x uint16, rest byte) SID {
	v := uint32(b)<<12 | uint32(x)<<6
	s := SID{byte(v >> 16), byte(v >> 8), byte(v)}
	for i := 3; i < len(s); i++ {
		s[i] = rest
	}
	return s
}

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
