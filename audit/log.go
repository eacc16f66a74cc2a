package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/appendfile"
)

// What Append and Ready can answer besides ErrInvalid.
var (
	// ErrUnavailable: the log cannot be written; the entry is not in it. A later call tries again by itself.
	ErrUnavailable = errors.New("audit: log cannot be written")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("audit: closed")
)

// DefaultOrigin is the first part of the origin when Options names none.
const DefaultOrigin = "cloakroom/audit"

const checkpointEvery = time.Second

// Options of a log. Signer is required.
type Options struct {
	Signer   ed25519.PrivateKey // signs checkpoints
	Origin   string             // names the log; no spaces, no plus sign; "" is DefaultOrigin
	Instance string             // id of the installation, appended to the origin after a slash; "" appends nothing
	Now      func() time.Time   // nil is time.Now
	Logger   *slog.Logger       // nil discards

	segmentBytes    int64         // a new segment begins at this size
	checkpointEvery time.Duration // how long new entries wait for a checkpoint
}

// Log is an open log. Its methods may be called from any goroutine.
type Log struct {
	dir       string
	opt       Options
	signer    *signer
	folder    *os.File // holds the lock
	recovered int64
	group     *appendfile.Group[*request]
	bodies    sync.Pool
	stop      chan struct{}
	stopped   sync.WaitGroup
	closing   sync.Once
	closed    error

	writer writer // touched by the group's goroutine alone
	health appendfile.Health

	mu       sync.RWMutex // guards what follows: the durable state, as readers see it
	head     Head
	segments []segment

	checkpointMu  sync.Mutex
	checkpointed  Head
	checkpointErr error
}

// Append writes e down and returns its index once it is durable. Many calls share one fsync. A ctx that has ended
// keeps e from being queued; after that Append waits for the outcome whatever ctx does. On ErrUnavailable,
// ErrInvalid and ErrClosed the entry is not in the log.
func (l *Log) Append(ctx context.Context, e *Event) (index uint64, err error) {
	if err := e.check(); err != nil {
		return 0, err
	}
	at := e.Time
	if at.IsZero() {
		at = l.opt.Now()
	}
	buf := l.bodies.Get().(*[]byte)
	r := &request{body: appendRest((*buf)[:0], e, at)}
	err = l.do(ctx, r)
	*buf = r.body
	l.bodies.Put(buf)
	return r.index, err
}

func (l *Log) do(ctx context.Context, r *request) error {
	if err := l.group.Do(ctx, r); err != nil {
		if errors.Is(err, appendfile.ErrClosed) {
			return ErrClosed
		}
		return err
	}
	return r.err
}

// Ready returns nil when the next Append can be expected to succeed and checkpoints are written. After a failure it
// tries to mend it, at most once a second, so that a log without traffic becomes ready again too.
func (l *Log) Ready() error {
	err := l.health.Ready(l.opt.Now(), func() error { return l.do(context.Background(), &request{}) })
	if err != nil {
		return unavailable(err)
	}
	l.checkpointMu.Lock()
	failed := l.checkpointErr != nil
	l.checkpointMu.Unlock()
	if failed {
		return l.checkpoint()
	}
	return nil
}

// unavailable wraps err in ErrUnavailable once.
func unavailable(err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// Size is the number of durable entries.
func (l *Log) Size() uint64 { return l.Head().Size }

// Head returns the durable head. It may be ahead of the checkpoint by about a second.
func (l *Log) Head() Head {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.head
}

// Checkpointed returns the head that the newest checkpoint signs.
func (l *Log) Checkpointed() Head {
	l.checkpointMu.Lock()
	defer l.checkpointMu.Unlock()
	return l.checkpointed
}

// Recovered is the number of bytes of a torn end that Open cut off.
func (l *Log) Recovered() int64 { return l.recovered }

// VerifierKey returns the public key of the checkpoints in the text form of C2SP signed-note: name+hash+key.
func (l *Log) VerifierKey() string { return l.signer.vky }

// WritePublicKey writes VerifierKey and a line feed to path, readable by everybody.
func (l *Log) WritePublicKey(path string) error {
	if err := appendfile.Replace(path, []byte(l.VerifierKey()+"\n"), 0o644); err != nil {
		return fmt.Errorf("audit: public key: %w", err)
	}
	return nil
}

// Close waits for running Appends, writes a checkpoint and releases the files. Later calls of Append answer
// ErrClosed, later calls of Close what the first one did.
func (l *Log) Close() error {
	l.closing.Do(func() {
		l.group.Close()
		close(l.stop)
		l.stopped.Wait()
		l.closed = l.checkpoint()
		l.health.Set(l.writer.file.Mark(), ErrClosed)
		l.closed = errors.Join(l.closed, l.writer.file.Close(), l.folder.Close())
	})
	return l.closed
}

// keepCheckpoints runs until Close.
func (l *Log) keepCheckpoints() {
	defer l.stopped.Done()
	tick := time.NewTicker(l.opt.checkpointEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		err := l.checkpoint()
		if err != nil && !failing {
			l.opt.Logger.Warn("audit checkpoint cannot be written", "error", err)
		}
		failing = err != nil
	}
}

// checkpoint signs for the durable head, if the last checkpoint does not.
func (l *Log) checkpoint() error {
	l.checkpointMu.Lock()
	defer l.checkpointMu.Unlock()
	l.mu.RLock()
	head := l.head
	l.mu.RUnlock()
	if head == l.checkpointed {
		l.checkpointErr = nil
		return nil
	}
	// A folder put in the place of ours gets no signature of ours.
	err := l.health.Mark().Present()
	if err == nil {
		err = writeCheckpoint(l.dir, head, l.signer)
	}
	if err != nil {
		err = unavailable(fmt.Errorf("checkpoint: %w", err))
	} else {
		l.checkpointed = head
	}
	l.checkpointErr = err
	return err
}

func (l *Log) path(s segment) string { return filepath.Join(l.dir, s.name) }
