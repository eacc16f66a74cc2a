package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/csv"
	"encoding/pem"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"github.com/go-json-experiment/json"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// agekey KIND FILE NAME makes a key (x25519, hybrid or ssh), writes it to FILE and its recipient to FILE.pub, and sets the
// variable to the recipient.
func agekey(ts *testscript.TestScript, _ bool, args []string) {
	var secret, public string
	switch args[0] {
	case "x25519":
		id, err := age.GenerateX25519Identity()
		ts.Check(err)
		secret, public = id.String()+"\n", id.Recipient().String()
	case "hybrid":
		id, err := age.GenerateHybridIdentity()
		ts.Check(err)
		secret, public = id.String()+"\n", id.Recipient().String()
	case "ssh":
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		ts.Check(err)
		block, err := ssh.MarshalPrivateKey(key, "")
		ts.Check(err)
		line, err := ssh.NewPublicKey(pub)
		ts.Check(err)
		secret, public = string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line)))
	default:
		ts.Fatalf("no key of the kind %s", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(secret), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1])+".pub", []byte("# who may open it\n\n"+public+"\n"), 0o600))
	ts.Setenv(args[2], public)
}

// unage KEY FILE OUT opens a file with a key.
func unage(ts *testscript.TestScript, neg bool, args []string) {
	text, err := decrypt(ts.ReadFile(args[0]), ts.ReadFile(args[1]))
	if (err != nil) != neg {
		ts.Fatalf("opening %s: %v", args[1], err)
	}
	if !neg {
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), text, 0o600))
	}
}

func decrypt(key, file string) ([]byte, error) {
	var ids []age.Identity
	var err error
	if strings.HasPrefix(key, "AGE-") {
		ids, err = age.ParseIdentities(strings.NewReader(key))
	} else {
		var id age.Identity
		id, err = agessh.ParseIdentity([]byte(key))
		ids = append(ids, id)
	}
	if err != nil {
		return nil, err
	}
	r, err := age.Decrypt(strings.NewReader(file), ids...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// nowhere EXCEPT,... TEXT... fails when a file below the work folder, or its name, holds one of the texts.
func nowhere(ts *testscript.TestScript, _ bool, args []string) {
	except := strings.Split(args[0], ",")
	read := 0
	ts.Check(filepath.WalkDir(ts.MkAbs("."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		for _, name := range except {
			if d.Name() == name {
				return nil
			}
		}
		text, err := os.ReadFile(path)
		read++
		for _, word := range args[1:] {
			if strings.Contains(string(text), word) || strings.Contains(d.Name(), word) {
				ts.Fatalf("%s holds %q", path, word)
			}
		}
		return err
	}))
	if read < 10 {
		ts.Fatalf("only %d files were looked at", read)
	}
}

// filemode OCTAL FILE...
func filemode(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", name, got, args[0])
		}
	}
}

// samepeople TABLE.csv PEOPLE.ndjson compares what was imported, byte for byte, with what came out. The column id names
// the people, note is the field text, and an empty cell is no value.
func samepeople(ts *testscript.TestScript, _ bool, args []string) {
	rows, err := csv.NewReader(strings.NewReader(ts.ReadFile(args[0]))).ReadAll()
	ts.Check(err)
	want := map[string]map[string]string{}
	for _, row := range rows[1:] {
		fields := map[string]string{}
		for i, name := range rows[0] {
			if name == "note" {
				name = "text"
			}
			if name != "id" && row[i] != "" {
				fields[name] = row[i]
			}
		}
		want[row[0]] = fields
	}
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile(args[1]), "\n"), "\n")
	if len(lines) != len(want) {
		ts.Fatalf("%d people, want %d", len(lines), len(want))
	}
	for _, line := range lines {
		var p wire.ExportedSubject
		ts.Check(json.Unmarshal([]byte(line), &p, json.RejectUnknownMembers(true)))
		got := map[string]string{}
		for name, f := range p.Fields {
			got[name] = string(f.Value)
			if f.Token == "" || f.Kind != name {
				ts.Fatalf("%s: field %s has no token, or another kind", p.Subject, name)
			}
		}
		if fields, ok := want[p.Subject]; !ok || !maps.Equal(got, fields) || len(p.Tokens) < len(got) {
			ts.Fatalf("%s has other values than were put", p.Subject)
		}
		delete(want, p.Subject)
	}
}

// sametokens IMPORTED.ndjson TOKENS.ndjson compares the output of an import with the tokens of everybody.
func sametokens(ts *testscript.TestScript, _ bool, args []string) {
	want := map[string]map[string]wire.Plain{}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		var row map[string]wire.Plain
		ts.Check(json.Unmarshal([]byte(line), &row))
		id := string(row["id"])
		delete(row, "id")
		want[id] = row
	}
	n := 0
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		var s wire.TokensOfSubject
		ts.Check(json.Unmarshal([]byte(line), &s, json.RejectUnknownMembers(true)))
		if !maps.Equal(s.Tokens, want[s.Subject]) {
			ts.Fatalf("%s has other tokens", s.Subject)
		}
		n++
	}
	if n != len(want) || n == 0 {
		ts.Fatalf("%d people, want %d", n, len(want))
	}
}
