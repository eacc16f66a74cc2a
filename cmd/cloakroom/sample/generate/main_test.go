package main

import (
	"bytes"
	"os"
	"testing"
)

func TestTheTableIsWhatThisProgramWrites(t *testing.T) {
	want, err := os.ReadFile("../customers.csv")
	if err != nil {
		t.Fatal(err)
	}
	got, err := generate(count)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("customers.csv differs from what the generator writes; run go generate in the folder above")
	}
}
