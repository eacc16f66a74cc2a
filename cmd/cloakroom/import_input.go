package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// importInput is an open table. A read of it ends when the import is interrupted.
type importInput struct {
	io.Reader
	file *os.File // nil: standard input
	path string   // absolute; "-" for standard input
	info os.FileInfo
}

func (p *program) openInput(ctx context.Context, path string) (*importInput, error) {
	if path == "-" {
		return &importInput{Reader: interruptible(ctx, p.in), path: path}, nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(abs)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a folder", path)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &importInput{interruptible(ctx, f), f, abs, info}, nil
}

func (i *importInput) close() {
	if i.file != nil {
		_ = i.file.Close()
	}
}

// size is the file's length, or -1 when it is not known.
func (i *importInput) size() int64 {
	if i.info == nil || !i.info.Mode().IsRegular() {
		return -1
	}
	return i.info.Size()
}

func inputName(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// stopped reports an interruption now and then: ctx is not asked for every row.
func stopped(ctx context.Context, rows int64) error {
	if rows%256 == 0 {
		return ctx.Err()
	}
	return nil
}

// interruptedReader is a reader whose Read ends with ctx though the one below may wait for ever: for a terminal, or for a
// program that writes into a pipe. That read then goes on behind, into a buffer of its own, and nobody waits for it.
type interruptedReader struct {
	ctx  context.Context
	from io.Reader
	buf  []byte
	rest []byte // of buf: read and not given yet
	err  error  // that came with rest, or ended all reading
	got  chan int
}

const interruptibleBuffer = 64 << 10

func interruptible(ctx context.Context, from io.Reader) *interruptedReader {
	return &interruptedReader{ctx: ctx, from: from, buf: make([]byte, interruptibleBuffer), got: make(chan int, 1)}
}

func (r *interruptedReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 && r.err == nil {
		r.fill()
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// fill asks the reader below once.
func (r *interruptedReader) fill() {
	if r.err = r.ctx.Err(); r.err != nil {
		return
	}
	var failed error
	go func() {
		n, err := r.from.Read(r.buf)
		failed = err
		r.got <- n
	}()
	select {
	case n := <-r.got:
		r.rest, r.err = r.buf[:n], failed
	case <-r.ctx.Done():
		r.err = r.ctx.Err()
	}
}
