package api

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cloakroom-io/cloakroom/api/wire"
)

// body is what was read of the request's body, valid until the exchange is released.
func (x *exchange) body() []byte { return x.in.Bytes() }

// beginBody gives the body its time before anything else waits for it: a refused request is drained by net/http, and
// that takes no longer either. A body that says by itself that it is too large to be thrown away is not begun.
func (x *exchange) beginBody() error {
	r := x.c.Request
	if r.ContentLength == 0 {
		return nil
	}
	if len(r.TransferEncoding) > 0 {
		// net/http takes away a length that comes with chunks. A proxy that went by it would take the next request
		// for the end of this one, so nothing may follow (RFC 9112, section 6.1).
		x.c.Writer.Header()["Connection"] = valueClose
	}
	// net/http lifts the deadline when the body has been read. Only a real connection has one; elsewhere nothing can be
	// slow.
	_ = http.NewResponseController(x.c.Writer).SetReadDeadline(time.Now().Add(x.s.limits.BodyTime))
	if r.ContentLength > x.s.limits.Discard && x.rt.body != streamedBody {
		return x.tooLarge(true)
	}
	return nil
}

// readBody reads the body where the route takes one. A body up to the discard limit is read to its end even when it
// is too large, so that the caller gets to read the answer; most clients write first and read afterwards.
func (x *exchange) readBody() error {
	r := x.c.Request
	switch {
	case x.rt.body == ignoredBody:
		return nil
	case r.ContentLength == 0 && x.rt.body == requiredBody:
		return malformed("the request has no body; send a JSON object")
	case r.ContentLength == 0:
		return nil
	case x.rt.body == noBody:
		return malformed("this call takes no body")
	}
	if x.rt.body == streamedBody {
		return checkContentType(r.Header, "application/x-ndjson")
	}
	if err := checkContentType(r.Header, "application/json"); err != nil {
		return err
	}
	limit := x.s.limits.Body
	if r.ContentLength <= limit {
		if r.ContentLength > 0 {
			// What a caller announces is not what it sends: memory is taken in steps.
			x.in.Grow(int(min(r.ContentLength, 64<<10)) + 512)
		}
		if _, err := x.in.ReadFrom(io.LimitReader(r.Body, limit+1)); err != nil {
			return bodyFault(err)
		}
		if int64(x.in.Len()) <= limit {
			if x.in.Len() == 0 && x.rt.body == requiredBody {
				return malformed("the request has no body; send a JSON object")
			}
			return nil
		}
	}
	rest := x.s.limits.Discard - int64(x.in.Len())
	clear(x.in.Bytes())
	x.in.Reset()
	_, err := io.CopyN(io.Discard, r.Body, rest+1)
	if err != nil && err != io.EOF {
		return bodyFault(err)
	}
	return x.tooLarge(err == nil)
}

func (x *exchange) tooLarge(closes bool) error {
	return &fault{code: wire.BodyTooLarge, close: closes, detail: "a body is at most " + strconv.FormatInt(x.s.limits.Body, 10) + " bytes; send smaller batches"}
}

// bodyFault tells a slow caller from a broken one.
func bodyFault(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &fault{code: wire.RequestTimeout, detail: "the body took too long to arrive", close: true}
	}
	return &fault{code: wire.MalformedRequest, detail: "the body ended before its announced end or is not chunked as announced", close: true}
}

func checkContentType(h http.Header, want string) error {
	if enc := h["Content-Encoding"]; len(enc) > 1 || len(enc) == 1 && !strings.EqualFold(enc[0], "identity") {
		return &fault{code: wire.UnsupportedMediaType, detail: "a body is sent without Content-Encoding"}
	}
	types := h["Content-Type"]
	if len(types) == 1 && (types[0] == want || isUTF8(types[0], want)) {
		return nil
	}
	return &fault{code: wire.UnsupportedMediaType, detail: "a body is sent with one Content-Type: " + want + ", in UTF-8"}
}

func isUTF8(contentType, want string) bool {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != want {
		return false
	}
	for name, value := range params {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false
		}
	}
	return true
}
