package main

import (
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// harden prepares the process for holding keys: no core dumps, no reading by other processes of the same user, files
// for their owner alone, and a file size limit that is an error of the write rather than the end of the process.
func harden() error {
	syscall.Umask(0o077)
	signal.Ignore(syscall.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
