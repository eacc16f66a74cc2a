package ledger

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/appendfile"
)

// What a ledger can answer besides ErrInvalid. After each of them nothing of the call counts as written.
var (
	// ErrUnavailable: the ledger cannot be written. A later call tries again by itself.
	ErrUnavailable = errors.New("ledger: cannot be written")
	// ErrForeign: the file is the ledger of another instance.
	ErrForeign = errors.New("ledger: belongs to another instance")
	// ErrDiverged: the ledger has another entry in the place of one of these, or another one before them.
	ErrDiverged = errors.New("ledger: entries differ from those written")
	// ErrGap: entries between the head and these are missing.
	ErrGap = errors.New("ledger: entries are missing before these")
	// ErrClosed: the ledger was closed.
	ErrClosed = errors.New("ledger: closed")
)

// Options of a ledger. Instance is required.
type Options struct {
	Instance  [16]byte
	MustExist bool             // a missing file is fs.ErrNotExist; else Open begins one
	Now       func() time.Time // nil is time.Now
	Logger    *slog.Logger     // nil discards
}

// Ledger is an open ledger. Its methods may be called from any goroutine.
type Ledger struct {
	opt       Options
	signer    ed25519.PrivateKey
	recovered int64
	group     *appendfile.Group[*request]
	closing   sync.Once
	closed    error

	writer writer // touched by the group's goroutine alone
	health appendfile.Health

	mu   sync.RWMutex
	head Head // durable, as readers see it
}

// Open opens the ledger at path (0600) after it has verified every entry and signature, or begins one (see MustExist).
// A torn last entry is cut off (see Recovered). Errors: ErrForeign, CorruptError, appendfile.ErrLocked when
// another process has it open, and those of the file system.
func Open(path string, signer ed25519.PrivateKey, opt Options) (*Ledger, error) {
	if len(signer) != ed25519.PrivateKeySize {
		return nil, errors.New("ledger: the signing key is not an Ed25519 private key")
	}
	if opt.Instance == [16]byte{} {
		return nil, errors.New("ledger: no instance")
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	file, err := appendfile.Open(path, !opt.MustExist)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	l := &Ledger{opt: opt, signer: signer}
	l.writer.file = file
	if err := l.load(path); err != nil {
		_ = file.Close()
		return nil, err
	}
	l.group = appendfile.NewGroup(l.commit)
	return l, nil
}

func (l *Ledger) load(path string) error {
	w := &l.writer
	size := w.file.Size()
	s, err := scan(w.file, size, l.public(), w.note)
	if err != nil {
		return err
	}
	if s.end == 0 && l.opt.MustExist {
		return fmt.Errorf("ledger: %s is empty: %w", path, fs.ErrNotExist)
	}
	if s.end > 0 && s.instance != l.opt.Instance {
		return ErrForeign
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if err := w.file.Cut(s.end); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if s.end == 0 {
		if err := w.begin(l.opt.Instance); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
	} else if l.recovered = size - s.end; l.recovered > 0 {
		l.opt.Logger.Warn("erasure ledger ended in a torn entry, which was cut off", "bytes", l.recovered, "seq", s.head.Seq)
	}
	w.head = s.head
	w.file.SetCheck(l.checkFile)
	l.head = s.head
	l.health.Set(w.file.Mark(), nil)
	return nil
}

func (l *Ledger) public() ed25519.PublicKey { return l.signer.Public().(ed25519.PublicKey) }

// Append makes entries durable, in their order, each following the one before. Those that the ledger has already are
// passed over, so a call may be repeated; calls may overlap. Either all are in the ledger or the error says why
// not. A ctx that has ended keeps them from being queued; after that the outcome is waited for.
func (l *Ledger) Append(ctx context.Context, entries []Entry) error {
	r := &request{entries: make([]signed, len(entries))}
	head := l.Head()
	for i, e := range entries {
		if err := e.check(); err != nil {
			return err
		}
		r.entries[i] = signed{Entry: e, hash: e.Hash()}
		if i > 0 && e.Seq != entries[i-1].Seq+1 {
			return ErrGap
		}
		// Here rather than in the writer, where all would wait for it.
		if e.Seq > head.Seq {
			r.entries[i].signature = ed25519.Sign(l.signer, r.entries[i].hash[:])
		}
	}
	return l.do(ctx, r)
}

func (l *Ledger) do(ctx context.Context, r *request) error {
	if err := l.group.Do(ctx, r); err != nil {
		if errors.Is(err, appendfile.ErrClosed) {
			return ErrClosed
		}
		return err
	}
	return r.err
}

// Head returns the newest durable entry.
func (l *Ledger) Head() Head {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.head
}

// Recovered is the number of bytes of a torn end that Open cut off.
func (l *Ledger) Recovered() int64 { return l.recovered }

// Ready returns nil when the next Append can be expected to succeed. After a failure it tries to mend it, at most
// once a second, so that a ledger without traffic becomes ready again too.
func (l *Ledger) Ready() error {
	return unavailable(l.health.Ready(l.opt.Now(), func() error { return l.do(context.Background(), &request{}) }))
}

// unavailable wraps err in ErrUnavailable once.
func unavailable(err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// Close waits for running Appends and releases the file. Later calls of Append answer ErrClosed.
func (l *Ledger) Close() error {
	l.closing.Do(func() {
		l.group.Close()
		l.health.Set(l.writer.file.Mark(), ErrClosed)
		l.closed = l.writer.file.Close()
	})
	return l.closed
}
