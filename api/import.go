package api

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/vault"
)

// linger is how long the rest of a body is thrown away when the answer ends before it.
const linger = time.Second

// importing is one import under way. Its parts work at once and each waits for the next: feed reads lines, gather makes
// chunks of them, two chunks at most are with the vault, and the handler writes what became of them, in order. So who
// does not read the answer is not read from either.
//
// What it holds is bounded by bytes, however long the body and its lines are: a line that is being read and up to 1 MiB
// (queuedBytes) that wait for a chunk, a chunk that is being made and two that are with the vault. A chunk has less than
// 2 MiB of lines, and the vault needs a few times as much for what it makes of them. Limits.Imports bounds them all.
type importing struct {
	x        *exchange
	call     vault.Call
	recreate bool
	same     bool // ?replace=same-source
	control  *http.ResponseController
	body     *pacedBody
	in       *lines

	chunks chan *chunk // in the order of the lines; closed at the end
	ended  error       // why there are no more chunks, nil: the body is complete; set before chunks is closed
	begun  bool        // something was answered
	sum    wire.ImportEnd
}

// importSubjects answers POST /v1/import. A failure of the whole before the first line of the answer is a problem, as
// everywhere; a later one is its last line.
func (s *service) importSubjects(x *exchange) error {
	recreate, err := x.params().recreate()
	if err != nil {
		return err
	}
	same, err := x.params().sameSource()
	if err != nil {
		return err
	}
	call, err := x.call()
	if err != nil {
		return err
	}
	control := http.NewResponseController(x.c.Writer)
	// Both fail where the answer is no connection's, or one of HTTP/2, which is full duplex anyway.
	_ = control.EnableFullDuplex()
	_ = control.SetWriteDeadline(time.Time{})
	body := &pacedBody{body: x.c.Request.Body, control: control, silence: s.limits.Silence}
	im := &importing{
		x: x, call: call, recreate: recreate, same: same, control: control, body: body, in: newLines(body),
		chunks: make(chan *chunk, 1), // one waits here, one is waited for: two are with the vault
		sum:    wire.ImportEnd{End: true},
	}
	return im.run()
}

func (im *importing) run() error {
	if s := im.x.s; !s.importing.TryAcquire(1) {
		// net/http cannot use a connection again whose body nobody has read while the answer may begin before its end.
		im.body.endBy(time.Now().Add(linger))
		_, _ = io.Copy(io.Discard, im.body)
		return &fault{code: wire.RateLimited, detail: "as many imports as the server takes at once (" + strconv.Itoa(s.limits.Imports) + ") are under way; try again when one has ended"}
	}
	defer im.x.s.importing.Release(1)
	ctx, cancel := context.WithCancel(im.x.c.Request.Context())
	var all sync.WaitGroup
	defer func() {
		cancel()
		im.body.endBy(time.Now().Add(linger))
		all.Wait()
	}()
	all.Go(func() { im.read(ctx, &all) })
	for c := range im.chunks {
		<-c.done
		if err := im.answer(c); err != nil {
			im.x.code = codeClientClosed
			return nil
		}
		if c.fault != nil {
			return im.end(c.fault)
		}
	}
	if im.sum.OK+im.sum.Failed == 0 && im.ended == nil {
		// No row has told whether the caller may import.
		if _, err := im.x.s.vault.Import(ctx, im.call, nil); err != nil {
			return err
		}
	}
	return im.end(im.ended)
}

// read makes chunks of the body and starts the vault on each.
func (im *importing) read(ctx context.Context, all *sync.WaitGroup) {
	defer close(im.chunks)
	reading, enough := context.WithCancel(ctx)
	defer enough()
	stopping := stoppingOf(ctx)
	defer context.AfterFunc(stopping, enough)()
	incoming := newLineQueue()
	fed := make(chan error, 1)
	all.Go(func() { fed <- feed(reading, im.in, incoming) })
	var before *chunk
	for more := true; more; {
		var c *chunk
		if c, more = gather(reading, incoming); len(c.lines) == 0 {
			continue
		}
		select {
		case im.chunks <- c:
		case <-ctx.Done():
			return
		}
		previous := before
		all.Go(func() { im.do(ctx, c, previous) })
		before = c
	}
	if stopping.Err() != nil {
		im.ended = &fault{code: wire.ServerStopping, detail: "the server is stopping; send the rest again in a while"}
		return
	}
	if err := <-fed; err != nil {
		im.ended = bodyFault(err)
	}
}

// answer writes the outcomes of a chunk's lines, as far as they are done. It fails when nobody reads them.
func (im *importing) answer(c *chunk) error {
	meter := &im.x.s.meter.imported
	for i := range c.answers {
		a := &c.answers[i]
		if a.Error == nil {
			im.sum.OK++
			meter.ok.Inc()
		} else {
			im.sum.Failed++
			meter.count(a.Error.Code)
		}
		if err := im.write(a); err != nil {
			return err
		}
	}
	if n := len(c.answers); n > 0 {
		im.sum.Lines = c.answers[n-1].Line
	}
	return im.flush()
}

// end writes the last line, or has the whole answered with a problem where there is no line yet.
func (im *importing) end(err error) error {
	switch {
	case err == nil:
		im.sum.Lines = im.in.last
	case !im.begun:
		return err
	default:
		p, gone := im.x.problem(err)
		if gone {
			return nil
		}
		im.sum.Line, im.sum.Error = im.sum.Lines+1, &wire.ItemError{Code: p.Code, Detail: p.Detail}
	}
	if im.write(&im.sum) != nil || im.flush() != nil {
		im.x.code = codeClientClosed
	}
	return nil
}

func (im *importing) write(body any) error {
	if err := encode(&im.x.out, body); err != nil {
		return err
	}
	im.x.out.WriteByte('\n')
	return nil
}

// flush sends what was written, within the time that the other side may be silent.
func (im *importing) flush() error {
	out := &im.x.out
	if out.Len() == 0 {
		return nil
	}
	w := im.x.c.Writer
	if !im.begun {
		im.begun = true
		w.Header()["Content-Type"] = valueNDJSON
		w.WriteHeader(http.StatusOK)
	}
	_ = im.control.SetWriteDeadline(time.Now().Add(im.x.s.limits.Silence))
	_, err := w.Write(out.Bytes())
	if err == nil {
		err = im.control.Flush()
	}
	_ = im.control.SetWriteDeadline(time.Time{})
	clear(out.Bytes())
	out.Reset()
	return err
}
