package keys

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSIDPlaces(t *testing.T) {
	sid := func(s string) (out SID) {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		copy(out[:], b)
		return out
	}
	for _, tc := range []struct {
		name   string
		sid    SID
		log2P  uint8
		bucket uint16
		x      uint16
	}{
		{"zero", SID{}, 6, 0, 0},
		{"all ones", sid("ffffffff"), 6, 4095, 63},
		{"bucket bits alone", sid("fff00000"), 6, 4095, 0},
		{"partition bits alone", sid("000fc000"), 6, 0, 63},
		{"partition bits end there", sid("00003fff"), 6, 0, 0},
		{"one partition", sid("ffffffff"), 0, 4095, 0},
		{"two partitions", sid("00080000"), 1, 0, 1},
		{"256 partitions", sid("000ab000"), 8, 0, 0xab},
		{"mixed", sid("12345678"), 6, 0x123, 0x45 >> 2},
		{"more than there can be", sid("000ab000"), 12, 0, 0xab},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if b, x := tc.sid.Bucket(), tc.sid.Partition(tc.log2P); b != tc.bucket || x != tc.x {
				t.Errorf("bucket %d, partition %d; want %d, %d", b, x, tc.bucket, tc.x)
			}
		})
	}
	if s := sidAt(0xabc, 33, 7); s.Bucket() != 0xabc || s.Partition(6) != 33 {
		t.Errorf("sidAt gave bucket %d, partition %d", s.Bucket(), s.Partition(6))
	}
}

func TestContexts(t *testing.T) {
	inst := testInstance('i')
	if got, want := RootContext(inst, 0x0102), "cloakroom/root/1\x00iiiiiiiiiiiiiiii\x00\x00\x00\x00\x00\x00\x01\x02"; string(got) != want {
		t.Errorf("root context %q, want %q", got, want)
	}
	kid := KID(bytes.Repeat([]byte{'k'}, 16))
	if got, want := DEKContext(inst, kid), "cloakroom/dek/1\x00iiiiiiiiiiiiiiiikkkkkkkkkkkkkkkk"; string(got) != want {
		t.Errorf("data key context %q, want %q", got, want)
	}
	if got, want := inst.String(), strings.Repeat("69", 16); got != want {
		t.Errorf("instance %s, want %s", got, want)
	}
}

func TestRowKeys(t *testing.T) {
	sid := SID(bytes.Repeat([]byte{'s'}, 16))
	bucket, partition := BucketRowKey(0x0abc), PartitionRowKey(0x0023)
	for _, tc := range []struct{ name, got, want string }{
		{"root", string(RootRowKey()), "root"},
		{"bucket", string(bucket[:]), "b\x0a\xbc"},
		{"partition", string(partition[:]), "x\x00\x23"},
		{"subject key", string(SubjectKeyRow(sid)), "ssssssssssssssssk"},
		{"subject body", string(SubjectBodyRow(sid)), "sssssssssssssssss"},
		{"large value", string(SubjectValueRow(sid, "cv")), "ssssssssssssssssvcv"},
		{"service", string(serviceRowKey("tok")), "stok"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s row key %q, want %q", tc.name, tc.got, tc.want)
		}
	}
}

func TestRoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Root{Epoch: rapid.Uint64Min(1).Draw(t, "epoch"), Version: rapid.Uint64Min(1).Draw(t, "version")}
		r.MaxVersion = rapid.Uint64Min(r.Version).Draw(t, "max")
		r.Wrapped = Wrapped(rapid.StringOfN(rapid.RuneFrom([]rune("fv1:ab")), 1, 200, -1).Draw(t, "wrapped"))
		value, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := UnmarshalRoot(value); err != nil || back != r {
			t.Fatalf("%v became %v, %v", r, back, err)
		}
		for n := range value {
			if _, err := UnmarshalRoot(value[:n]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%d of %d bytes: %v", n, len(value), err)
			}
		}
		if _, err := UnmarshalRoot(append(value, 0)); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a byte more: %v", err)
		}
	})
	want := "01" + "0000000000000002" + "0000000000000003" + "0000000000000004" + "0003" + "613a62"
	value := must[[]byte](t)(Root{2, 3, 4, "a:b"}.Marshal())
	if got := hex.EncodeToString(value); got != want {
		t.Errorf("root row %s, want %s", got, want)
	}
	value[0] = 2
	if _, err := UnmarshalRoot(value); !errors.Is(err, ErrCorrupt) {
		t.Errorf("format 2: %v", err)
	}
	for _, tc := range []struct {
		name string
		root Root
	}{
		{"no epoch", Root{0, 1, 1, "w"}},
		{"no version", Root{1, 0, 1, "w"}},
		{"version above the highest", Root{1, 2, 1, "w"}},
		{"nothing wrapped", Root{1, 1, 1, ""}},
		{"too much wrapped", Root{1, 1, 1, Wrapped(strings.Repeat("w", MaxWrapped+1))}},
	} {
		if _, err := tc.root.Marshal(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestGeneration(t *testing.T) {
	for _, tc := range []struct {
		name  string
		row   Generation
		sound bool
		dirty bool
	}{
		{"first", Generation{1, 0, 0}, true, false},
		{"first, dirty", Generation{1, 1, 0}, true, true},
		{"clean again", Generation{2, 1, 5}, true, false},
		{"largest", Generation{math.MaxUint64, math.MaxUint64, math.MaxUint64}, true, true},
		{"none", Generation{}, false, false},
		{"dirty ahead", Generation{1, 2, 0}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			value := tc.row.Marshal()
			back, err := UnmarshalGeneration(value)
			if tc.sound && (err != nil || back != tc.row) || !tc.sound && !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v became %v, %v", tc.row, back, err)
			}
			if tc.row.Dirty() != tc.dirty {
				t.Errorf("dirty: %v", tc.row.Dirty())
			}
			for _, v := range [][]byte{nil, value[:23], append(value, 0)} {
				if _, err := UnmarshalGeneration(v); !errors.Is(err, ErrCorrupt) {
					t.Errorf("%d bytes: %v", len(v), err)
				}
			}
		})
	}
}
