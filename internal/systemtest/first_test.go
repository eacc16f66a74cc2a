package systemtest

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// modes lists everything below dir with its mode.
func modes(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		out = append(out, fmt.Sprintf("%v %s", info.Mode(), name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFirstStart(t *testing.T) {
	base := t.TempDir()
	data := filepath.Join(base, "deep", "data")
	s := start(t, data)
	want := []string{
		"drwx------ data",
		"-rw------- data/app.key",
		"drwx------ data/audit",
		"-rw------- data/audit/checkpoint",
		"-rw------- data/audit/entries-0000000000000000.jsonl",
		"-rw-r--r-- data/audit.pub",
		"-rw-r--r-- data/certificate.pub",
		"-rw------- data/cloakroom.db",
		"-rw------- data/officer.key",
		"-rw------- data/operator.key",
		"drwx------ data.backup",
		"-rw------- data.keyring",
		"-rw------- data.keyring.lock",
		"-rw------- data.keyring.mirror",
		"-rw------- data.ledger",
	}
	s.mustWorkInRoles(t, "u1")
	if got := modes(t, filepath.Dir(data)); !slices.Equal(got, want) {
		t.Errorf("the first start made\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := modes(t, base); !slices.Contains(got, "drwx------ deep") {
		t.Errorf("the folder above: %s", got[0])
	}
	app, officer, operator := s.app, s.officer, s.root
	s.mustStop(t)
	s = start(t, data)
	if s.app != app || s.officer != officer || s.root != operator {
		t.Error("the second start changed a credential")
	}
	s.mustWorkInRoles(t, "u2")
	s.mustShow(t, "u1", fields{"phone": "16100000001"})
	s.mustStop(t)
	if got := modes(t, filepath.Dir(data)); !slices.Equal(got, want) {
		t.Errorf("after the second start\n%s", strings.Join(got, "\n"))
	}
	mustVerifyAudit(t, data)
}

// mustWorkInRoles: each of the three credentials can what its role can, and no more.
func (s *server) mustWorkInRoles(t testing.TB, id string) {
	t.Helper()
	token := s.mustPut(t, id, fields{"phone": "16100000001"})["phone"]
	if value, _ := s.mustReveal(t, token); value != "16100000001" {
		t.Errorf("app: %q", value)
	}
	s.mustPut(t, id+"-gone", fields{"phone": "16100000002"})
	s.must(t, 200, s.officer, "DELETE", "/v1/subjects/"+id+"-gone", nil)
	s.must(t, 200, s.officer, "GET", "/v1/erasures", nil)
	s.must(t, 200, s.root, "GET", "/v1/subjects", nil)
	s.must(t, 200, s.root, "GET", "/v1/policy", nil)
	s.must(t, 200, s.root, "GET", "/v1/keys", nil)
	for _, key := range []string{s.app, s.officer} {
		s.mustCode(t, 403, "forbidden", key, "GET", "/v1/subjects", nil)
	}
	for _, key := range []string{s.root, s.officer} {
		s.mustCode(t, 403, "forbidden", key, "PUT", "/v1/subjects/"+id, fields{"phone": "16100000003"}.body())
		s.mustCode(t, 403, "forbidden", key, "POST", "/v1/detokenize", detokenizeBody(token))
	}
}

// TestFirstStartCutShort kills first starts at random moments, some of them twice: the next start always makes a whole
// installation, whose credentials work.
func TestFirstStartCutShort(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	// How long a first start takes here says when it can be cut short.
	begin := time.Now()
	start(t, filepath.Join(t.TempDir(), "data")).mustStop(t)
	whole := time.Since(begin)
	stages := map[int]int{} // files that a killed start had made -> how often
	for range 14 {
		data := filepath.Join(t.TempDir(), "data")
		for range 1 + random.IntN(2) {
			p := launch(t, data)
			time.Sleep(whole/10 + time.Duration(random.Int64N(int64(whole))))
			p.kill()
		}
		stages[len(modes(t, filepath.Dir(data)))]++
		s := start(t, data)
		s.mustWorkInRoles(t, "u1")
		s.mustStop(t)
		for _, line := range modes(t, filepath.Dir(data)) {
			if strings.Contains(line, ".cloakroom-new-") {
				t.Logf("left behind: %s", line)
			}
		}
		mustVerifyAudit(t, data)
	}
	t.Logf("files at the kill: %v; a whole start takes %v", stages, whole)
}
