// Command cloakroom is the server and its command line.
//
//	cloakroom serve      hold values, hand out tokens
//	cloakroom demo       see what it does, with nothing installed
//	cloakroom --help     everything else
//
// This package chooses the drivers (store, key service) and wires them up in internal/installation; it holds no rule of
// the domain. Each noun of the command line is one file. Client commands speak HTTP through package client, also to a
// server on the same machine.
//
// Values and tokens never stand on the command line, since any user of a machine can list the arguments of all its
// processes: they come from standard input, a prompt or a file.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// A write to a closed pipe is an ordinary error here, so that `cloakroom subject list | head` ends the work and not
	// the process in the middle of it.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := newProgram().run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
