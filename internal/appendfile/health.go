package appendfile

import (
	"sync"
	"time"
)

// retryEvery is how often Ready tries to mend what failed.
const retryEvery = time.Second

// Health is what everybody may know of a File: whether its last group failed, and where it should be.
type Health struct {
	mu      sync.Mutex
	mark    Mark
	failure error
	tried   time.Time
}

// Set notes the outcome of a group and reports whether it turned from good to bad or back.
func (h *Health) Set(mark Mark, failure error) (turned bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	turned = (failure == nil) != (h.failure == nil)
	h.mark, h.failure = mark, failure
	return turned
}

// Mark returns the newest mark.
func (h *Health) Mark() Mark {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mark
}

// Ready returns nil when the last group was written and the file is at its path. Else it returns the outcome of mend,
// which it calls at most once a second, or the failure.
func (h *Health) Ready(now time.Time, mend func() error) error {
	h.mu.Lock()
	mark, failure := h.mark, h.failure
	h.mu.Unlock()
	// Not under the lock: a file system that hangs must not hold up the writer.
	if failure == nil {
		if failure = mark.Present(); failure == nil {
			return nil
		}
	}
	if !h.due(now) {
		return failure
	}
	return mend()
}

func (h *Health) due(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	since := now.Sub(h.tried)
	if since >= 0 && since < retryEvery {
		return false
	}
	h.tried = now
	return true
}
