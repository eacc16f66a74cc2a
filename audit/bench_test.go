package audit

import (
	"context"
	"fmt"
	"testing"
)

func BenchmarkAppend(b *testing.B) {
	for _, items := range []int{1, 100} {
		b.Run(fmt.Sprintf("goroutines=64/items=%d", items), func(b *testing.B) {
			l := mustOpen(b, b.TempDir(), testOptions())
			b.SetParallelism(32) // times two processors
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				e := event(1, items)
				for pb.Next() {
					if _, err := l.Append(context.Background(), e); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/float64(l.writer.syncs.Load()), "appends/sync")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, items := range []int{1, 100} {
		b.Run(fmt.Sprintf("items=%d", items), func(b *testing.B) {
			e := event(1, items)
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				if err := e.check(); err != nil {
					b.Fatal(err)
				}
				buf = appendRest(buf[:0], e, e.Time)
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}
