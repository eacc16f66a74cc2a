package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// outputsIn is what files a folder has, and what is in those of an import.
func outputsIn(t *testing.T, dir string) (names []string, out, errs, progress string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	read := func(suffix string) string {
		text, err := os.ReadFile(filepath.Join(dir, "out.csv"+suffix))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(text)
	}
	return names, read(""), read(errorsSuffix), read(progressSuffix)
}

// What --force gives up is there until the server has answered of a row, whatever goes wrong before.
func TestImportForce(t *testing.T) {
	fine := func(row wire.ImportRow, line int64) (wire.ImportResult, bool) { return tokensOf(row, line), true }
	refuses := func(_ wire.ImportRow, line int64) (wire.ImportResult, bool) {
		return wire.ImportResult{Line: line, Error: &wire.ItemError{Code: wire.UnknownField, Field: "phone"}}, true
	}
	bad := func(_ wire.ImportRow, line int64) (wire.ImportResult, bool) {
		return wire.ImportResult{Line: line, Error: &wire.ItemError{Code: wire.InvalidValue, Field: "phone"}}, true
	}
	cases := []struct {
		name   string
		in     string
		answer func(wire.ImportRow, int64) (wire.ImportResult, bool)
		old    bool // the old outputs stay
		resume bool // there is a progress file of the new ones
	}{
		{"done", "u1,1,a\n", fine, false, false},
		{"done, all bad without the server", "u1\n", fine, false, false},
		{"refused", "u1,1,a\n", refuses, true, false},
		{"refused behind a bad row", "ragged\nu1,1,a\n", refuses, true, false},
		{"a bad value, and then a fault", "u1,1,a\nu2,2,a\n", func(row wire.ImportRow, line int64) (wire.ImportResult, bool) {
			if line == 1 {
				return bad(row, line)
			}
			return refuses(row, line)
		}, false, true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out.csv")
			// newSuffix: left by a run that was killed.
			for _, suffix := range []string{"", errorsSuffix, progressSuffix, newSuffix, errorsSuffix + newSuffix} {
				if err := os.WriteFile(path+suffix, []byte("old"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			rows, err := newTableRows(&importInput{Reader: strings.NewReader("id,tel,note\n" + tc.in), path: "-"}, testPlan)
			if err != nil {
				t.Fatal(err)
			}
			files, err := makeFiles(path, importProgress{Version: 1, Input: "-", Size: -1, Plan: testPlan}, true)
			if err != nil {
				t.Fatal(err)
			}
			if _, out, errs, progress := outputsIn(t, dir); out+errs+progress != "oldoldold" {
				t.Error("the old outputs are gone before the import has begun")
			}
			var said strings.Builder
			p := &program{now: time.Now, out: &said, err: &said}
			r := &importRun{rows: rows, files: files, store: answering(tc.answer), fresh: true, bar: p.importBar(-1, 0), watch: newImportWatch(nil, time.Now)}
			failed := p.runImport(t.Context(), p.importCommand(), r)
			names, out, errs, progress := outputsIn(t, dir)
			if tc.old {
				if failed == nil || out+errs+progress != "oldoldold" || len(names) != 3 {
					t.Errorf("%v; left are %s: %q %q %q", failed, names, out, errs, progress)
				}
				return
			}
			if !strings.HasPrefix(out, "id,note,phone\n") || strings.Contains(errs+progress, "old") || (progress != "") != tc.resume {
				t.Errorf("%v; left are %s: %q %q %q", failed, names, out, errs, progress)
			}
			if slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, newSuffix) }) {
				t.Errorf("left are %s", names)
			}
		})
	}
	if _, err := makeFiles(t.TempDir(), importProgress{}, true); err == nil {
		t.Error("a folder is written over")
	}
}

// A run that is killed while it writes the progress file leaves one file, and the next run takes its name.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "x.progress"), filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("another's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, path+".tmp"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		if err := replaceFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
		if err := os.WriteFile(path+".tmp", []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(other); err != nil || string(got) != "another's" {
		t.Errorf("%q, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 3 {
		t.Errorf("%d files, %v", len(all), err)
	}
}
