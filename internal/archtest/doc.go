// Package archtest keeps the shape of Cloakroom by tests, so that no reader has to remember it.
//
// Imports run one way, from the program to the leaves:
//
//	cmd -> anything        api -> vault, api/wire        client -> api/wire
//	vault -> tokenizer, keys, policy, audit, store       (these five import none of each other)
//	drivers (keys/local, store/bolt, ...) -> their parent
//	support of tests (store/storetest, vault/vaulttest, ...) <- tests only
//
// and a third party's code stays behind one door: gin under api, HashiCorp's client under keys/transit, bbolt under
// store/bolt, pgx under store/postgres. Beside imports, the tests hold source files to a length, folders to names
// that say something, and tests to being run.
//
// A fault names the package, what it imports and the rule. Who needs another arrow changes the rule here, in the
// same change and on purpose.
package archtest
