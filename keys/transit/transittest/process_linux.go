package transittest

import (
	"os/exec"
	"syscall"
)

// dieWithParent ends the server when the test process dies without cleaning up.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
