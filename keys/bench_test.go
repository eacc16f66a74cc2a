package keys

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

func BenchmarkHierarchy(b *testing.B) {
	h, er := unlocked(b, 1, testInstance(1))
	sid, token := sidAt(5, 7, 1), "tok_phone_0123456789012345678901"
	key, p := h.TokenRowKey(token), h.IndexInput("phone", 1, "+8613800138000")
	index := h.IndexRowKey(7, p)
	keyRow := KeyRow{SK: testKey(1), DEKVersion: 1, Wrapped: Wrapped("vault:v1:" + fmt.Sprintf("%080d", 0))}
	tokenRow := TokenRow{SID: sid, Field: "phone", Audience: "crm"}
	body, value := secret.NewBytes(make([]byte, 1300)), secret.NewBytes([]byte("+8613800138000"))
	c := RecordContext{testInstance(1), sid, "phone"}
	sk, dek := testKey(1), testKey(2)
	bytesOf := must[[]byte](b)
	sealedKey := bytesOf(h.SealKeyRow(rand.Reader, sid, keyRow))
	sealedToken := bytesOf(h.SealTokenRow(rand.Reader, key, tokenRow))
	sealedBody := bytesOf(h.SealBody(rand.Reader, sk, sid, body))
	sealedIndex := bytesOf(h.SealIndexRow(rand.Reader, index, IndexRow{P: p, SIDs: []SID{sid}}))
	record := bytesOf(SealRecord(rand.Reader, dek, c, 1, 1, XChaCha20Poly1305, value))
	gcm := bytesOf(SealRecord(rand.Reader, dek, c, 1, 1, AES256GCM, value))
	rows := must[Rows](b)(h.Rows(rand.Reader))
	for _, bc := range []struct {
		name string
		call func() error
	}{
		{"SID", func() error { h.SID("customer-17"); return nil }},
		{"TokenRowKey", func() error { h.TokenRowKey(token); return nil }},
		{"IndexInput", func() error { h.IndexInput("phone", 1, "+8613800138000"); return nil }},
		{"IndexRowKey", func() error { h.IndexRowKey(7, p); return nil }},
		{"OpenTokenRow", func() error { _, err := h.OpenTokenRow(key, sealedToken); return err }},
		{"SealTokenRow", func() error { _, err := h.SealTokenRow(rand.Reader, key, tokenRow); return err }},
		{"OpenKeyRow", func() error { _, err := h.OpenKeyRow(sid, sealedKey); return err }},
		{"SealKeyRow", func() error { _, err := h.SealKeyRow(rand.Reader, sid, keyRow); return err }},
		{"OpenBody1300", func() error { _, err := h.OpenBody(sk, sid, sealedBody); return err }},
		{"SealBody1300", func() error { _, err := h.SealBody(rand.Reader, sk, sid, body); return err }},
		{"OpenIndexRow", func() error { _, err := h.OpenIndexRow(index, sealedIndex); return err }},
		{"OpenRecord64", func() error { _, _, err := OpenRecord(dek, c, record); return err }},
		{"OpenRecord64GCM", func() error { _, _, err := OpenRecord(dek, c, gcm); return err }},
		{"SealRecord64", func() error {
			_, err := SealRecord(rand.Reader, dek, c, 1, 1, XChaCha20Poly1305, value)
			return err
		}},
		{"Load", func() error { _, err := Load(testInstance(1), DefaultLog2P, Root{Epoch: 1}, er, rows); return err }},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bc.call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnwrapWarm100(b *testing.B) {
	d := NewDEKs(&fakeKMS{}, testInstance(1), DEKOptions{})
	defer d.Close()
	want := refs(0, 100)
	run := func() {
		for _, o := range d.Unwrap(context.Background(), want) {
			if o.Err != nil {
				b.Fatal(o.Err)
			}
		}
	}
	run()
	b.ReportAllocs()
	for b.Loop() {
		run()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(want)), "ns/ref")
}
