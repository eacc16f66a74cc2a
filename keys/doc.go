// Package keys turns keys and plaintext into the bytes of rows, and back. It moves no row itself: package vault does.
//
// Whoever keeps an old copy of the store must not be able to read from it what was erased since. A key service that
// wraps one key per person is not enough, for the wrapped key stands in the copy too, and the service still opens it.
// So everything about a person lies under a second layer as well, a tree whose root can be destroyed:
//
//	key service, root key
//	  └─ ER            epoch root, one at a time; its old versions are destroyed at the key service
//	      ├─ BK_b      4096 bucket keys, and one for idempotency rows; a subject's bucket: 12 bits of its SID
//	      │   ├─ subject key row   SK, and the data key wrapped by the key service
//	      │   │   └─ SK            seals the body row; each write of a body takes a new one
//	      │   │       └─ VK        random, kept in the body; seals one large value row
//	      │   └─ token rows, idempotency rows
//	      ├─ IXK_x     index partition keys; a subject's partition: the next bits of its SID
//	      │   └─ blind index rows
//	      └─ service keys: sid, tok, idem, audit, index, sign
//
//	key service, data key
//	  └─ DEK           one per person, in the subject key row, opened by the key service in batches
//	      └─ field records
//
// A bucket or partition in which something was erased gets a new key, and everything still alive in it is sealed anew.
// Its key's number is the generation; each row names the one it was sealed with. When the epoch root changes too
// and the old one can no longer be unwrapped, no old copy opens anything of what was left behind.
//
// Hierarchy holds the left part of the drawing, unlocked. DEKs asks the key service for data keys and keeps them for a
// minute; it makes new ones too, some ahead of time. Services is two key services while keys move from one to the other.
// SealRecord and OpenRecord are the innermost layer, a value under its person's key.
//
// All row formats are drawn in docs/design.md. In this package LP(x) is u16 length ‖ x, and integers are big-endian.
package keys
