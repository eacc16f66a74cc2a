package vault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloakroom-io/cloakroom/keys"
	"github.com/cloakroom-io/cloakroom/store"
)

// Part is one thing the vault cannot work without, and what is wrong with it.
type Part struct {
	Name string // store, kms, audit, ledger
	Err  error
}

const (
	readyTimeout = 2 * time.Second // how long a probe waits for the key service
	probeEvery   = time.Second     // how often it is probed at most
)

// Ready probes the parts, each named.
func (v *Vault) Ready(ctx context.Context) []Part {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	look := func(tx store.ReadTx) error { _, err := currentPolicy(tx); return err }
	st := v.store.View(ctx, look)
	if r, ok := v.store.(interface{ Ready() error }); ok && st == nil {
		st = r.Ready()
	}
	kms := v.probe.ask(ctx, v)
	ledger := v.ledger.Ready()
	if ledger == nil && st == nil {
		ledger = v.flushLedger(ctx) // what an earlier failure left in the outbox
	}
	return []Part{{"store", st}, {"kms", kms}, {"audit", v.audit.Ready()}, {"ledger", ledger}}
}

// probe is the last answer of the key service to the question whether it is there. Anybody may ask /readyz, as often as
// they like; the key service is not asked as often.
type probe struct {
	mu     sync.Mutex
	at     time.Time // of the answer
	err    error
	flying chan struct{} // not nil while a question is under way; closed with its answer
}

func (p *probe) ask(ctx context.Context, v *Vault) error {
	p.mu.Lock()
	flying := p.flying
	if flying == nil {
		if age := v.now().Sub(p.at); !p.at.IsZero() && age >= 0 && age < probeEvery {
			defer p.mu.Unlock()
			return p.err
		}
		flying = make(chan struct{})
		p.flying = flying
		v.background.start(func(ctx context.Context) { p.fly(ctx, v) })
	}
	p.mu.Unlock()
	select {
	case <-flying:
	case <-v.background.ctx.Done():
		return fmt.Errorf("%w: the vault is closed", keys.ErrKMSUnavailable)
	case <-ctx.Done():
		return fmt.Errorf("%w: no answer yet: %w", keys.ErrKMSUnavailable, context.Cause(ctx))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// fly asks in its own time: a caller that leaves does not end what others wait for.
func (p *probe) fly(ctx context.Context, v *Vault) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := v.askKeyServices(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.err = v.now(), err
	close(p.flying)
	p.flying = nil
}

// askKeyServices asks the primary one and, while keys move, the other one too: each has a part of the keys.
func (v *Vault) askKeyServices(ctx context.Context) error {
	schemes := []string{v.kms.Scheme()}
	err := v.store.View(ctx, func(tx store.ReadTx) error {
		m, err := readMove(tx)
		if m != nil {
			schemes = []string{m.to, m.from}
		}
		return err
	})
	if err != nil {
		schemes = schemes[:1] // the store's own probe tells of it
	}
	var errs []error
	for _, scheme := range schemes {
		at, ok := v.kms.Of(scheme)
		if !ok {
			return keys.ErrUnknownScheme
		}
		if _, err := at.Versions(ctx, keys.RootKey); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", keyServiceOf(scheme).name, err))
		}
	}
	return errors.Join(errs...)
}
