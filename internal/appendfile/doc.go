// Package appendfile keeps files that only grow, whose owner must know for certain what is on disk.
//
// A File has a durable end: everything before it was written and synced without an error. Bytes are staged behind
// that end and become part of it in one Commit, a single fsync. When anything fails on the way, nothing of the
// stage counts: the file stands as failed, and the next Begin mends it by cutting back to the durable end,
// because after a failed fsync it cannot be told which bytes are on disk. So staged bytes are always written anew.
//
// A log is evidence only while it lies where people look for it. Begin therefore compares the file at the path with
// the one that is open. When it was moved away, nothing is accepted until it is back, or until another file holds
// the same content up to the durable end; the owner of the content checks that.
//
// Group lets many goroutines share one fsync: one writer takes all requests that wait and answers them together.
package appendfile
