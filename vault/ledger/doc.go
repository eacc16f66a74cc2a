// Package ledger keeps the erasure ledger: the one file that says who must stay erased.
//
// A backup from before an erasure still has the person. A restore therefore replays the ledger, which lies outside
// the data folder and outside every backup, so that no backup brings an older ledger with it. It only grows; each
// entry names the hash of the one before and is signed, so that none can be changed, left out or slipped in.
//
// The file is a header and entries, integers big-endian, LP(x) = u16 length || x:
//
//	header   "CRLEDGR" || 01 || instance (16)
//	entry    u64 seq || hash of the entry before (32) || LP(tombstone) || Ed25519 signature (64)
//
// An entry's hash is SHA-256 over its bytes without the signature, which signs the hash. seq starts at 1; the first
// entry names 32 zero bytes. A tombstone is opaque here, 1 to 4096 bytes.
//
// The file alone does not show that its newest entries were cut off; the store keeps the Head to compare with.
package ledger
