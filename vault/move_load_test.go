package vault_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// TestMoveUnderLoad moves all keys there and back while people are stored, read, changed and erased.
func TestMoveUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := vaulttest.Open(t, dir, vaulttest.Options{Other: vaulttest.OtherKeyring, CacheTTL: time.Millisecond})
	const people = 700
	tokens := make([]secret.Text, people)
	for i := 0; i < people; i += 100 {
		items := make([]vault.TokenizeItem, 100)
		for j := range items {
			items[j] = vault.TokenizeItem{Subject: fmt.Sprintf("u%d", i+j), Field: "phone", Value: secret.NewText(phoneOf(i + j))}
		}
		out, err := in.Tokenize(bg, vaulttest.Call("app", ""), items)
		if err != nil {
			t.Fatal(err)
		}
		for j := range out {
			tokens[i+j] = out[j].Token
		}
	}
	for round, req := range []vault.JobRequest{toVault(), toKeyring()} {
		load := newLoad(in, tokens, round)
		load.run(t)
		t.Cleanup(load.stop)
		j := move(t, in, req)
		load.stop()
		if j.Total < people/2 {
			t.Errorf("round %d: the job says %d of %d", round, j.Done, j.Total)
		}
		scheme, kms := [2]string{"local", "vault"}[round], [2]string{"vault-transit", "local-file"}[round]
		if !withoutScheme(t, in, scheme) {
			t.Errorf("round %d: keys of the scheme %s are left", round, scheme)
		}
		if s, err := in.KeyStatus(bg, operator); err != nil || s.KMS != kms || s.Move != nil {
			t.Errorf("round %d: %+v, %v", round, s, err)
		}
		shut(t, in)
		alone, err := only(dir, round == 0)
		if err != nil {
			t.Fatalf("round %d: with the new key service alone: %v", round, err)
		}
		load.check(t, alone)
		shut(t, alone)
		in = vaulttest.Open(t, dir, vaulttest.Options{Other: vaulttest.OtherKeyring, CacheTTL: time.Millisecond})
	}
}

func phoneOf(i int) string { return fmt.Sprintf("138%08d", i) }

// load reads, changes, erases and stores people until it is stopped, and knows afterwards what must be.
type load struct {
	in     *vaulttest.Installation
	tokens []secret.Text
	round  int
	stop   func()

	mu     sync.Mutex
	erased map[int]bool // index into tokens
	fresh  map[string]secret.Text
}

func newLoad(in *vaulttest.Installation, tokens []secret.Text, round int) *load {
	return &load{in: in, tokens: tokens, round: round, erased: map[int]bool{}, fresh: map[string]secret.Text{}}
}

func (l *load) run(t *testing.T) {
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(bg)
	l.stop = func() { cancel(); all.Wait() }
	again := func(fn func(n int)) {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				fn(n)
			}
		})
	}
	app := vaulttest.Call("app", "service")
	quarter := len(l.tokens) / 4
	again(func(n int) { // reads: the first quarter, which nobody changes
		i := n % quarter
		if got, err := reveal(t, l.in, l.tokens[i]); err != nil || got != phoneOf(i) {
			t.Errorf("a token opens to %q, %v", got, err)
		}
	})
	again(func(n int) { // changes: the second quarter; one person again and again
		i := quarter
		if n%2 == 0 {
			i += n / 2 % quarter
		}
		_, err := l.in.Put(bg, app, vault.PutRequest{Subject: fmt.Sprintf("u%d", i), Fields: vaulttest.Fields("text", fmt.Sprint(n))})
		if err != nil {
			t.Errorf("a change: %v", err)
		}
	})
	first := 2*quarter + l.round*quarter
	again(func(n int) { // erases: the third quarter, in the second round the fourth
		if n >= quarter {
			time.Sleep(time.Millisecond)
			return
		}
		if _, err := l.in.Erase(bg, app, fmt.Sprintf("u%d", first+n)); err != nil {
			t.Errorf("an erasure: %v", err)
		}
		l.mu.Lock()
		l.erased[first+n] = true
		l.mu.Unlock()
	})
	for w := range 2 {
		again(func(n int) { // stores
			id := fmt.Sprintf("new-%d-%d-%d", l.round, w, n)
			out, err := l.in.Put(bg, app, vault.PutRequest{Subject: id, Fields: vaulttest.Fields("phone", phoneOf(n))})
			if err != nil {
				t.Errorf("a new person: %v", err)
				return
			}
			l.mu.Lock()
			l.fresh[fmt.Sprintf("%s %s", id, phoneOf(n))] = out.Tokens[0].Token
			l.mu.Unlock()
		})
	}
}

// check reads everybody through one vault.
func (l *load) check(t *testing.T, in *vaulttest.Installation) {
	t.Helper()
	for i, token := range l.tokens {
		before := l.round == 1 && i >= len(l.tokens)/2 && i < 3*len(l.tokens)/4 // erased in the first round, or not reached then
		got, err := reveal(t, in, token)
		switch {
		case l.erased[i] && (err == nil || err.Code != "subject_erased"):
			t.Errorf("the erased %d answers %q, %v", i, got, err)
		case !l.erased[i] && !before && (err != nil || got != phoneOf(i)):
			t.Errorf("%d answers %q, %v", i, got, err)
		}
	}
	for name, token := range l.fresh {
		_, phone, _ := strings.Cut(name, " ")
		if got, err := reveal(t, in, token); err != nil || got != phone {
			t.Errorf("%s answers %q, %v", name, got, err)
		}
	}
	if len(l.erased) == 0 || len(l.fresh) == 0 {
		t.Errorf("%d erased and %d stored meanwhile: the load did nothing", len(l.erased), len(l.fresh))
	}
}
