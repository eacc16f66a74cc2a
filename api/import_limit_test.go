package api_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloakroom-io/cloakroom/api"
	"github.com/cloakroom-io/cloakroom/api/wire"
)

// TestImportsAtOnce: one import more than the limit is refused at once, whether its body is sent already or not, and there
// is room again when one ends.
func TestImportsAtOnce(t *testing.T) {
	h := newHouse(t)
	h.Server = serve(t, api.New(api.Config{Vault: h.vault, Logger: h.log.logger(), Limits: api.Limits{Imports: 2}}))
	running := make([]*live, 2)
	for i := range running {
		running[i] = h.goLive(h.Client(), h.URL)
		running[i].send(importLine(fmt.Sprintf("u%d", i), "13800138000"))
		running[i].next()
	}
	refused := func(resp *http.Response, body string) {
		t.Helper()
		wantProblem(t, resp, body, 429, wire.RateLimited)
		if resp.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	refused(h.as("app", "POST", "/v1/import", importLine("u7", "13800138000"), "Content-Type", ndjson))
	late := h.goLive(h.Client(), h.URL)
	resp, ok := <-late.resp
	if !ok {
		t.Fatal("no answer")
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	refused(resp, string(body))
	for n := int64(2); n <= 3; n++ { // the others go on
		running[0].send(importLine("u0", "13800138000"))
		if o := running[0].next(); o.Line != n || o.Error != nil {
			t.Fatalf("%+v %+v", o, o.Error)
		}
	}
	running[1].body.Close()
	if o := running[1].next(); !o.End || o.OK != 1 {
		t.Errorf("%+v", o)
	}
	// Its place is free a moment after its last line.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		resp, body := h.as("app", "POST", "/v1/import", importLine("u7", "13800138000"), "Content-Type", ndjson)
		if resp.StatusCode == 200 {
			break
		}
		if refused(resp, body); time.Now().After(deadline) {
			t.Fatal("the place of an import that has ended stays taken")
		}
	}
}

// TestImportsOfLongLines: whoever sends long lines fills a few MiB of the server, however many lines, while the vault is
// busy with the first ones.
func TestImportsOfLongLines(t *testing.T) {
	h, log := newSwitchedHouse(t)
	const callers, perCaller = 10, 16 * mib
	line := importLine("u1", strings.Repeat("1", mib-42))
	log.mu.Lock()
	release := sync.OnceFunc(log.mu.Unlock)
	defer release()
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var sent atomic.Int64
	var all sync.WaitGroup
	for range callers {
		l := h.goLive(h.Client(), h.URL)
		all.Go(func() {
			defer l.body.Close()
			for range 24 {
				if _, err := io.WriteString(l.body, line); err != nil {
					return
				}
				sent.Add(1)
			}
		})
	}
	var most int64
	for still := 0; still < 5; time.Sleep(100 * time.Millisecond) {
		if now := sent.Load(); now == most && now > 0 {
			still++
		} else {
			most, still = now, 0
		}
	}
	held := heap() - before
	t.Logf("%d lines of 1 MiB were taken from %d callers; they hold %d MiB", most, callers, held/mib)
	if held > callers*perCaller {
		t.Errorf("more than %d MiB for each", perCaller/mib)
	}
	release()
	all.Wait()
}
