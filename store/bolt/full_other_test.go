//go:build !linux

package bolt

func fillDisk(string, string) error { return errRefused }
