package local

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/keys"
)

const childEnv = "CLOAKROOM_TEST_KEYRING"

// TestMain turns this binary into the process that TestCrash kills.
func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		fmt.Fprintln(os.Stderr, rotateForEver(path, os.Getenv(childEnv+"_PASSPHRASE")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// rotateForEver rotates and trims, and writes a line before each trim and after each step that was acknowledged:
//
//	rotated VERSION WRAPPED-CANARY KEY-IN-HEX
//	trimming VERSION
//	trimmed VERSION
func rotateForEver(path, pass string) error {
	ctx := context.Background()
	k, err := Open(path, options(pass, nil))
	if err != nil {
		return err
	}
	if err := k.Create(ctx, keys.DEKKey); err != nil {
		return err
	}
	for {
		if err := k.Rotate(ctx, keys.DEKKey); err != nil {
			return err
		}
		v, err := k.Versions(ctx, keys.DEKKey)
		if err != nil {
			return err
		}
		out, err := k.Wrap(ctx, keys.DEKKey, v.Latest, []keys.WrapItem{{Context: testContext, Plaintext: canaryKey()}})
		if err != nil {
			return err
		}
		fmt.Printf("rotated %d %s %s\n", v.Latest, out[0].Wrapped, hex.EncodeToString(material(k, keys.DEKKey)[v.Latest]))
		if v.Latest%3 != 0 {
			continue
		}
		target := v.Latest - 1
		fmt.Printf("trimming %d\n", target)
		if err := errors.Join(k.RaiseMinima(ctx, keys.DEKKey, target), k.Trim(ctx, keys.DEKKey, target)); err != nil {
			return err
		}
		fmt.Printf("trimmed %d\n", target)
	}
}

// acknowledged is what the killed processes have said so far.
type acknowledged struct {
	latest, trimming, trimmed int
	canaries                  map[int]keys.Wrapped
	material                  map[int][]byte
}

func (a *acknowledged) line(t *testing.T, line string) {
	t.Helper()
	f := strings.Fields(line)
	var version int
	if _, err := fmt.Sscan(f[1], &version); err != nil {
		t.Fatal(err)
	}
	switch f[0] {
	case "rotated":
		raw, err := hex.DecodeString(f[3])
		must(t, err)
		a.latest, a.canaries[version], a.material[version] = version, keys.Wrapped(f[2]), raw
	case "trimming":
		a.trimming = version
	case "trimmed":
		a.trimmed = version
	}
}

func TestCrash(t *testing.T) {
	for _, s := range sealings {
		t.Run(s.name, func(t *testing.T) {
			path := newPath(t)
			said := acknowledged{canaries: map[int]keys.Wrapped{}, material: map[int][]byte{}}
			for range 12 {
				runAndKill(t, path, s.passphrase, &said)
				said.check(t, path, s.passphrase)
			}
			if said.trimmed == 0 {
				t.Fatal("no process got as far as a trim")
			}
		})
	}
}

func runAndKill(t *testing.T, path, pass string, said *acknowledged) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+path, childEnv+"_PASSPHRASE="+pass)
	stderr := new(bytes.Buffer)
	child.Stderr = stderr
	pipe, err := child.StdoutPipe()
	must(t, err, child.Start())
	out := bufio.NewReader(pipe)
	kill := rand.IntN(12) // the process goes on while this one reads, so the moment is anywhere in its loop
	for n := 0; ; n++ {
		if n == kill {
			must(t, child.Process.Kill())
		}
		line, err := out.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break // what was written of a last line was not acknowledged
		}
		must(t, err)
		said.line(t, line)
	}
	if err := child.Wait(); err == nil || stderr.Len() != 0 {
		t.Fatalf("the process was not killed but ended: %v: %s", err, stderr)
	}
}

func (a *acknowledged) check(t *testing.T, path, pass string) {
	t.Helper()
	for v, m := range a.material {
		if v < a.trimmed {
			wantNowhere(t, filepath.Dir(path), m) // before the next open could have cleaned up
		}
	}
	k, err := Open(path, options(pass, nil))
	must(t, err)
	defer closeRing(t, k)
	if !bytes.Equal(read(t, path), read(t, path+".mirror")) {
		t.Fatal("file and mirror differ after open")
	}
	v, err := k.Versions(t.Context(), keys.DEKKey)
	if errors.Is(err, keys.ErrNoKey) && a.latest == 0 {
		return
	}
	must(t, err)
	if v.Latest < a.latest || v.MinAvailable < a.trimmed || v.MinAvailable > max(a.trimming, 1) {
		t.Fatalf("%+v after latest %d, trimming %d, trimmed %d", v, a.latest, a.trimming, a.trimmed)
	}
	for version, w := range a.canaries {
		err := sing(t, k, keys.DEKKey, w)
		if opens := version >= v.MinDecrypt; opens != (err == nil) {
			t.Fatalf("version %d with %+v: %v", version, v, err)
		}
	}
	held := material(k, keys.DEKKey)
	for version, m := range a.material {
		if version < v.MinAvailable {
			wantFilesWithout(t, path, m)
		} else if !bytes.Equal(held[version], m) {
			t.Fatalf("version %d is lost", version)
		}
	}
}
