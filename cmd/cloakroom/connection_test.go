package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyOverrides(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"app", "desk"} {
		if err := os.WriteFile(filepath.Join(dir, name+".key"), []byte("ck_"+name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct{ name, as, environment, want string }{
		{"the command's own", "", "", "ck_app"},
		{"environment", "", "ck_env ", "ck_env"},
		{"--as over the command's own", "desk", "", "ck_desk"},
		{"--as over the environment", "desk", "ck_env", "ck_desk"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := connection{as: tc.as, data: dir}
			got, err := c.key(func(name string) (string, bool) {
				return tc.environment, name == "CLOAKROOM_KEY" && tc.environment != ""
			}, appKey)
			if err != nil || string(got) != tc.want {
				t.Errorf("%q, %v", string(got), err)
			}
		})
	}
}

func TestReadKey(t *testing.T) {
	dir := t.TempDir()
	path := func(name, text string, mode os.FileMode) string {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	cases := []struct{ name, path, want string }{
		{"readable by the group", path("group", "ck_secret", 0o640), "chmod 600"},
		{"readable by all", path("all", "ck_secret", 0o604), "chmod 600"},
		{"empty", path("empty", "", 0o600), "holds no key"},
		{"long", path("long", strings.Repeat("x", 5000), 0o600), "too long"},
		{"a folder", dir, "no regular file"},
		{"missing", filepath.Join(dir, "missing"), "--data"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := readKey(tc.path)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "ck_secret") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	got, err := readKey(path("good", "ck_secret\r\n", 0o400))
	if err != nil || string(got) != "ck_secret" {
		t.Errorf("%q, %v", string(got), err)
	}
}
