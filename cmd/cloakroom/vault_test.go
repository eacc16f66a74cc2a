package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// TestVaultScripts runs the command line against a real Vault. A script finds its address in VAULT_ADDR and the root
// token in ROOT; those of one that a script may seal in SEALED_..., and of one that
// speaks HTTPS in TLS_....
func TestVaultScripts(t *testing.T) {
	server, sealed := transittest.Start(t, transittest.Options{}), transittest.Start(t, transittest.Options{})
	tls := transittest.Start(t, transittest.Options{TLS: true})
	commands := scriptCommands()
	for name, command := range vaultCommands(t, server, sealed) {
		commands[name] = command
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/vault",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("TMPDIR", e.WorkDir)
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("VAULT_ADDR", server.URL)
			e.Setenv("ROOT", server.Root)
			e.Setenv("SEALED_ADDR", sealed.URL)
			e.Setenv("SEALED_ROOT", sealed.Root)
			e.Setenv("TLS_ADDR", tls.URL)
			e.Setenv("TLS_ROOT", tls.Root)
			e.Setenv("TLS_CA", tls.CA)
			e.Setenv("TLS_CERT", tls.ClientCert)
			e.Setenv("TLS_KEY", tls.ClientKey)
			return nil
		},
		Cmds: commands,
	})
}

// vaultCommands are what scripts may do to Vault; sealed is a second one, which only one script uses.
func vaultCommands(t *testing.T, server, sealed *transittest.Server) map[string]func(*testscript.TestScript, bool, []string) {
	var proxies sync.Map // of each script
	return map[string]func(*testscript.TestScript, bool, []string){
		// vault METHOD PATH [JSON] calls Vault as root.
		"vault": func(ts *testscript.TestScript, _ bool, args []string) {
			var body map[string]any
			if len(args) > 2 {
				ts.Check(json.Unmarshal([]byte(args[2]), &body))
			}
			status, answer, err := server.Try(args[0], "/v1/"+args[1], server.Root, body)
			ts.Check(err)
			if status >= 400 {
				ts.Fatalf("%s %s: %d %v", args[0], args[1], status, answer)
			}
		},
		// token NAME POLICY... makes a token and sets the variable.
		"token": func(ts *testscript.TestScript, _ bool, args []string) {
			ts.Setenv(args[0], server.Token(t, time.Hour, args[1:]...))
		},
		// approle NAME POLICY writes role-id and secret-id, and sets SECRET_ID.
		"approle": func(ts *testscript.TestScript, _ bool, args []string) {
			role, secretID := server.AppRole(t, args[0], map[string]any{"token_policies": args[1], "token_ttl": "1h"})
			ts.Check(os.WriteFile(ts.MkAbs("role-id"), []byte(role+"\n"), 0o600))
			ts.Check(os.WriteFile(ts.MkAbs("secret-id"), []byte(secretID+"\n"), 0o600))
			ts.Setenv("SECRET_ID", secretID)
		},
		// proxy NAME puts a proxy before Vault and sets the variable to its URL. fault STATUS PART [N] has it answer that
		// status to requests with PART in their path, after it has let N of them pass; fault none ends it. asked PART N waits
		// for so many.
		"proxy": func(ts *testscript.TestScript, _ bool, args []string) {
			p := transittest.NewProxy(t, server.URL)
			proxies.Store(ts, p)
			ts.Setenv(args[0], p.URL)
		},
		"fault": func(ts *testscript.TestScript, _ bool, args []string) {
			found, _ := proxies.Load(ts)
			p := found.(*transittest.Proxy)
			if args[0] == "none" {
				p.Set(transittest.Fault{})
				return
			}
			status, err := strconv.Atoi(args[0])
			ts.Check(err)
			var pass int64
			if len(args) > 2 {
				pass, err = strconv.ParseInt(args[2], 10, 64)
				ts.Check(err)
			}
			var seen atomic.Int64
			p.Set(transittest.Fault{Status: status, Match: func(r *http.Request) bool {
				return strings.Contains(r.URL.Path, args[1]) && seen.Add(1) > pass
			}})
		},
		"asked": func(ts *testscript.TestScript, _ bool, args []string) {
			found, _ := proxies.Load(ts)
			want, err := strconv.Atoi(args[1])
			ts.Check(err)
			for end := time.Now().Add(time.Minute); found.(*transittest.Proxy).Count(args[0]) < want; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					ts.Fatalf("%s was not asked for so often", args[0])
				}
			}
		},
		"seal":   func(*testscript.TestScript, bool, []string) { sealed.Seal(t) },
		"unseal": func(*testscript.TestScript, bool, []string) { sealed.Unseal(t) },
		// snapshot NAME PATH sets the variable to a digest of everything below the path.
		"snapshot": func(ts *testscript.TestScript, _ bool, args []string) { ts.Setenv(args[0], digest(ts, args[1])) },
		// unchanged NAME PATH compares.
		"unchanged": func(ts *testscript.TestScript, _ bool, args []string) {
			if digest(ts, args[1]) != ts.Getenv(args[0]) {
				ts.Fatalf("%s was written to", args[1])
			}
		},
	}
}

// digest covers the names, modes and bytes below a path.
func digest(ts *testscript.TestScript, path string) string {
	h := sha256.New()
	ts.Check(filepath.WalkDir(ts.MkAbs(path), func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var text []byte
		if d.Type().IsRegular() {
			if text, err = os.ReadFile(file); err != nil {
				return err
			}
		}
		return json.NewEncoder(h).Encode([]any{file, info.Mode(), text})
	}))
	return hex.EncodeToString(h.Sum(nil))
}
