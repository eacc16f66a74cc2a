// Package systemtest holds tests of the whole of Cloakroom from outside: they build the real binary, run
// `cloakroom serve` as a process of its own on real files, and speak HTTP to it. What other packages prove of their
// part by part is proved here of all parts together:
//
//	plaintext_test.go   no value, id, token or key stands in a file, a log line, a header, an error or a metric
//	kill_test.go        the process is killed again and again: what was answered holds, what was shown is recorded
//	fault_test.go       the audit log or the keyring goes away and comes back
//	full_linux_test.go  the disk is full, and then is not
//	refuse_test.go      starts that must be refused, and ends that must be orderly
//	abuse_test.go       requests that nobody should send
//	first_test.go       the first start, also when it is cut short
//	damage_test.go      bytes of the store are altered
//	memory_linux_test.go  what the process holds in memory
//
// The binary is built with the race detector when the tests are. Nothing here runs in parallel with another test: load
// is part of most of them.
package systemtest
