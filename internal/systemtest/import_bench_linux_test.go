package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/store/bolt/bolttest"
)

// imported is how many people each round of BenchmarkImport imports.
const imported = 20_000

// writePeople makes a table of n people with three fields that are indexed and one that is not.
func writePeople(b *testing.B, n int) string {
	b.Helper()
	var text strings.Builder
	text.WriteString("id,手机号,姓名,邮箱,地址\n")
	for i := range n {
		fmt.Fprintf(&text, "c%d,161%08d,张%s,p%d@example.com,北京市海淀区中关村大街%d号\n", i, i, strings.Repeat("三", i%3+1), i, i)
	}
	path := filepath.Join(b.TempDir(), "people.csv")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// importing runs `cloakroom import` against s and returns how long it took.
func (s *server) importing(b *testing.B, table string) time.Duration {
	b.Helper()
	cmd := exec.Command(program, "import", table, "--subject", "id", "--map", "phone=手机号,name=姓名,email=邮箱,address=地址",
		"--out", filepath.Join(b.TempDir(), "tokens.csv"), "--addr", s.url)
	cmd.Env = append(os.Environ(), "CLOAKROOM_KEY="+s.app)
	begun := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("import: %v\n%s", err, out)
	}
	return time.Since(begun)
}

// BenchmarkImport imports a table with the command line into a fresh server, all over HTTP. In the same round a bare
// bbolt writes rows of the same sizes in transactions of a thousand people; ratio is the import's rate by that loop's.
func BenchmarkImport(b *testing.B) {
	table := writePeople(b, imported)
	for _, kms := range []string{"keyring", "vault"} {
		b.Run(kms, func(b *testing.B) {
			flags := []string{"--log-level", "warn"}
			if kms == "vault" {
				_, flags = benchVault(b)
			}
			data := filepath.Join(b.TempDir(), "one")
			s := start(b, data, flags...)
			s.importing(b, writePeople(b, 1))
			s.mustStop(b)
			shape := bolttest.ShapeOfFile(b, filepath.Join(data, "cloakroom.db"), "subjects", "tokens", "index")
			var rates, raws, ratios, server []float64
			for b.Loop() {
				s := start(b, filepath.Join(b.TempDir(), "data"), flags...)
				took := s.importing(b, table)
				server = append(server, s.held(b, "VmHWM"))
				s.mustStop(b)
				raw := bolttest.Write(b, shape, imported, imported/1000)
				rates, raws = append(rates, imported/took.Seconds()), append(raws, imported/raw.Seconds())
				ratios = append(ratios, raw.Seconds()/took.Seconds())
			}
			median(b, "people/s", rates)
			median(b, "raw-people/s", raws)
			median(b, "ratio", ratios)
			median(b, "server-MiB", server)
		})
	}
}
