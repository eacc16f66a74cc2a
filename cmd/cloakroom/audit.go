package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/cloakroom-io/cloakroom/audit"
)

func (p *program) auditCommand() *cobra.Command {
	return group("audit", "The audit log: who did what to whose data, and why", p.auditVerify(), p.auditTail())
}

func (p *program) auditVerify() *cobra.Command {
	var key string
	c := &cobra.Command{
		Use:   "verify FOLDER --key FILE",
		Short: "Verify the whole log, without a server",
		Long: `Verify every entry of an audit log and its signed checkpoint against the log's public key (DATA/audit.pub, or the
copy that you keep of it). The log may be written meanwhile.`,
		Example: "  cloakroom audit verify cloakroom-data/audit --key audit.pub",
		Args:    exactly("FOLDER"),
		RunE: func(_ *cobra.Command, args []string) error {
			public, err := publicKey(key, "audit.pub")
			if err != nil {
				return err
			}
			if err := findLog(args[0]); err != nil {
				return err
			}
			r, err := audit.Verify(args[0], public)
			if err != nil {
				return fmt.Errorf("%s: not verified: %w", args[0], err)
			}
			type verified struct {
				Verified     bool   `json:"verified"`
				Entries      uint64 `json:"entries"`
				Checkpointed uint64 `json:"checkpointed"`
				Torn         int64  `json:"torn_bytes"`
			}
			out := verified{true, r.Entries, r.Checkpointed, r.Torn}
			return p.print(out, func() *table {
				t := newTable("AUDIT LOG", "VERIFIED with "+key)
				t.add("entries", strconv.FormatUint(r.Entries, 10))
				t.add("signed for", strconv.FormatUint(r.Checkpointed, 10))
				if open := r.Entries - r.Checkpointed; open > 0 {
					t.add("not yet signed for", strconv.FormatUint(open, 10))
				}
				if r.Torn > 0 {
					t.add("unfinished bytes at the end", strconv.FormatInt(r.Torn, 10))
				}
				return t
			})
		},
	}
	c.Flags().StringVar(&key, "key", "", "the public key's `file`, audit.pub")
	return c
}

// findLog tells a wrong folder from a log with something missing.
func findLog(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no folder %s; give the folder of an audit log, such as DATA/audit", dir)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no folder; give the folder of an audit log, such as DATA/audit", dir)
	}
	if _, err := os.Lstat(filepath.Join(dir, "checkpoint")); err == nil {
		return nil
	}
	if _, err := segments(dir); err != nil {
		return fmt.Errorf("not verified: %s holds neither a checkpoint nor entries; if it is the right folder, the whole log was taken away", dir)
	}
	return nil
}

// entry is what is shown of one line of the log.
type entry struct {
	Index   uint64    `json:"i"`
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	Action  string    `json:"action"`
	Purpose string    `json:"purpose"`
	Code    string    `json:"code"`
	Items   []struct {
		Outcome string `json:"o"`
		Field   string `json:"f"`
	} `json:"items"`
}

func (p *program) auditTail() *cobra.Command {
	var count int
	var follow bool
	c := &cobra.Command{
		Use:   "tail [FOLDER]",
		Short: "Print the newest entries of the log on this machine",
		Long: `Print the newest entries of the log in FOLDER, by default DATA/audit on this machine. Entries hold digests, never a
value or a token. With --json each is printed as it stands in the log. It does not verify: see audit verify.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("audit tail takes one folder")
			}
			if count < 0 || count > 1_000_000 {
				return usage("--lines is 0 to 1000000")
			}
			dir := filepath.Join(p.conn.folder(p.lookup), "audit")
			if len(args) == 1 {
				dir = args[0]
			}
			return p.tail(c.Context(), dir, count, follow)
		},
	}
	c.Flags().IntVarP(&count, "lines", "n", 20, "how many entries")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new entries until interrupted")
	c.Flags().StringVar(&p.conn.data, "data", "", "data `folder` (CLOAKROOM_DATA)")
	return c
}

func (p *program) tail(ctx context.Context, dir string, count int, follow bool) error {
	lines, at, err := newest(dir, count)
	if err != nil {
		return err
	}
	if !p.json {
		if err := p.printf("%8s  %-20s  %-12s  %-12s  %-10s  %s\n", "ENTRY", "TIME", "SERVICE", "ACTION", "PURPOSE", "OUTCOME"); err != nil {
			return err
		}
	}
	for {
		for _, line := range lines {
			if err := p.printEntry(line); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(300 * time.Millisecond):
		}
		if lines, at, err = at.next(dir); err != nil {
			return err
		}
	}
}

func (p *program) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(p.out, format, args...)
	return err
}

func (p *program) printEntry(line []byte) error {
	if p.json {
		return p.printf("%s\n", line)
	}
	var e entry
	if json.Unmarshal(line, &e) != nil {
		return errors.New("the log has a line that is no entry; see: cloakroom audit verify")
	}
	outcomes, order := map[string]int{}, []string{}
	for _, it := range e.Items {
		if outcomes[it.Outcome]++; outcomes[it.Outcome] == 1 {
			order = append(order, it.Outcome)
		}
	}
	var parts []string
	if e.Code != "" {
		parts = append(parts, e.Code)
	}
	for _, o := range order {
		parts = append(parts, fmt.Sprintf("%d %s", outcomes[o], o))
	}
	if len(parts) == 0 {
		parts = []string{"ok"}
	}
	return p.printf("%8d  %-20s  %-12s  %-12s  %-10s  %s\n", e.Index, clock(e.Time),
		printable(e.Service), printable(e.Action), printable(e.Purpose), printable(strings.Join(parts, ", ")))
}

// place is how far a log was read.
type place struct {
	segment string
	offset  int64
}

func segments(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "entries-*.jsonl"))
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("there is no audit log in %s; name its folder, or the data folder with --data", dir)
	}
	slices.Sort(names)
	return names, nil
}

// newest returns the last count lines, the oldest first.
func newest(dir string, count int) ([][]byte, place, error) {
	names, err := segments(dir)
	if err != nil {
		return nil, place{}, err
	}
	at := place{segment: names[len(names)-1]}
	var out [][]byte
	for i := len(names) - 1; i >= 0 && (len(out) < count || i == len(names)-1); i-- {
		lines, end, err := readLines(names[i], 0)
		if err != nil {
			return nil, at, err
		}
		if i == len(names)-1 {
			at.offset = end
		}
		out = append(lines, out...)
	}
	return out[max(0, len(out)-count):], at, nil
}

// next returns the lines behind at.
func (at place) next(dir string) ([][]byte, place, error) {
	lines, end, err := readLines(at.segment, at.offset)
	if err != nil {
		return nil, at, err
	}
	if at.offset = end; len(lines) > 0 {
		return lines, at, nil
	}
	names, err := segments(dir)
	if err != nil {
		return nil, at, err
	}
	if i, ok := slices.BinarySearch(names, at.segment); ok && i+1 < len(names) {
		at = place{segment: names[i+1]}
	}
	return nil, at, nil
}

// readLines reads the complete lines of a segment from offset on. A segment is not much longer than 64 MiB.
func readLines(path string, offset int64) (lines [][]byte, end int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, offset, err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, offset, err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, offset, err
	}
	whole := bytes.LastIndexByte(text, '\n') + 1
	for line := range bytes.Lines(text[:whole]) {
		lines = append(lines, bytes.TrimSuffix(line, []byte{'\n'}))
	}
	return lines, offset + int64(whole), nil
}
