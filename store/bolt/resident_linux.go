package bolt

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// mappedStat reads how much of the process's resident memory is file pages: the third number in
// /proc/self/statm, in pages (proc_pid_statm(5)).
type mappedStat struct {
	statm *os.File
	page  int64
}

func (m *mappedStat) open() bool {
	f, err := os.Open("/proc/self/statm")
	if err != nil {
		return false
	}
	m.statm, m.page = f, int64(os.Getpagesize())
	return true
}

func (m *mappedStat) close() {
	if m.statm != nil {
		_ = m.statm.Close()
	}
}

// bytes returns 0 when the number cannot be read: no memory is then let go of, and nothing breaks.
func (m *mappedStat) bytes() int64 {
	var b [128]byte
	n, _ := m.statm.ReadAt(b[:], 0)
	fields := bytes.Fields(b[:n])
	if len(fields) < 3 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[2]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * m.page
}

// letGo drops the page table entries of a shared, read-only mapping of a file. The pages stay in the page cache, and
// the next read finds them there. The caller holds the mapping in place.
func letGo(addr, length uintptr) {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, addr, length, unix.MADV_DONTNEED)
}
