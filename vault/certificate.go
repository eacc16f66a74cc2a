package vault

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Certificate is the proof of an erasure, as canonical JSON (RFC 8785) signed with Ed25519 (RFC 8032). It names only
// what was measured.
type Certificate struct {
	Erasure       string    `json:"erasure"`        // id, for GET /v1/erasures/{id}
	Level         int       `json:"level"`          // 1: this service no longer decrypts what was erased
	Instance      string    `json:"instance"`       // hex
	What          string    `json:"what"`           // "subject" or "field"
	SubjectDigest string    `json:"subject_digest"` // keyed digest, the same as in the audit log
	Field         string    `json:"field,omitzero"`
	ErasedAt      time.Time `json:"erased_at"`
	KeyVersion    uint32    `json:"key_version"`            // the subject's data key: it and all before it are gone (subject), or the one the field was under
	FieldVersion  uint64    `json:"field_version,omitzero"` // the field's versions up to this one are gone
	Bucket        uint16    `json:"bucket"`
	Generation    uint64    `json:"generation"` // of the bucket key that still seals it in older copies of the store
	Partition     uint16    `json:"partition"`
	PartitionGen  uint64    `json:"partition_generation"`
	Epoch         uint64    `json:"epoch"`
	KMS           string    `json:"kms"`
	AuditIndex    uint64    `json:"audit_index"` // entry of the audit log that recorded the call
	Claim         string    `json:"claim"`
	NotClaimed    []string  `json:"not_claimed"`
	KeyID         string    `json:"key_id"`
	Signature     string    `json:"signature,omitzero"` // base64, over the canonical JSON without this member
}

const (
	claimLevel1 = "From the time of erasure on this service no longer decrypts what was erased."

	certificateKeyPrefix = "cloakroom-certificate+"
)

// notClaimed is what no level 1 certificate says; it stands in each, so that nobody reads more into one.
func notClaimed(kms string) []string {
	out := []string{
		"anything about older copies of the store: they need a higher level",
		"data already revealed or exported",
		"swap, core dumps and keys taken from memory",
		"whether the external id was once known here",
		"anonymity of tokens that others still hold",
	}
	if kms == "local-file" {
		out = append(out, "copies and disk remnants of the keyring file")
	}
	return out
}

// certifier signs certificates under the installation's certificate key.
type certifier struct {
	key ed25519.PrivateKey
	id  string
}

func newCertifier(key ed25519.PrivateKey) certifier {
	return certifier{key, keyID(key.Public().(ed25519.PublicKey))}
}

func keyID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:8])
}

// PublicKey is the line that DIR/certificate.pub holds: prefix, key id and the public key in base64.
func (c certifier) PublicKey() string {
	public := c.key.Public().(ed25519.PublicKey)
	return certificateKeyPrefix + c.id + "+" + base64.StdEncoding.EncodeToString(public)
}

// sign completes the certificate and returns its canonical JSON.
func (c certifier) sign(cert Certificate) ([]byte, error) {
	cert.KeyID, cert.Signature = c.id, ""
	msg, err := canonical(cert)
	if err != nil {
		return nil, err
	}
	cert.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(c.key, msg))
	return canonical(cert)
}

func canonical(cert Certificate) ([]byte, error) {
	out, err := json.Marshal(cert)
	if err != nil {
		return nil, err
	}
	v := jsontext.Value(out)
	err = v.Canonicalize()
	return v, err
}

// What VerifyCertificate can find wrong.
var (
	ErrCertificateForm      = errors.New("not a certificate of erasure")
	ErrCertificateKey       = errors.New("not a certificate key: expected a line cloakroom-certificate+<id>+<base64>")
	ErrCertificateOtherKey  = errors.New("signed by another key than the one given")
	ErrCertificateSignature = errors.New("the signature does not match: the certificate was altered")
)

// VerifyCertificate checks a certificate against the line of a certificate.pub, offline. It cannot know of a
// revocation that came later. Members that it does not know are refused: an altered certificate must not pass for a
// newer one.
func VerifyCertificate(certificate []byte, publicKey string) (Certificate, error) {
	var cert Certificate
	line, prefixed := strings.CutPrefix(strings.TrimSpace(publicKey), certificateKeyPrefix)
	id, key, ok := strings.Cut(line, "+")
	public, err := base64.StdEncoding.Strict().DecodeString(key)
	if !prefixed || !ok || err != nil || len(public) != ed25519.PublicKeySize || keyID(public) != id {
		return cert, ErrCertificateKey
	}
	if len(certificate) > 1<<20 {
		return cert, ErrCertificateForm
	}
	if err := json.Unmarshal(certificate, &cert, json.RejectUnknownMembers(true)); err != nil {
		return cert, fmt.Errorf("%w: unknown or malformed members", ErrCertificateForm)
	}
	if cert.KeyID != id {
		return cert, fmt.Errorf("%w: it names %q", ErrCertificateOtherKey, cert.KeyID)
	}
	// One spelling only: base64 leaves bits of its last character unused, and decoders pass over line breaks.
	signature, err := base64.StdEncoding.DecodeString(cert.Signature)
	if err != nil || base64.StdEncoding.EncodeToString(signature) != cert.Signature {
		return cert, ErrCertificateSignature
	}
	// What was signed is the text as it stands, less the signature: going through the struct would let two
	// spellings of one member pass for each other.
	var members map[string]jsontext.Value
	if err := json.Unmarshal(certificate, &members); err != nil {
		return cert, ErrCertificateForm
	}
	delete(members, "signature")
	text, err := json.Marshal(members)
	if err != nil {
		return cert, ErrCertificateForm
	}
	msg := jsontext.Value(text)
	if err := msg.Canonicalize(); err != nil {
		return cert, ErrCertificateForm
	}
	if !ed25519.Verify(public, msg, signature) {
		return cert, ErrCertificateSignature
	}
	return cert, nil
}
