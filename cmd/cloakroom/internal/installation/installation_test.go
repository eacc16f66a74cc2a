package installation

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/vault"
)

// childFolder names the variable that makes this test binary a process that opens an installation and ends.
const childFolder = "INSTALLATION_TEST_FOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		inst, err := Open(context.Background(), childOptions(dir))
		if err == nil {
			err = inst.Close()
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func options(dir string) Options {
	return Options{Data: dir, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
}

// open opens an installation, puts someone in, and hands it to fn.
func open(t *testing.T, dir string, fn func(*Installation)) {
	t.Helper()
	inst, err := Open(t.Context(), options(dir))
	if err != nil {
		t.Fatal(err)
	}
	if fn != nil {
		fn(inst)
	}
	if err := inst.Close(); err != nil {
		t.Fatal(err)
	}
}

// call is one by the service of a credential file.
func call(t *testing.T, inst *Installation, service string) vault.Call {
	t.Helper()
	text, err := os.ReadFile(inst.Credential(service))
	if err != nil {
		t.Fatal(err)
	}
	principal, err := inst.Vault.Authenticate(t.Context(), secret.NewText(strings.TrimSpace(string(text))))
	if err != nil {
		t.Fatalf("the key of %s: %v", service, err)
	}
	if principal.Service != service || principal.Role != service {
		t.Fatalf("the key of %s is that of %+v", service, principal)
	}
	return vault.Call{Principal: principal, RequestID: "r"}
}

func put(t *testing.T, inst *Installation, subject string) {
	t.Helper()
	_, err := inst.Vault.Put(t.Context(), call(t, inst, "app"), vault.PutRequest{
		Subject: subject, Fields: []vault.FieldInput{{Field: "text", Value: secret.NewText("v")}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFirstStartAndRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "too", "data")
	open(t, dir, func(inst *Installation) {
		if !inst.New || inst.Sealed {
			t.Errorf("new %v, sealed %v", inst.New, inst.Sealed)
		}
		put(t, inst, "u1")
		for _, service := range firstServices() {
			call(t, inst, service)
		}
	})
	open(t, dir, func(inst *Installation) {
		if inst.New {
			t.Error("made twice")
		}
		app := call(t, inst, "app")
		app.Purpose = "service"
		got, err := inst.Vault.Get(t.Context(), app, vault.GetRequest{Subject: "u1"})
		if err != nil || len(got) != 1 || got[0].Value.Reveal() != "v" {
			t.Errorf("%d fields, %v", len(got), err)
		}
		if _, err := Open(t.Context(), options(dir)); err == nil {
			t.Error("opened twice at once")
		}
	})
}

func TestFilesAreForTheOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, dir, nil)
	public := map[string]bool{"audit.pub": true, "certificate.pub": true}
	err := filepath.Walk(filepath.Dir(dir), func(path string, info os.FileInfo, err error) error {
		if err == nil && path != filepath.Dir(dir) && !public[info.Name()] && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestKilledFirstStart ends first starts at many moments. Each time the next start works, and the credentials in the
// files are those that the store knows.
func TestKilledFirstStart(t *testing.T) {
	for i := range 16 {
		dir := filepath.Join(t.TempDir(), "data")
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childFolder+"="+dir)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 8 * time.Millisecond)
		_ = child.Process.Kill()
		_ = child.Wait()
		open(t, dir, func(inst *Installation) {
			for _, service := range firstServices() {
				call(t, inst, service)
			}
			put(t, inst, "u1")
		})
	}
}

func TestLosses(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(t *testing.T, p Paths)
		want  string // "" = it starts
	}{
		{"store", func(t *testing.T, p Paths) { remove(t, p.Store) }, "put the store back"},
		{"audit log altered", func(t *testing.T, p Paths) { write(t, filepath.Join(p.Audit, "checkpoint"), "x") }, "keep it as it is for the investigation"},
		{"store emptied", func(t *testing.T, p Paths) { write(t, p.Store, "") }, "put the store back"},
		{"audit log", func(t *testing.T, p Paths) { remove(t, p.Audit) }, "is gone: put it back"},
		{"audit log emptied", func(t *testing.T, p Paths) { remove(t, p.Audit); mkdir(t, p.Audit) }, "is gone: put it back"},
		{"keyring and mirror", func(t *testing.T, p Paths) { remove(t, p.Keyring); remove(t, p.Keyring+".mirror") }, "no keyring"},
		{"keyring alone is healed", func(t *testing.T, p Paths) { remove(t, p.Keyring) }, ""},
		{"ledger with an erasure", func(t *testing.T, p Paths) { remove(t, p.Ledger) }, "put the newest copy"},
		{"public keys are written anew", func(t *testing.T, p Paths) { remove(t, p.CertificateKey); remove(t, p.AuditKey) }, ""},
		{"another public key is replaced", func(t *testing.T, p Paths) { write(t, p.CertificateKey, "x\n") }, ""},
		{"everything in the folder, an erasure in the ledger", func(t *testing.T, p Paths) { remove(t, p.Data) }, "ledger of an earlier installation"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			var key string
			open(t, dir, func(inst *Installation) {
				put(t, inst, "u1")
				if _, err := inst.Vault.Erase(t.Context(), call(t, inst, "officer"), "u1"); err != nil {
					t.Fatal(err)
				}
				key = inst.Vault.CertificateKey()
			})
			paths, err := PathsOf(dir)
			if err != nil {
				t.Fatal(err)
			}
			tc.spoil(t, paths)
			inst, err := Open(t.Context(), options(dir))
			if tc.want != "" {
				if err == nil {
					_ = inst.Close()
					t.Fatal("it starts")
				}
				if !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := inst.Close(); err != nil {
				t.Error(err)
			}
			if text, err := os.ReadFile(paths.CertificateKey); err != nil || string(text) != key+"\n" {
				t.Errorf("public key %q, %v", text, err)
			}
		})
	}
}

func TestBeginningAnew(t *testing.T) {
	t.Run("nobody was erased", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "data")
		open(t, dir, nil)
		remove(t, dir)
		open(t, dir, func(inst *Installation) {
			if !inst.New {
				t.Error("not new")
			}
		})
	})
	t.Run("another's audit log in the way", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "data")
		mkdir(t, dir)
		mkdir(t, filepath.Join(dir, "audit"))
		write(t, filepath.Join(dir, "audit", "checkpoint"), "x")
		_, err := Open(t.Context(), options(dir))
		if err == nil || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a folder with other things", func(t *testing.T) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "thesis.txt"), "x")
		_, err := Open(t.Context(), options(dir))
		if err == nil || !strings.Contains(err.Error(), "thesis.txt") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a fresh file system", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "data")
		mkdir(t, dir)
		mkdir(t, filepath.Join(dir, "lost+found"))
		open(t, dir, nil)
	})
}

func TestSealed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	o := options(dir)
	o.Passphrase = secret.NewBytes([]byte("correct horse"))
	inst, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !inst.Sealed {
		t.Error("not sealed")
	}
	if err := inst.Close(); err != nil {
		t.Fatal(err)
	}
	if is, err := KeyringSealed(inst.Keyring); err != nil || !is {
		t.Errorf("%v, %v", is, err)
	}
	_, err = Open(t.Context(), options(dir))
	if err == nil || !strings.Contains(err.Error(), "--passphrase-file") || !strings.Contains(err.Error(), "CLOAKROOM_PASSPHRASE_FILE") {
		t.Errorf("without the passphrase: %v", err)
	}
	write(t, inst.Keyring, "CRKR\x02\x01")
	if _, err := KeyringSealed(inst.Keyring); err == nil {
		t.Error("another format is known")
	}
}

// TestPassphraseSealsWhatIsThere gives a passphrase to an installation that began without one.
func TestPassphraseSealsWhatIsThere(t *testing.T) {
	const unsealed, now = "NOT SEALED", "was not sealed and is now"
	dir := filepath.Join(t.TempDir(), "data")
	steps := []struct {
		name, passphrase  string
		sealed, sealedNow bool
		said              string // of those two; "" = none
	}{
		{"begun without", "", false, false, unsealed},
		{"given", "correct horse", true, true, now},
		{"given again", "correct horse", true, false, ""},
	}
	for _, tc := range steps {
		var log strings.Builder
		o := options(dir)
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.Passphrase = secret.NewBytes([]byte(tc.passphrase))
		inst, err := Open(t.Context(), o)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if inst.Sealed != tc.sealed || inst.SealedNow != tc.sealedNow {
			t.Errorf("%s: sealed %v, now %v", tc.name, inst.Sealed, inst.SealedNow)
		}
		if inst.New {
			put(t, inst, "u1")
		}
		if err := inst.Close(); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{inst.Keyring, inst.Keyring + ".mirror"} {
			if is, err := KeyringSealed(file); err != nil || is != tc.sealed {
				t.Errorf("%s: %s: %v, %v", tc.name, file, is, err)
			}
		}
		for _, text := range []string{unsealed, now} {
			if strings.Contains(log.String(), text) != (text == tc.said) {
				t.Errorf("%s: %q is said, or is not, in:\n%s", tc.name, text, log.String())
			}
		}
		if strings.Contains(log.String(), "correct horse") {
			t.Errorf("%s: the passphrase is in the log", tc.name)
		}
	}
	if _, err := Open(t.Context(), options(dir)); err == nil {
		t.Error("opened without the passphrase")
	}
}

func TestPathsOf(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"d", "./d", "d/", here + "/d"} {
		p, err := PathsOf(data)
		if err != nil || p.Keyring != here+"/d.keyring" || p.Ledger != here+"/d.ledger" || p.Backup != here+"/d.backup" {
			t.Errorf("%s: %+v, %v", data, p, err)
		}
	}
	if p, err := PathsOf("."); err != nil || p.Keyring != here+".keyring" {
		t.Errorf("the folder itself: %+v, %v", p, err)
	}
	if _, err := PathsOf("/"); err == nil {
		t.Error("the root folder has nothing beside it")
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
