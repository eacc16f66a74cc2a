package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(stopsDatabases{m}, map[string]func(){"cloakroom": main})
}

// stopsDatabases runs the tests and ends what they started.
type stopsDatabases struct{ *testing.M }

func (m stopsDatabases) Run() int {
	code := m.M.Run()
	if err := servers.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("TMPDIR", e.WorkDir)
			return nil
		},
		Cmds: scriptCommands(),
	})
}

// scriptCommands are the words that scripts have beyond those of testscript.
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"exits":   exits,
		"address": address,
		"edit":    edit,
		"mkcert":  mkcert,
		"lacks":   lacks,
		"becomes": becomes,
		"capture": capture,
		"waits":   waits,

		"agekey":     agekey,
		"unage":      unage,
		"nowhere":    nowhere,
		"filemode":   filemode,
		"samepeople": samepeople,
		"sametokens": sametokens,
		"holdport": func(ts *testscript.TestScript, _ bool, args []string) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			ts.Check(err)
			ts.Defer(func() { _ = l.Close() })
			ts.Setenv(args[0], l.Addr().String())
		},
	}
}

// exits CODE COMMAND... runs a command and compares its exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// becomes CODE COMMAND... runs a command until it ends with the exit code.
func becomes(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var exit *exec.ExitError
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && want == 0 || errors.As(err, &exit) && exit.ExitCode() == want {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("it still ends otherwise than with %d: %v", want, err)
		}
	}
}

// waits PATTERN COMMAND... runs a command until its output matches.
func waits(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[0])
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		ts.Check(ts.Exec(args[1], args[2:]...))
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("it still does not say %s", args[0])
		}
	}
}

// capture NAME FILE PATTERN sets the variable to the pattern's first group.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	found := regexp.MustCompile(args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if len(found) < 2 {
		ts.Fatalf("%s does not hold %s", args[1], args[2])
	}
	ts.Setenv(args[0], found[1])
}

// address FILE NAME waits until a server has written its URL and sets the variable.
func address(ts *testscript.TestScript, _ bool, args []string) {
	for range 3000 {
		if text, err := os.ReadFile(ts.MkAbs(args[0])); err == nil {
			ts.Setenv(args[1], strings.TrimSpace(string(text)))
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("no server came up")
}

// edit FILE OLD NEW replaces the first OLD.
func edit(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	text, err := os.ReadFile(path)
	ts.Check(err)
	altered := bytes.Replace(text, []byte(args[1]), []byte(args[2]), 1)
	if bytes.Equal(altered, text) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, altered, 0o600))
}

// lacks TEXT fails when one of the last command's outputs holds TEXT.
func lacks(ts *testscript.TestScript, _ bool, args []string) {
	for _, stream := range []string{"stdout", "stderr"} {
		if strings.Contains(ts.ReadFile(stream), args[0]) {
			ts.Fatalf("%s holds %q", stream, args[0])
		}
	}
}

// mkcert CERT KEY writes a certificate for 127.0.0.1 that signs itself.
func mkcert(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	for i, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: cert}, {Type: "PRIVATE KEY", Bytes: private}} {
		ts.Check(os.WriteFile(ts.MkAbs(args[i]), pem.EncodeToMemory(block), 0o600))
	}
}
