package local

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloakroom-io/cloakroom/keys"
)

func TestOpenWithoutKeyring(t *testing.T) {
	path := newPath(t)
	opt := options("", nil)
	opt.Create = false
	_, err := Open(path, opt)
	if !errors.Is(err, ErrNoKeyring) || !strings.Contains(err.Error(), path) {
		t.Fatalf("open: %v, want ErrNoKeyring that names the path", err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	if len(entries) != 0 {
		t.Fatalf("a refused open left %v", entries)
	}
}

func TestOpenAgainKeepsEverything(t *testing.T) {
	for _, s := range sealings {
		t.Run(s.name, func(t *testing.T) {
			path := newPath(t)
			k := ready(t, path, s.passphrase)
			w := canary(t, k, keys.DEKKey)
			must(t, k.Rotate(t.Context(), keys.DEKKey))
			closeRing(t, k)
			if err := sing(t, k, keys.DEKKey, w); !errors.Is(err, keys.ErrKMSUnavailable) {
				t.Fatalf("closed keyring: %v", err)
			}
			opt := options(s.passphrase, nil)
			opt.Create = false
			k, err := Open(path, opt)
			must(t, err)
			defer closeRing(t, k)
			must(t, sing(t, k, keys.DEKKey, w))
			wantLatest(t, k, keys.DEKKey, 2)
			if k.Sealed() != (s.passphrase != "") {
				t.Fatalf("sealed = %t", k.Sealed())
			}
		})
	}
}

func TestUnsealedWarnsAtEveryOpen(t *testing.T) {
	path := newPath(t)
	for range 2 {
		var log bytes.Buffer
		k, err := Open(path, options("", &log))
		must(t, err)
		closeRing(t, k)
		if !strings.Contains(log.String(), "NOT SEALED") {
			t.Fatalf("log: %s", log.String())
		}
	}
	var log bytes.Buffer
	k, err := Open(newPath(t), options("p", &log))
	must(t, err)
	closeRing(t, k)
	if log.Len() != 0 {
		t.Fatalf("a sealed keyring logged %s", log.String())
	}
}

func TestPassphrase(t *testing.T) {
	path := newPath(t)
	k := ready(t, path, "first")
	w := canary(t, k, keys.RootKey)
	closeRing(t, k)
	for _, wrong := range []string{"", "First", "first\n"} {
		if _, err := Open(path, options(wrong, nil)); !errors.Is(err, ErrPassphrase) {
			t.Fatalf("passphrase %q: %v", wrong, err)
		}
	}
	k = openAt(t, path, "first")
	must(t, k.SetPassphrase(passphrase("second")))
	must(t, sing(t, k, keys.RootKey, w), k.Rotate(t.Context(), keys.RootKey))
	closeRing(t, k)
	if _, err := Open(path, options("first", nil)); !errors.Is(err, ErrPassphrase) {
		t.Fatalf("old passphrase: %v", err)
	}
	must(t, os.Remove(path)) // the mirror is sealed anew, too
	if _, err := Open(path, options("first", nil)); !errors.Is(err, ErrPassphrase) {
		t.Fatalf("old passphrase on the mirror: %v", err)
	}
	k = openAt(t, path, "second")
	must(t, sing(t, k, keys.RootKey, w))
	wantLatest(t, k, keys.RootKey, 2)
}

func TestPassphraseLimits(t *testing.T) {
	long := strings.Repeat("p", maxPassphrase+1)
	if _, err := Open(newPath(t), options(long, nil)); !errors.Is(err, ErrRequest) {
		t.Fatalf("open: %v", err)
	}
	k := openAt(t, newPath(t), "")
	for _, bad := range []string{"", long} {
		if err := k.SetPassphrase(passphrase(bad)); !errors.Is(err, ErrRequest) {
			t.Fatalf("passphrase of %d bytes: %v", len(bad), err)
		}
	}
	for _, bad := range []Cost{{1, 7, 1}, {0, 8, 1}, {17, 8, 1}, {1, 8, 0}, {1, 1 << 20, 17}, {1, 1<<20 + 1, 1}} {
		opt := options("p", nil)
		opt.Cost = bad
		if _, err := Open(newPath(t), opt); !errors.Is(err, ErrRequest) {
			t.Fatalf("cost %+v: %v", bad, err)
		}
	}
}

func TestSealingAnUnsealedKeyring(t *testing.T) {
	path := newPath(t)
	k := ready(t, path, "")
	raw := material(k, keys.DEKKey)[1]
	if !bytes.Contains(read(t, path), raw) {
		t.Fatal("the test looks for the wrong bytes")
	}
	must(t, k.SetPassphrase(passphrase("p")))
	if !k.Sealed() {
		t.Fatal("not sealed")
	}
	wantNowhere(t, filepath.Dir(path), raw)
	closeRing(t, k)
	if _, err := Open(path, options("", nil)); !errors.Is(err, ErrPassphrase) {
		t.Fatalf("open without passphrase: %v", err)
	}
}

// wantNowhere scans all files of dir for a key, raw, in base64 or in hex.
func wantNowhere(t *testing.T, dir string, key []byte) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content := read(t, path)
		for _, form := range [][]byte{
			key,
			[]byte(hex.EncodeToString(key)),
			[]byte(base64.StdEncoding.EncodeToString(key)[:40]),
		} {
			if bytes.Contains(bytes.ToLower(content), bytes.ToLower(form)) {
				t.Errorf("%s holds a key that must not be there", path)
			}
		}
		return nil
	}))
}

func TestSealedFileShowsNoKey(t *testing.T) {
	path := newPath(t)
	k := ready(t, path, "p")
	must(t, k.Rotate(t.Context(), keys.DEKKey))
	for _, name := range []keys.KeyName{keys.RootKey, keys.DEKKey} {
		for _, m := range material(k, name) {
			wantNowhere(t, filepath.Dir(path), m)
		}
	}
	wantNowhere(t, filepath.Dir(path), k.seal.key.Reveal())
}

func TestPermissions(t *testing.T) {
	path := newPath(t)
	closeRing(t, ready(t, path, ""))
	for _, file := range []string{path, path + ".mirror"} {
		info, err := os.Stat(file)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Fatalf("%s has mode %v", file, info.Mode())
		}
		for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
			must(t, os.Chmod(file, mode))
			_, err := Open(path, options("", nil))
			if !errors.Is(err, ErrPermissions) || !strings.Contains(err.Error(), "chmod 600 "+file) {
				t.Fatalf("%s with mode %v: %v", file, mode, err)
			}
		}
		must(t, os.Chmod(file, 0o600))
	}
	closeRing(t, openAt(t, path, ""))
}

func TestLock(t *testing.T) {
	path := newPath(t)
	k := openAt(t, path, "")
	if _, err := Open(path, options("", nil)); !errors.Is(err, ErrLocked) {
		t.Fatalf("second open: %v", err)
	}
	closeRing(t, k)
	closeRing(t, openAt(t, path, ""))
}

func TestFailedOpenReleasesLock(t *testing.T) {
	path := newPath(t)
	closeRing(t, ready(t, path, "right"))
	for range 2 {
		if _, err := Open(path, options("wrong", nil)); !errors.Is(err, ErrPassphrase) {
			t.Fatal(err)
		}
	}
}

func TestSymbolicLinks(t *testing.T) {
	dir, disk := t.TempDir(), t.TempDir()
	path, real := filepath.Join(dir, "data.keyring"), filepath.Join(disk, "real")
	farMirror := filepath.Join(t.TempDir(), "far")
	closeRing(t, ready(t, real, ""))
	must(t, os.Symlink(real, path))
	must(t, os.Rename(real+".mirror", farMirror), os.Symlink(farMirror, real+".mirror"))
	k := openAt(t, path, "")
	old := material(k, keys.RootKey)[1]
	ctx := t.Context()
	must(t, k.Rotate(ctx, keys.RootKey), k.RaiseMinima(ctx, keys.RootKey, 2), k.Trim(ctx, keys.RootKey, 2))
	for _, d := range []string{dir, disk, filepath.Dir(farMirror)} {
		wantNowhere(t, d, old)
		if !k.Inside(d) == (d != dir) {
			t.Errorf("inside %s = %t", d, k.Inside(d))
		}
	}
	if !bytes.Equal(read(t, real), read(t, farMirror)) {
		t.Error("mirror differs")
	}
}

func TestMirrorLinkedToKeyring(t *testing.T) {
	path := newPath(t)
	closeRing(t, openAt(t, path, ""))
	must(t, os.Remove(path+".mirror"), os.Symlink(path, path+".mirror"))
	if _, err := Open(path, options("", nil)); !errors.Is(err, ErrRequest) {
		t.Fatal(err)
	}
}

func TestInside(t *testing.T) {
	base := t.TempDir()
	data, sub, other := filepath.Join(base, "data"), filepath.Join(base, "data", "sub"), filepath.Join(base, "other")
	link := filepath.Join(base, "link")
	must(t, os.MkdirAll(sub, 0o700), os.Mkdir(other, 0o700), os.Symlink(data, link))
	for name, c := range map[string]struct {
		keyring, dir string
		want         bool
	}{
		"beside":           {data + ".keyring", data, false},
		"in it":            {filepath.Join(data, "k"), data, true},
		"below":            {filepath.Join(sub, "k"), data, true},
		"through a link":   {filepath.Join(link, "k"), data, true},
		"asked by a link":  {filepath.Join(data, "k2"), link, true},
		"above":            {filepath.Join(data, "k3"), sub, false},
		"elsewhere":        {filepath.Join(other, "k"), data, false},
		"folder not there": {filepath.Join(other, "k2"), filepath.Join(base, "nothing"), true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := openAt(t, c.keyring, "").Inside(c.dir); got != c.want {
				t.Fatalf("inside = %t", got)
			}
		})
	}
}

func TestUnfinishedWriteIsRemoved(t *testing.T) {
	path := newPath(t)
	closeRing(t, ready(t, path, ""))
	for _, tmp := range []string{path + ".new", path + ".mirror.new"} {
		write(t, tmp, []byte("keys of an unfinished write"))
	}
	closeRing(t, openAt(t, path, ""))
	for _, tmp := range []string{path + ".new", path + ".mirror.new"} {
		if !absent(tmp) {
			t.Errorf("%s is still there", tmp)
		}
	}
}

func TestNotAFile(t *testing.T) {
	path := newPath(t)
	must(t, os.Mkdir(path, 0o700))
	if _, err := Open(path, options("", nil)); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
}
