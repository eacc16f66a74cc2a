package main

import (
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"
)

// importBar shows on standard error how far an import is; where that is no terminal it shows nothing.
type importBar struct {
	bar   *progressbar.ProgressBar // nil: nothing is shown
	size  int64                    // of the input in bytes; -1 = not known
	now   func() time.Time
	began time.Time
	from  int64 // bytes that were done before this run
	rows  int64 // likewise rows; -1 until the first look
}

func (p *program) importBar(size, from int64) *importBar {
	b := &importBar{size: size, now: p.now, began: p.now(), from: from, rows: -1}
	if p.errTerminal {
		b.bar = progressbar.NewOptions64(size, progressbar.OptionSetWriter(p.err), progressbar.OptionSetWidth(20), progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false), progressbar.OptionClearOnFinish())
	}
	return b
}

func (b *importBar) show(s importProgress) {
	if b.bar == nil {
		return
	}
	if b.rows < 0 {
		b.rows = s.Totals.Rows
	}
	b.bar.Describe(b.words(s))
	_ = b.bar.Set64(min(s.Next.Offset, max(b.size, 0)))
}

// words are rows, rows a second, the time left where the input's length is known, and bad rows.
func (b *importBar) words(s importProgress) string {
	elapsed := max(b.now().Sub(b.began), time.Millisecond)
	out := fmt.Sprintf("%d rows, %.0f/s", s.Totals.Rows, float64(s.Totals.Rows-max(b.rows, 0))/elapsed.Seconds())
	if done := s.Next.Offset - b.from; b.size > 0 && done > 0 {
		left := time.Duration(float64(elapsed) / float64(done) * float64(max(b.size-s.Next.Offset, 0)))
		out += ", " + left.Round(time.Second).String() + " left"
	}
	return out + fmt.Sprintf(", %d bad", s.Totals.Failed)
}

func (b *importBar) end() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}
