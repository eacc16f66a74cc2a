package vault

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// spread calls fn for 0 to n-1 on all cores and returns when all calls have ended. Of several errors it returns one. A
// panic reaches the caller, as if fn had been called from there.
func spread(n int, fn func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var thrown atomic.Pointer[any]
	work := func() {
		defer func() {
			if p := recover(); p != nil {
				thrown.Store(&p)
			}
		}()
		for failed.Load() == nil && thrown.Load() == nil {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			if err := fn(i); err != nil {
				failed.Store(&err)
			}
		}
	}
	var all sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) - 1 {
		all.Go(work)
	}
	work()
	all.Wait()
	if p := thrown.Load(); p != nil {
		panic(*p)
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
