package vault

import "github.com/cloakroom-io/cloakroom/keys"

// HierarchyOf gives tests the keys that rows are opened with.
func HierarchyOf(u *Unlocked) *keys.Hierarchy { return u.keys }

// Working tells how many jobs a vault works on.
func Working(v *Vault) int {
	v.jobs.mu.Lock()
	defer v.jobs.mu.Unlock()
	return len(v.jobs.running)
}
