package systemtest

import (
	"syscall"
	"testing"
)

func inChild(m *testing.M) (int, error) { return m.Run(), nil }

func asNobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}
