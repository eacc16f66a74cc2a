package keys

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// SID returns the subject's place in the store: HMAC-SHA256(K_sid, LP(tenant) ‖ external id)[:16].
func (h *Hierarchy) SID(externalID string) SID {
	if h.use() != nil {
		return SID{}
	}
	defer h.done()
	sum := h.sid.with(func(in []byte) []byte { return append(appendLP(in, Tenant), externalID...) })
	return SID(sum[:16])
}

// TokenRowKey returns the key of the token's row: HMAC-SHA256(K_tok, token)[:16].
func (h *Hierarchy) TokenRowKey(token string) [16]byte {
	if h.use() != nil {
		return [16]byte{}
	}
	defer h.done()
	sum := h.token.with(func(in []byte) []byte { return append(in, token...) })
	return [16]byte(sum[:16])
}

// IdempotencyRowKey returns the key of the row of a caller's idempotency key:
// HMAC-SHA256(K_idem, LP(credential) ‖ LP(key))[:16]. The credential's name is at most 65535 bytes.
func (h *Hierarchy) IdempotencyRowKey(credential, key string) [16]byte {
	if h.use() != nil {
		return [16]byte{}
	}
	defer h.done()
	sum := h.idemRow.with(func(in []byte) []byte { return appendLP(appendLP(in, credential), key) })
	return [16]byte(sum[:16])
}

// IdempotencyDigest returns what tells two requests apart: HMAC-SHA256 under HKDF(K_idem, "cloakroom/digest/1") of each
// part after its length as u64.
func (h *Hierarchy) IdempotencyDigest(parts ...[]byte) [32]byte {
	if h.use() != nil {
		return [32]byte{}
	}
	defer h.done()
	return h.idemDigest.framed(parts...)
}

// AuditDigest returns what stands in the audit log for something that must not stand there itself, of a kind such as
// "subject", "sid" or "token": HMAC-SHA256(K_audit, …)[:16] of the kind and each part, each after its length as u64.
func (h *Hierarchy) AuditDigest(kind string, parts ...[]byte) [16]byte {
	if h.use() != nil {
		return [16]byte{}
	}
	defer h.done()
	sum := h.audit.framed(append([][]byte{[]byte(kind)}, parts...)...)
	return [16]byte(sum[:16])
}

// IndexInput returns p, what the blind index knows of a value:
// HMAC-SHA256(HKDF(IK, "cloakroom/field/1\0" ‖ field), u16 normaliser version ‖ canonical value).
func (h *Hierarchy) IndexInput(field string, normaliser uint16, canonical string) [32]byte {
	if h.use() != nil {
		return [32]byte{}
	}
	defer h.done()
	key := h.index.expand("cloakroom/field/1\x00" + field)
	defer clear(key[:])
	in := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(canonical)), normaliser), canonical...)
	defer clear(in)
	m := hmac.New(sha256.New, key[:])
	m.Write(in)
	return [32]byte(m.Sum(nil))
}

// Signer returns the signing key of a purpose ("certificate", "audit", "ledger"); its seed is
// HKDF(signing seed, "cloakroom/sign/" ‖ purpose ‖ "/1"). It is nil after Wipe, so callers take theirs at start.
func (h *Hierarchy) Signer(purpose string) ed25519.PrivateKey {
	if h.use() != nil {
		return nil
	}
	defer h.done()
	seed := h.sign.expand("cloakroom/sign/" + purpose + "/1")
	defer clear(seed[:])
	return ed25519.NewKeyFromSeed(seed[:])
}
