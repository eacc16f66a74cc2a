// Package audit writes down who did what to whose data, and why, before it happens.
//
// Append returns only when an entry is on disk; the vault then shows the data or makes the change. If the log cannot
// be written, Append fails and so does the call: nothing is revealed that is not recorded. Entries hold no value and
// no token, only keyed digests of subjects and tokens.
//
// # Files
//
// A log is a folder (0700) with two kinds of files (0600):
//
//	entries-0000000000000000.jsonl   one entry a line; the name has the index of the first one, 16 decimal digits
//	checkpoint                       how far the log goes, signed
//
// A new segment begins when one has reached 64 MiB. A line is a JSON object with the members in this order, no
// spaces, empty members left out:
//
//	{"i":7,"prev":"...","time":"2026-01-02T03:04:05.678Z","request_id":"...","service":"...","credential":"...",
//	 "action":"...","purpose":"...","reason":"...","policy":3,"source":"...","code":"...","items":[...]}
//
// An item has one letter a member: outcome, subject, token, field, view. Digests are unpadded base64url.
//
//	{"o":"ok","s":"...","t":"...","f":"phone","v":"full"}
//
// Each entry names the hash of the one before it, so that none can be changed, left out or moved:
//
//	hash(-1) = SHA-256("cloakroom/audit/1\0" || origin)
//	hash(i)  = SHA-256(hash(i-1) || line i without its line feed)
//	prev     = hash(i-1), unpadded base64url
//
// The chain alone does not stop someone who writes it anew from some entry on. The checkpoint does: a signed note
// (C2SP signed-note, Ed25519) with three lines: the origin, the number of entries, the hash of the last one in
// base64. It is written at most each second in which entries came, and at Close; entries behind it are chained
// but not yet signed for. The origin names the log and its instance, and is the name of the key as well.
//
// # Opening and verifying
//
// Open verifies the segment that holds the last checkpointed entry and all that follow, and that it continues the
// file before it; Verify reads everything. After a crash the last line may be torn: Open cuts it off and reports it.
// Anything else that does not fit is a CorruptError, and Open refuses.
package audit
