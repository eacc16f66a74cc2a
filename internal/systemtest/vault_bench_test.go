package systemtest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/keys/transit/transittest"
)

// Each round of these benchmarks measures both sides one after the other for a second each; what is reported is the
// median over the rounds, so run them with -benchtime 7x.
const (
	callers  = 16
	oneTurn  = time.Second
	subjects = 4000
)

// rate returns how many things per second callers get done. turn does some and says how many.
func rate(b *testing.B, n int, turn func(worker int) (int, error)) float64 {
	b.Helper()
	var done atomic.Int64
	begun := time.Now()
	crowd(n, func(worker int) {
		for time.Since(begun) < oneTurn {
			n, err := turn(worker)
			if err != nil {
				b.Error(err)
				return
			}
			done.Add(int64(n))
		}
	})
	return float64(done.Load()) / time.Since(begun).Seconds()
}

// median reports the middle of all rounds under a name.
func median(b *testing.B, name string, rounds []float64) {
	slices.Sort(rounds)
	b.ReportMetric(rounds[len(rounds)/2], name)
}

// versus runs both sides in turn and reports the rates and their ratio.
func versus(b *testing.B, unit string, ours, theirs func() float64) {
	b.Helper()
	ours() // warm up: connections, and the pool of ready keys
	theirs()
	var a, z, ratio []float64
	for b.Loop() {
		x, y := ours(), theirs()
		a, z, ratio = append(a, x), append(z, y), append(ratio, x/y)
	}
	median(b, unit+"/s", a)
	median(b, "yardstick-"+unit+"/s", z)
	median(b, "ratio", ratio)
}

// benchVault runs a Vault without an audit device, and returns the flags of a server that uses it.
func benchVault(b *testing.B) (*transittest.Server, []string) {
	b.Helper()
	v := transittest.Start(b, transittest.Options{NoAudit: true})
	b.Setenv("VAULT_TOKEN", v.Root)
	return v, []string{"--kms", "transit", "--vault-addr", v.URL, "--log-level", "warn"}
}

// people puts n subjects and returns a token of each.
func (s *server) people(b *testing.B, n int) []string {
	b.Helper()
	tokens := make([]string, n)
	mustAll(b, n, func(i int) error {
		a, err := s.call(s.app, "PUT", fmt.Sprintf("/v1/subjects/u%d", i), fields{"phone": fmt.Sprint(16100000000 + i)}.body())
		if err != nil {
			return err
		}
		var p put
		err = json.Unmarshal(a.body, &p)
		tokens[i] = p.Tokens["phone"]
		return err
	})
	return tokens
}

// detokenizing is a turn that opens n tokens of n people.
func (s *server) detokenizing(tokens []string, n int) func(int) (int, error) {
	return func(int) (int, error) {
		at := mathrand.IntN(len(tokens) - n + 1)
		a, err := s.call(s.app, "POST", "/v1/detokenize", detokenizeBody(tokens[at:at+n]...))
		if err == nil && (a.status != 200 || bytes.Contains(a.body, []byte(`"error"`))) {
			err = fmt.Errorf("detokenize: %d %.300s", a.status, a.body)
		}
		return n, err
	}
}

// BenchmarkVaultCold opens 100 tokens at a time with nothing cached, against the bare Transit batch decrypt of as many
// keys as a client can send without looking at the answers.
func BenchmarkVaultCold(b *testing.B) {
	v, flags := benchVault(b)
	s := start(b, filepath.Join(b.TempDir(), "data"), append(flags, "--cache-ttl", "1ms")...)
	ours := s.detokenizing(s.people(b, subjects), 100)
	for _, size := range []int{100, 500} {
		b.Run(fmt.Sprintf("raw-batches-of-%d", size), func(b *testing.B) {
			raw := rawDecrypt(b, v, size)
			versus(b, "keys", func() float64 { return rate(b, callers, ours) }, func() float64 { return rate(b, callers, raw) })
		})
	}
}

// rawDecrypt is a turn that has one fixed batch decrypted.
func rawDecrypt(b *testing.B, v *transittest.Server, size int) func(int) (int, error) {
	b.Helper()
	name := fmt.Sprintf("raw-%d", size)
	v.Do(b, "POST", "/v1/transit/keys/"+name, map[string]any{"type": "aes256-gcm96", "derived": true})
	type item struct {
		Plaintext  string `json:"plaintext,omitzero"`
		Ciphertext string `json:"ciphertext,omitzero"`
		Context    string `json:"context"`
	}
	items := make([]item, size)
	for i := range items {
		random := make([]byte, 32+50)
		_, _ = rand.Read(random)
		items[i] = item{Plaintext: base64.StdEncoding.EncodeToString(random[:32]), Context: base64.StdEncoding.EncodeToString(random[32:])}
	}
	answer := v.Do(b, "POST", "/v1/transit/encrypt/"+name, map[string]any{"batch_input": items})
	for i, r := range answer["data"].(map[string]any)["batch_results"].([]any) {
		items[i].Plaintext, items[i].Ciphertext = "", r.(map[string]any)["ciphertext"].(string)
	}
	body, err := json.Marshal(map[string]any{"batch_input": items})
	if err != nil {
		b.Fatal(err)
	}
	client := newClient()
	b.Cleanup(client.CloseIdleConnections)
	return func(int) (int, error) {
		req, err := http.NewRequest("POST", v.URL+"/v1/transit/decrypt/"+name, bytes.NewReader(body))
		if err != nil {
			return 0, err
		}
		req.Header.Set("X-Vault-Token", v.Root)
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		defer func() { _ = resp.Body.Close() }()
		_, err = io.Copy(io.Discard, resp.Body)
		if err == nil && resp.StatusCode != 200 {
			err = fmt.Errorf("raw decrypt: %d", resp.StatusCode)
		}
		return size, err
	}
}

// beside runs a server on the keyring file next to one on Vault.
func beside(b *testing.B) (onVault, onKeyring *server) {
	_, flags := benchVault(b)
	return start(b, filepath.Join(b.TempDir(), "vault"), flags...), start(b, filepath.Join(b.TempDir(), "keyring"), "--log-level", "warn")
}

// BenchmarkVaultPut puts people who are new, with Vault and with the keyring file.
func BenchmarkVaultPut(b *testing.B) {
	onVault, onKeyring := beside(b)
	var next atomic.Int64
	putting := func(s *server) func() float64 {
		return func() float64 {
			return rate(b, 64, func(int) (int, error) {
				n := next.Add(1)
				a, err := s.call(s.app, "PUT", fmt.Sprintf("/v1/subjects/u%d", n), fields{"phone": fmt.Sprint(16100000000 + n), "name": "张三"}.body())
				if err == nil && a.status != 201 {
					err = fmt.Errorf("put: %d %s", a.status, a.body)
				}
				return 1, err
			})
		}
	}
	versus(b, "people", putting(onVault), putting(onKeyring))
}

// BenchmarkVaultWarm opens single tokens of people whose keys are cached, with Vault and with the keyring file.
func BenchmarkVaultWarm(b *testing.B) {
	onVault, onKeyring := beside(b)
	warm := func(s *server) func() float64 {
		turn := s.detokenizing(s.people(b, 1000), 1)
		return func() float64 { return rate(b, 64, turn) }
	}
	versus(b, "tokens", warm(onVault), warm(onKeyring))
}
