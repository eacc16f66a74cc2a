package transit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

var (
	errAnswer = errors.New("the answer is not what vault says")
	// errNoResults: an answer, but not that of a batch.
	errNoResults = fmt.Errorf("%w: no batch results", errAnswer)
)

// decodeBatch reads data.batch_results and calls each with the value of the member called name, in quotes or nil, and
// the text of the member called error. Both are valid until each returns. The strict reader is asked token by token,
// because a map of everything costs more than all the rest of the driver.
//
// Errors: errNoResults, errAnswer. What each was given before an error is part of a broken answer.
func decodeBatch(body []byte, name string, each func(value, refusal []byte)) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(body)) // reads in place, without a copy
	if err := findMember(d, "data"); err != nil {
		return err
	}
	if err := findMember(d, "batch_results"); err != nil {
		return err
	}
	if t, err := d.ReadToken(); err != nil || t.Kind() != '[' {
		return errAnswer
	}
	value, refusal := make([]byte, 0, 128), []byte(nil)
	for d.PeekKind() == '{' {
		value, refusal = value[:0], refusal[:0]
		if _, err := d.ReadToken(); err != nil {
			return errAnswer
		}
		for d.PeekKind() == '"' {
			member, err := d.ReadValue()
			if err != nil {
				return errAnswer
			}
			isValue, isError := isName(member, name), isName(member, "error")
			content, err := d.ReadValue()
			if err != nil {
				return errAnswer
			}
			switch {
			case !isValue && !isError:
			case content.Kind() != '"':
				return errAnswer
			case isValue:
				value = append(value, content...)
			default:
				if refusal, err = jsontext.AppendUnquote(refusal, content); err != nil {
					return errAnswer
				}
			}
		}
		if _, err := d.ReadToken(); err != nil {
			return errAnswer
		}
		each(value, refusal)
		clear(value)
	}
	if t, err := d.ReadToken(); err != nil || t.Kind() != ']' {
		return errAnswer
	}
	return nil
}

// findMember enters the object that comes next and stops before the value of the member.
func findMember(d *jsontext.Decoder, name string) error {
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return errAnswer
	}
	for d.PeekKind() == '"' {
		member, err := d.ReadValue()
		if err != nil {
			return errAnswer
		}
		if isName(member, name) {
			return nil
		}
		if err := d.SkipValue(); err != nil {
			return errAnswer
		}
	}
	return errNoResults
}

// isName compares a member's name as it is written. Vault escapes none.
func isName(quoted []byte, name string) bool {
	return len(quoted) == len(name)+2 && string(quoted[1:len(quoted)-1]) == name
}

// plainKey decodes a key from its base64 in quotes.
func plainKey(quoted []byte) (secret.Bytes, bool) {
	if len(quoted) != 2+base64.StdEncoding.EncodedLen(keySize) {
		return secret.Bytes{}, false
	}
	var room [keySize + 1]byte // 44 characters can stand for 33 bytes
	n, err := base64.StdEncoding.Strict().Decode(room[:], quoted[1:len(quoted)-1])
	defer clear(room[:])
	if err != nil || n != keySize {
		return secret.Bytes{}, false
	}
	plain := make([]byte, keySize)
	copy(plain, room[:])
	return secret.NewBytes(plain), true
}
