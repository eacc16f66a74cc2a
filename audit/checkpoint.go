package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/cloakroom-io/cloakroom/internal/appendfile"
)

const (
	checkpointName = "checkpoint"
	maxCheckpoint  = 16 << 10
)

// signer signs notes with a key whose name is the origin of the log.
type signer struct {
	note.Verifier
	key ed25519.PrivateKey
	vky string
}

func (s *signer) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

func newSigner(origin string, key ed25519.PrivateKey) (*signer, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("audit: the signing key is not an Ed25519 private key")
	}
	text, err := note.NewEd25519VerifierKey(origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("audit: verifier key: %w", err)
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("audit: origin %q cannot name a key: %w", origin, err)
	}
	return &signer{verifier, key, text}, nil
}

func writeCheckpoint(dir string, head Head, s *signer) error {
	text := fmt.Sprintf("%s\n%d\n%s\n", s.Name(), head.Size, base64.StdEncoding.EncodeToString(head.Hash[:]))
	signed, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return err
	}
	return appendfile.Replace(filepath.Join(dir, checkpointName), signed, 0o600)
}

// readCheckpoint returns what the checkpoint says, once its signature verifies; fs.ErrNotExist when there is none.
func readCheckpoint(dir string, verifier note.Verifier) (Head, error) {
	file, err := os.Open(filepath.Join(dir, checkpointName))
	if err != nil {
		return Head{}, err
	}
	defer file.Close()
	signed, err := io.ReadAll(io.LimitReader(file, maxCheckpoint+1))
	if err != nil {
		return Head{}, err
	}
	if len(signed) > maxCheckpoint {
		return Head{}, &CorruptError{checkpointName, 0, "too large"}
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return Head{}, &CorruptError{checkpointName, 0, "not signed by the key of this log"}
	}
	// One signature in its one form: base64 has spare bits that the decoder does not look at.
	want := n.Text + "\n"
	for _, sig := range n.Sigs {
		want += "— " + sig.Name + " " + sig.Base64 + "\n"
		if raw, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil || len(raw) != 4+ed25519.SignatureSize {
			return Head{}, &CorruptError{checkpointName, 0, "malformed signature"}
		}
	}
	if !bytes.Equal(signed, []byte(want)) {
		return Head{}, &CorruptError{checkpointName, 0, "more than the one signature of this log"}
	}
	head, ok := parseCheckpoint(n.Text, verifier.Name())
	if !ok {
		return Head{}, &CorruptError{checkpointName, 0, "malformed"}
	}
	return head, nil
}

func parseCheckpoint(text, origin string) (Head, bool) {
	part := strings.Split(text, "\n")
	if len(part) != 4 || part[0] != origin || part[3] != "" {
		return Head{}, false
	}
	size, err := strconv.ParseUint(part[1], 10, 64)
	if err != nil || strconv.FormatUint(size, 10) != part[1] {
		return Head{}, false
	}
	sum, err := base64.StdEncoding.Strict().DecodeString(part[2])
	if err != nil || len(sum) != 32 {
		return Head{}, false
	}
	return Head{size, [32]byte(sum)}, true
}
