package vault_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/vault"
	"github.com/cloakroom-io/cloakroom/vault/vaulttest"
)

// stuckKMS answers no question about data keys while it is stuck, and tells how many wait.
type stuckKMS struct {
	keys.KMS
	stuck   atomic.Bool
	waiting chan struct{} // one for each that begins to wait
	letGo   chan struct{}
	wraps   atomic.Int32 // calls
}

func newStuckKMS(k keys.KMS) *stuckKMS {
	return &stuckKMS{KMS: k, waiting: make(chan struct{}, 100), letGo: make(chan struct{})}
}

func (k *stuckKMS) wait() {
	if k.stuck.Load() {
		k.waiting <- struct{}{}
		<-k.letGo
	}
}

func (k *stuckKMS) Unwrap(ctx context.Context, key keys.KeyName, items []keys.UnwrapItem) ([]keys.Outcome, error) {
	k.wait()
	return k.KMS.Unwrap(ctx, key, items)
}

func (k *stuckKMS) Wrap(ctx context.Context, key keys.KeyName, version int, items []keys.WrapItem) ([]keys.Outcome, error) {
	k.wraps.Add(1)
	k.wait()
	return k.KMS.Wrap(ctx, key, version, items)
}

// neighbour is a subject id in the bucket of another.
func neighbour(in *vaulttest.Installation, id string) string {
	h := vault.HierarchyOf(in.Unlocked)
	for i := 0; ; i++ {
		if other := fmt.Sprintf("neighbour-%d", i); h.SID(other).Bucket() == h.SID(id).Bucket() {
			return other
		}
	}
}

// TestNobodyQueuesBehindTheKeyService: while one writer of a bucket waits for a key, another whose key is at hand, and
// everything that needs no key, goes on; and whoever has left did not wait in vain for others.
func TestNobodyQueuesBehindTheKeyService(t *testing.T) {
	t.Parallel()
	app := vaulttest.Call("app", "service")
	for _, c := range []struct {
		name  string
		write func(v *vaulttest.Installation, id string, once secret.Text) error
	}{
		{"put", func(v *vaulttest.Installation, id string, _ secret.Text) error {
			_, err := v.Put(bg, app, vault.PutRequest{Subject: id, Fields: vaulttest.Fields("name", "张三")})
			return err
		}},
		{"put of somebody new", func(v *vaulttest.Installation, id string, _ secret.Text) error {
			_, err := v.Put(bg, app, vault.PutRequest{Subject: id, Recreate: true, Fields: vaulttest.Fields("name", "张三")})
			return err
		}},
		{"patch", func(v *vaulttest.Installation, id string, _ secret.Text) error {
			_, err := v.Patch(bg, app, vault.PutRequest{Subject: id, Fields: vaulttest.Fields("name", "张三")})
			return err
		}},
		{"tokenize", func(v *vaulttest.Installation, id string, _ secret.Text) error {
			out, err := v.Tokenize(bg, app, []vault.TokenizeItem{{Subject: id, Field: "name", Value: secret.NewText("张三")}})
			if err == nil && out[0].Err != nil {
				err = out[0].Err
			}
			return err
		}},
		{"get", func(v *vaulttest.Installation, id string, _ secret.Text) error {
			_, err := v.Get(bg, app, vault.GetRequest{Subject: id})
			return err
		}},
		{"single use", func(v *vaulttest.Installation, _ string, once secret.Text) error {
			got, err := reveal(t, v, once)
			if err == nil && got != "13800138000" {
				t.Errorf("a token that opens once answers %q", got)
			}
			if err != nil {
				return err
			}
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			clock := newClock()
			var kms *stuckKMS
			v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{Now: clock.now, KMS: func(k keys.KMS) keys.KMS { kms = newStuckKMS(k); return kms }})
			slow := "u1"
			quick := neighbour(v, slow)
			old := put(t, v, slow, "phone", "13800138000", "text", "text")
			once := mint(t, v, vault.TokenizeItem{Subject: slow, Field: "phone", Value: secret.NewText("13800138000"), SingleUse: true})
			if c.name == "put of somebody new" {
				erase(t, v, slow)
			}
			clock.move(61 * time.Second) // the first one's key is no longer at hand
			token := put(t, v, quick, "phone", "13900139000")["phone"]
			kms.stuck.Store(true)
			wrote := make(chan error, 1)
			go func() { wrote <- c.write(v, slow, once) }()
			<-kms.waiting
			put(t, v, quick, "name", "李四")
			if got, err := reveal(t, v, token); err != nil || got != "13900139000" {
				t.Errorf("the neighbour's token: %v", err)
			}
			if c.name != "put of somebody new" {
				if _, err := v.EraseField(bg, app, slow, "text"); err != nil {
					t.Errorf("erasing a field: %v", err)
				}
				if _, err := v.Revoke(bg, app, []secret.Text{old["phone"]}); err != nil {
					t.Errorf("revoking: %v", err)
				}
			}
			erase(t, v, quick)
			select {
			case <-wrote:
				t.Error("the write did not wait for the key service: the test shows nothing")
			default:
			}
			kms.stuck.Store(false)
			close(kms.letGo)
			if err := <-wrote; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNobodyQueuesBehindASecondTry: a change that another process undoes gives its turn back before it fetches the key
// that it needs now.
func TestNobodyQueuesBehindASecondTry(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	kms := newStuckKMS(in.Keyring)
	before := &beforeUpdate{Store: in.Store}
	v := another(t, in, func(c *vault.Config) { c.Store, c.KMS = before, keys.NewServices(kms) })
	quick := neighbour(in, "u1")
	put(t, v, "u1", "phone", "13800138000")
	put(t, v, quick, "phone", "13900139000")
	before.do = func() { // the turn is held here; another process makes the subject anew, with another key
		erase(t, in, "u1")
		if _, err := in.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Recreate: true, Fields: vaulttest.Fields("phone", "13800138000")}); err != nil {
			t.Error(err)
		}
		kms.stuck.Store(true)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := v.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Fields: vaulttest.Fields("name", "张三")})
		wrote <- err
	}()
	<-kms.waiting
	ctx, cancel := context.WithTimeout(bg, time.Minute) // only so that a turn that is held is not waited for until the tests' own end
	defer cancel()
	if _, err := v.Put(ctx, vaulttest.Call("app", ""), vault.PutRequest{Subject: quick, Fields: vaulttest.Fields("name", "李四")}); err != nil {
		t.Errorf("the neighbour: %v", err)
	}
	select {
	case <-wrote:
		t.Error("the write did not wait for the key service: the test shows nothing")
	default:
	}
	kms.stuck.Store(false)
	close(kms.letGo)
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

// TestOneKeyForAllTries: a change that another process undoes does not make a new data key at each try.
func TestOneKeyForAllTries(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	kms := newStuckKMS(in.Keyring)
	before := &beforeUpdate{Store: in.Store}
	v := another(t, in, func(c *vault.Config) { c.Store, c.KMS = before, keys.NewServices(kms) })
	before.do = func() { // another process makes the subject and erases it: it is absent again, and not as it was
		put(t, in, "u1", "phone", "13800138000")
		erase(t, in, "u1")
	}
	_, err := v.Put(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Recreate: true, Fields: vaulttest.Fields("phone", "13900139000")})
	if err != nil {
		t.Fatal(err)
	}
	if n := kms.wraps.Load(); n != 1 || before.do != nil {
		t.Errorf("%d wraps for one new person", n)
	}
}

// TestWritersTakeTurns: writers of one process who meet at one subject queue up; none is tried, and logged, twice.
func TestWritersTakeTurns(t *testing.T) {
	t.Parallel()
	v := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	put(t, v, "u1", "phone", "13800138000")
	from := v.Log.Size()
	var all sync.WaitGroup
	const writers = 24
	for i := range writers {
		all.Go(func() {
			fields := vaulttest.Fields("text", fmt.Sprint(i))
			if i%3 == 0 {
				fields = []vault.FieldInput{{Field: "phone", Remove: true}}
			}
			if _, err := v.Patch(bg, vaulttest.Call("app", ""), vault.PutRequest{Subject: "u1", Fields: fields}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := v.Log.Size() - from; n != writers {
		t.Errorf("%d writers left %d entries in the log", writers, n)
	}
}

// TestReadyAsksSeldom: however many ask whether the server is ready, the key service is asked once a second, and
// nobody waits longer than they want to.
func TestReadyAsksSeldom(t *testing.T) {
	t.Parallel()
	in := vaulttest.Open(t, t.TempDir(), vaulttest.Options{})
	clock := newClock()
	kms := &askedKMS{KMS: in.Keyring, asked: make(chan struct{}, 1000), letGo: make(chan struct{})}
	v := another(t, in, func(c *vault.Config) { c.KMS, c.Now = keys.NewServices(kms), clock.now })
	kmsPart := func(ctx context.Context) error {
		for _, p := range v.Ready(ctx) {
			if p.Name == "kms" {
				return p.Err
			}
		}
		return errors.New("no such part")
	}
	for range 50 {
		if err := kmsPart(bg); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(kms.asked); n != 1 {
		t.Errorf("50 questions in no time asked the key service %d times", n)
	}
	clock.move(time.Second)
	kms.hang.Store(true)
	short, cancel := context.WithCancel(bg)
	got := make(chan error, 20)
	for range 10 {
		go func() { got <- kmsPart(short) }()
	}
	for len(kms.asked) < 2 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	for range 10 {
		if err := <-got; !errors.Is(err, keys.ErrKMSUnavailable) {
			t.Errorf("who leaves is told %v", err)
		}
	}
	for range 10 {
		go func() { got <- kmsPart(bg) }()
	}
	kms.say = fmt.Errorf("%w: sealed", keys.ErrKMSUnavailable)
	close(kms.letGo)
	for range 10 {
		if err := <-got; !errors.Is(err, keys.ErrKMSUnavailable) || err.Error() != "the keyring file: key service unavailable: sealed" {
			t.Errorf("who waits is told %v", err)
		}
	}
	if n := len(kms.asked); n != 2 {
		t.Errorf("the key service was asked %d times", n)
	}
}

// askedKMS counts questions for versions, and can hold them.
type askedKMS struct {
	keys.KMS
	hang  atomic.Bool
	asked chan struct{}
	letGo chan struct{}
	say   error
}

func (k *askedKMS) Versions(ctx context.Context, key keys.KeyName) (keys.Versions, error) {
	k.asked <- struct{}{}
	if k.hang.Load() {
		<-k.letGo
		return keys.Versions{}, k.say
	}
	return k.KMS.Versions(ctx, key)
}
