package shell

import (
	"os/exec"
	"testing"
)

// TestQuote holds each word to what a real shell makes of it.
func TestQuote(t *testing.T) {
	cases := []struct{ name, in, want string }{
		{"plain", "https://vault.example:8200/a_b-c.d%20+e,f=g@h", "https://vault.example:8200/a_b-c.d%20+e,f=g@h"},
		{"empty", "", "''"},
		{"space", "my data", "'my data'"},
		{"quotes", `it's "so"`, `'it'\''s "so"'`},
		{"only quotes", "''", `''\'''\'''`},
		{"variable", "$HOME/data", "'$HOME/data'"},
		{"command", "a$(echo b)`echo c`", "'a$(echo b)`echo c`'"},
		{"home", "~/data", "'~/data'"},
		{"pattern", "*?[a]{b,c}", "'*?[a]{b,c}'"},
		{"end of a command", "a;b&c|d>e<f(g)#h!i", "'a;b&c|d>e<f(g)#h!i'"},
		{"backslash", `a\b`, `'a\b'`},
		{"lines", "a\nb\n", "'a\nb\n'"},
		{"letters of others", "数据", "'数据'"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got := Quote(tc.in)
			if got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
			out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "printf '%s|' "+got).Output()
			if err != nil || string(out) != tc.in+"|" {
				t.Errorf("a shell reads %q, %v", out, err)
			}
		})
	}
}
