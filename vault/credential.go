package vault

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash/crc32"
	"io"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// A credential is `ck_<id>_<secret><checksum>`: 10, 43 and 6 characters of base62. The secret has 256 random bits, so
// that an unsalted SHA-256 of the whole is enough to store; the checksum, the CRC-32 of what stands before it, lets
// scanners recognise a leaked one and the server refuse a mistyped one without a look-up.
const (
	credentialPrefix = "ck_"
	credentialID     = 10
	credentialSecret = 43
	credentialSum    = 6
	credentialLen    = len(credentialPrefix) + credentialID + 1 + credentialSecret + credentialSum
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// NewCredential is a credential on its way to its holder: the only time that Key is known.
type NewCredential struct {
	Service, Role string
	ID            string
	Key           secret.Text
}

// Mint makes a credential for a service.
func Mint(random io.Reader, service, role string) (NewCredential, error) {
	text, err := randomBase62(random, credentialID+credentialSecret)
	if err != nil {
		return NewCredential{}, err
	}
	id := text[:credentialID]
	key := credentialPrefix + id + "_" + text[credentialID:]
	return NewCredential{service, role, id, secret.NewText(key + checksum(key))}, nil
}

// parseCredential returns the id of a well-formed credential.
func parseCredential(key string) (id string, ok bool) {
	if len(key) != credentialLen || !strings.HasPrefix(key, credentialPrefix) || key[len(credentialPrefix)+credentialID] != '_' {
		return "", false
	}
	body, sum := key[:credentialLen-credentialSum], key[credentialLen-credentialSum:]
	if subtle.ConstantTimeCompare([]byte(checksum(body)), []byte(sum)) != 1 {
		return "", false
	}
	id = key[len(credentialPrefix):][:credentialID]
	for i := range len(id) {
		if strings.IndexByte(base62, id[i]) < 0 {
			return "", false
		}
	}
	return id, true
}

func checksum(s string) string {
	n := crc32.ChecksumIEEE([]byte(s))
	var out [credentialSum]byte
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = base62[n%62]
		n /= 62
	}
	return string(out[:])
}

// randomBase62 draws n characters evenly: bytes above 4 x 62 are thrown away.
func randomBase62(random io.Reader, n int) (string, error) {
	out := make([]byte, 0, n)
	buf := make([]byte, n+n/8+8)
	for len(out) < n {
		if _, err := io.ReadFull(random, buf); err != nil {
			return "", err
		}
		for _, c := range buf {
			if c < 4*62 && len(out) < n {
				out = append(out, base62[c%62])
			}
		}
	}
	clear(buf)
	return string(out), nil
}

// credentialRow is `01 ‖ LP(service) ‖ SHA-256 ‖ u64 created ‖ u8 disabled`.
type credentialRow struct {
	service  string
	digest   [sha256.Size]byte
	created  uint64 // milliseconds since 1970 UTC
	disabled bool
}

func (c *credentialRow) marshal() []byte {
	out := appendLP([]byte{1}, c.service)
	out = append(out, c.digest[:]...)
	out = binary.BigEndian.AppendUint64(out, c.created)
	return append(out, flag(c.disabled))
}

func parseCredentialRow(data []byte) (c credentialRow, ok bool) {
	var version, disabled uint8
	var service cryptobyte.String
	s := cryptobyte.String(data)
	ok = s.ReadUint8(&version) && version == 1 && s.ReadUint16LengthPrefixed(&service) && s.CopyBytes(c.digest[:]) &&
		s.ReadUint64(&c.created) && s.ReadUint8(&disabled) && disabled <= 1 && s.Empty()
	c.service, c.disabled = string(service), disabled == 1
	return c, ok
}

// serviceRow is `01 ‖ LP(role) ‖ u64 created ‖ u8 disabled`.
type serviceRow struct {
	role     string
	created  uint64
	disabled bool
}

func (r *serviceRow) marshal() []byte {
	out := appendLP([]byte{1}, r.role)
	out = binary.BigEndian.AppendUint64(out, r.created)
	return append(out, flag(r.disabled))
}

func parseServiceRow(data []byte) (r serviceRow, ok bool) {
	var version, disabled uint8
	var role cryptobyte.String
	s := cryptobyte.String(data)
	ok = s.ReadUint8(&version) && version == 1 && s.ReadUint16LengthPrefixed(&role) && s.ReadUint64(&r.created) &&
		s.ReadUint8(&disabled) && disabled <= 1 && s.Empty()
	r.role, r.disabled = string(role), disabled == 1
	return r, ok
}

func serviceKey(name string) []byte  { return append([]byte{'s'}, name...) }
func credentialKey(id string) []byte { return append([]byte{'k'}, id...) }

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
