package main

import (
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"
)

// tableBar shows on standard error how far work on a table is; where that is no terminal it shows nothing.
type tableBar struct {
	bar   *progressbar.ProgressBar // nil: nothing is shown
	what  string
	total int64 // rows, as counted before; more may come
	now   func() time.Time
	began time.Time
	drawn time.Time
}

func (p *program) tableBar(what string, total int64) *tableBar {
	b := &tableBar{what: what, total: total, now: p.now, began: p.now()}
	if p.errTerminal {
		b.bar = progressbar.NewOptions64(max(total, 1), progressbar.OptionSetWriter(p.err), progressbar.OptionSetWidth(20), progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false), progressbar.OptionClearOnFinish())
	}
	return b
}

// show draws now and then.
func (b *tableBar) show(done, bad int64) {
	if b.bar == nil || b.now().Sub(b.drawn) < drawEvery {
		return
	}
	b.drawn = b.now()
	b.bar.Describe(b.words(done, bad))
	_ = b.bar.Set64(min(done, max(b.total, 1)))
}

// words are rows, rows a second, the time left, and bad rows.
func (b *tableBar) words(done, bad int64) string {
	elapsed := max(b.now().Sub(b.began), time.Millisecond)
	out := fmt.Sprintf("%s: %d rows, %.0f/s", b.what, done, float64(done)/elapsed.Seconds())
	if done > 0 && b.total > done {
		left := time.Duration(float64(elapsed) / float64(done) * float64(b.total-done))
		out += ", " + left.Round(time.Second).String() + " left"
	}
	return out + fmt.Sprintf(", %d bad", bad)
}

func (b *tableBar) end() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}
