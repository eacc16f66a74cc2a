package vault

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloakroom-io/cloakroom/keys"
)

func drawBody(t *rapid.T) *body {
	text := rapid.StringN(0, 20, 60)
	b := &body{
		created: rapid.Uint64().Draw(t, "created"), updated: rapid.Uint64().Draw(t, "updated"),
		id:     rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "id"),
		fields: []bodyField{}, tokens: []bodyToken{},
	}
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9_]{0,31}`), 0, 12, rapid.ID[string]).Draw(t, "names")
	slices.Sort(names)
	for _, name := range names {
		f := bodyField{
			name: name, flags: rapid.Uint8Range(0, 3).Draw(t, "flags"), recVer: rapid.Uint64().Draw(t, "recVer"), updated: rapid.Uint64().Draw(t, "at"),
			source: text.Draw(t, "source"), authorization: text.Draw(t, "authorization"), authorised: rapid.Uint64().Draw(t, "authorised"),
			record: rapid.SliceOfN(rapid.Byte(), 0, maxInline).Draw(t, "record"),
		}
		if f.ikVer = rapid.Uint16Range(0, 2).Draw(t, "ikVer"); f.ikVer > 0 {
			copy(f.p[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "p"))
		}
		b.fields = append(b.fields, f)
	}
	for range rapid.IntRange(0, 8).Draw(t, "tokens") {
		b.tokens = append(b.tokens, bodyToken{
			field: text.Draw(t, "field"), audience: text.Draw(t, "audience"), format: rapid.Uint8().Draw(t, "format"),
			expiry: rapid.Uint64().Draw(t, "expiry"), flags: rapid.Uint8().Draw(t, "token flags"), text: text.Draw(t, "text"),
		})
	}
	return b
}

func TestBodyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBody(t)
		data, err := b.marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseBody(data)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := got.marshal(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("a body read and written again has other bytes (%v)", err)
		}
		if !reflect.DeepEqual(normal(got), normal(b)) {
			t.Fatalf("a body comes back as another:\n%+v\n%+v", got, b)
		}
		for i := range b.fields {
			f, ok, err := lookupField(data, b.fields[i].name)
			if err != nil || ok != b.fields[i].present() || !bytes.Equal(f.record, b.fields[i].record) || f.recVer != b.fields[i].recVer {
				t.Fatalf("looking field %q up: %+v, %t, %v", b.fields[i].name, f, ok, err)
			}
		}
		if _, ok, err := lookupField(data, "Not a field"); ok || err != nil {
			t.Fatalf("a field that is not there is found (%v)", err)
		}
		cut := rapid.IntRange(0, len(data)-1).Draw(t, "cut")
		if _, err := parseBody(data[:cut]); err == nil {
			t.Fatalf("a body cut after %d of %d bytes parses", cut, len(data))
		}
		if _, err := parseBody(append(data, 0)); err == nil {
			t.Fatal("a body with a byte more parses")
		}
	})
}

// normal makes empty and absent lists alike.
func normal(b *body) *body {
	c := *b
	c.id = append([]byte{}, b.id...)
	c.fields = slices.Clone(b.fields)
	for i := range c.fields {
		c.fields[i].record = append([]byte{}, c.fields[i].record...)
	}
	return &c
}

func TestBodyLimits(t *testing.T) {
	b := &body{fields: make([]bodyField, maxFields+1)}
	if _, err := b.marshal(); err == nil {
		t.Error("more fields than a body holds are written")
	}
	b = &body{tokens: make([]bodyToken, maxTokens+1)}
	if _, err := b.marshal(); err == nil {
		t.Error("more tokens than a body holds are written")
	}
	b = &body{}
	for _, name := range []string{"phone", "address", "name", "phone"} {
		b.ensure(name).recVer++
	}
	if len(b.fields) != 3 || b.field("phone").recVer != 2 || b.field("email") != nil {
		t.Errorf("fields %+v", b.fields)
	}
	twice := &body{fields: []bodyField{{name: "a"}, {name: "a"}}}
	if data, err := twice.marshal(); err != nil {
		t.Error(err)
	} else if _, err := parseBody(data); err == nil {
		t.Error("a body with a field twice parses")
	}
}

func seedBody(t testing.TB) []byte {
	b := &body{created: 1, updated: 2, id: []byte("id"), fields: []bodyField{{name: "phone", flags: 1, recVer: 3, ikVer: 1, record: []byte("record")}}, tokens: []bodyToken{{field: "phone", text: "tok"}}}
	data, err := b.marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func FuzzBody(f *testing.F) {
	good := seedBody(f)
	for _, seed := range [][]byte{nil, {1}, good, good[:len(good)-1], append(bytes.Clone(good), 0), bytes.Repeat([]byte{0xFF}, 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseBody(data)
		found, _, lookup := lookupField(data, "phone")
		if err != nil {
			return
		}
		again, err := b.marshal()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("a body that parses is written otherwise (%v)", err)
		}
		if want := b.field("phone"); lookup != nil || (want != nil && want.present()) != found.present() || want != nil && want.present() && !bytes.Equal(want.record, found.record) {
			t.Fatalf("looking a field up differs from reading all (%v)", lookup)
		}
	})
}

func FuzzTombstone(f *testing.F) {
	subject := tombstone{what: tombSubject, sid: keys.SID{1}, dekVer: 1, day: 20000, b: 7, g: 1, x: 3, h: 1}
	field := subject
	field.what, field.field = tombField, "phone"
	for _, seed := range [][]byte{nil, {1, 1}, subject.marshal(), field.marshal(), append(subject.marshal(), 0), bytes.Repeat([]byte{1}, 60)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tomb, err := parseTombstone(data)
		if err != nil {
			return
		}
		if !bytes.Equal(tomb.marshal(), data) {
			t.Fatal("a tombstone that parses is written otherwise")
		}
		if key := tomb.row(); len(key) != 17+len(tomb.field) || (key[0] == 's') != (tomb.field == "") {
			t.Fatalf("row key %q", key)
		}
	})
}

func FuzzCredentialRow(f *testing.F) {
	credential := credentialRow{service: "app", digest: [32]byte{1}, created: 5, disabled: true}
	service := serviceRow{role: "app", created: 5}
	for _, seed := range [][]byte{nil, {1}, credential.marshal(), service.marshal(), append(credential.marshal(), 0), []byte("ck_0123456789_")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if row, ok := parseCredentialRow(data); ok && !bytes.Equal(row.marshal(), data) {
			t.Fatal("a credential row that parses is written otherwise")
		}
		if row, ok := parseServiceRow(data); ok && !bytes.Equal(row.marshal(), data) {
			t.Fatal("a service row that parses is written otherwise")
		}
		if id, ok := parseCredential(string(data)); ok && !strings.HasPrefix(string(data), credentialPrefix+id+"_") {
			t.Fatalf("credential id %q", id)
		}
		if id, ok := parseErasureID(string(data)); ok && id.String() != string(data) {
			t.Fatal("an erasure id has two spellings")
		}
	})
}

func TestErasureIDsSortByTime(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	var last string
	for i := range 100 {
		id, err := newErasureID(strings.NewReader(strings.Repeat("\xff\x00", 5)), at.Add(time.Duration(i*i)*time.Millisecond))
		if err != nil || i > 0 && id.String() <= last {
			t.Fatalf("id %s after %s, %v", id, last, err)
		}
		last = id.String()
		if back, ok := parseErasureID(last); !ok || back != id {
			t.Errorf("%s does not parse", last)
		}
		if _, ok := parseErasureID(strings.ToUpper(last)); ok {
			t.Error("a second spelling parses")
		}
	}
}
