//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package appendfile

import "os"

// Lock does nothing here: this system has no flock. The store's own lock keeps a second server away.
func Lock(*os.File) error { return nil }
