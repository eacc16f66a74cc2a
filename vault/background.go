package vault

import (
	"context"
	"sync"
)

// background is what a vault does besides answering calls; all of it ends with the vault.
type background struct {
	ctx  context.Context
	stop context.CancelFunc
	mu   sync.Mutex // so that nothing begins once close waits
	wg   sync.WaitGroup
}

func newBackground() *background {
	ctx, stop := context.WithCancel(context.Background())
	return &background{ctx: ctx, stop: stop}
}

// start runs fn until it returns, which it has to soon after ctx ends. After close it does nothing.
func (b *background) start(fn func(ctx context.Context)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() == nil {
		b.wg.Go(func() { fn(b.ctx) })
	}
}

func (b *background) close() {
	b.mu.Lock()
	b.stop()
	b.mu.Unlock()
	b.wg.Wait()
}
