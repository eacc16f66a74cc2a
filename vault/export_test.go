package vault

import "github.com/cloakroom-io/cloakroom/keys"

// HierarchyOf gives tests the keys that rows are opened with.
func HierarchyOf(u *Unlocked) *keys.Hierarchy { return u.keys }
