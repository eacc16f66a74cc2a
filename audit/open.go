package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/appendfile"
)

// Open opens the log in the folder dir, or begins one when the folder is empty or missing (its parent must be there).
// It verifies from the segment of the last checkpointed entry on and cuts off a torn end (see Recovered); any other
// damage is a CorruptError, a folder that another process writes is an error that wraps appendfile.ErrLocked.
func Open(dir string, opt Options) (*Log, error) {
	if opt.Origin == "" {
		opt.Origin = DefaultOrigin
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.segmentBytes == 0 {
		opt.segmentBytes = segmentBytes
	}
	if opt.checkpointEvery == 0 {
		opt.checkpointEvery = checkpointEvery
	}
	origin := opt.Origin
	if opt.Instance != "" {
		origin += "/" + opt.Instance
	}
	signer, err := newSigner(origin, opt.Signer)
	if err != nil {
		return nil, err
	}
	folder, err := openFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	l := &Log{dir: dir, opt: opt, signer: signer, folder: folder, stop: make(chan struct{})}
	l.bodies.New = func() any { return new([]byte) }
	if err := l.load(); err != nil {
		if l.writer.file != nil {
			_ = l.writer.file.Close()
		}
		_ = folder.Close()
		return nil, err
	}
	l.group = appendfile.NewGroup(l.commit)
	l.stopped.Add(1)
	go l.keepCheckpoints()
	return l, nil
}

// openFolder makes the folder if need be and locks it.
func openFolder(dir string) (*os.File, error) {
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = appendfile.SyncFolder(filepath.Dir(dir))
	} else if errors.Is(err, fs.ErrExist) {
		err = os.Chmod(dir, 0o700)
	}
	if err != nil {
		return nil, err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := appendfile.Lock(folder); err != nil {
		_ = folder.Close()
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return folder, nil
}

// load reads what is there, or begins.
func (l *Log) load() error {
	segments, err := listSegments(l.dir)
	if err != nil {
		return err
	}
	signed, err := readCheckpoint(l.dir, l.signer)
	first := Head{0, genesis(l.signer.Name())}
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(segments) == 0:
		// The checkpoint comes first, so that from now on one that is missing was taken away.
		if err := writeCheckpoint(l.dir, first, l.signer); err != nil {
			return fmt.Errorf("audit: checkpoint: %w", err)
		}
		signed = first
	case errors.Is(err, fs.ErrNotExist):
		return &CorruptError{checkpointName, 0, "missing"}
	case err != nil:
		return err
	}
	if len(segments) == 0 {
		if signed.Size > 0 {
			return &CorruptError{newSegment(0).name, 0, "missing"}
		}
		segments = []segment{newSegment(0)}
	}
	l.segments, l.checkpointed = segments, signed
	if err := l.follow(signed); err != nil {
		return err
	}
	l.head = l.writer.chain.head
	l.health.Set(l.writer.file.Mark(), nil)
	if l.recovered > 0 {
		l.opt.Logger.Warn("audit log ended in a torn entry, which was cut off", "bytes", l.recovered, "size", l.head.Size)
	}
	return l.checkpoint()
}

// follow verifies the end of the log and opens it for writing.
func (l *Log) follow(signed Head) error {
	// The segment of the last entry that the checkpoint signs for.
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].first >= signed.Size }) - 1
	i = max(i, 0)
	start := Head{0, genesis(l.signer.Name())}
	if i > 0 {
		before, err := endOf(l.dir, l.segments[i-1])
		if err != nil {
			return &CorruptError{l.segments[i-1].name, l.segments[i].first - 1, "not the entry before the next file"}
		}
		start = before
	}
	c := newChain(start)
	met := c.head == signed
	meet := func(entry) error {
		met = met || c.head == signed
		if c.head.Size == signed.Size && !met {
			return &CorruptError{l.segments[i].name, c.head.Size - 1, "not the entry that the checkpoint signs for"}
		}
		return nil
	}
	for ; i < len(l.segments); i++ {
		s := l.segments[i]
		if s.first != c.head.Size {
			return &CorruptError{newSegment(c.head.Size).name, c.head.Size, "missing"}
		}
		last := i == len(l.segments)-1
		start := c.head
		if !last {
			if err := l.scanSegment(context.Background(), s, c, meet); err != nil {
				return err
			}
			continue
		}
		if err := l.openLast(s, c, signed, meet); err != nil {
			return err
		}
		l.writer.chain = c
		l.adopt(l.writer.file, start)
	}
	if !met {
		return &CorruptError{l.segments[len(l.segments)-1].name, c.head.Size, "missing, though the checkpoint signs for it"}
	}
	return nil
}

func (l *Log) openLast(s segment, c *chain, signed Head, meet func(entry) error) error {
	file, err := appendfile.Open(l.path(s), true)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	l.writer.file = file
	read, err := os.Open(l.path(s))
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer read.Close()
	end, err := readSegment(context.Background(), read, s.name, c, meet)
	if errors.Is(err, errTorn) && c.head.Size >= signed.Size {
		l.recovered = file.Size() - end
		err = file.Cut(end)
	}
	return err
}
