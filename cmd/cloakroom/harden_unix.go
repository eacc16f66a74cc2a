//go:build unix && !linux

package main

import (
	"os/signal"
	"syscall"
)

// harden prepares the process for holding keys: no core dumps, files for their owner alone, and a file size limit
// that is an error of the write rather than the end of the process.
func harden() error {
	syscall.Umask(0o077)
	signal.Ignore(syscall.SIGXFSZ)
	return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}
