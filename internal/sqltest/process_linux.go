package sqltest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// tie ends the program when the test process dies without cleaning up, by a signal on which PostgreSQL gives its shared
// memory back. Root hands it to another user, because neither server likes to run as root.
func tie(cmd *exec.Cmd, name string) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := owner(name)
	if err != nil {
		return err
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}

// give makes a file the user's, when we are root.
func give(path, name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := owner(name)
	if err != nil {
		return err
	}
	return os.Chown(path, uid, gid)
}

// owner looks a user up, or nobody in its place.
func owner(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("whom to run %s as: %w", name, err)
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}
