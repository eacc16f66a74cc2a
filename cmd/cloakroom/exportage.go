package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
)

// maxRecipients bounds a file of recipients, in bytes.
const maxRecipients = 1 << 20

var (
	errRecipient = errors.New("is no recipient of age: those begin with age1 (age-keygen makes one) or are ssh-ed25519 or ssh-rsa public keys; plugins are not run")
	errSecretKey = errors.New("is a secret key: give the public one that belongs to it, which age-keygen -y FILE prints")
)

// parseRecipients reads --recipient and --recipients-file. Errors do not repeat what was given: it may be a secret key.
func parseRecipients(words, files []string) ([]age.Recipient, error) {
	var out []age.Recipient
	for _, word := range words {
		r, err := parseRecipient(word)
		if err != nil {
			return nil, usage("--recipient " + err.Error())
		}
		out = append(out, r)
	}
	for _, path := range files {
		lines, err := readRecipients(path)
		if err != nil {
			return nil, fmt.Errorf("--recipients-file: %w", err)
		}
		n := len(out)
		for i, line := range strings.Split(lines, "\n") {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			r, err := parseRecipient(line)
			if err != nil {
				return nil, usage(fmt.Sprintf("--recipients-file %s: line %d %v", printable(path), i+1, err))
			}
			out = append(out, r)
		}
		if len(out) == n {
			return nil, usage("--recipients-file " + printable(path) + " holds no recipient")
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	if _, err := age.Encrypt(io.Discard, out...); err != nil { // recipients that do not go together
		return nil, usage(oneLine(err.Error()))
	}
	return out, nil
}

func readRecipients(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxRecipients+1))
	if err == nil && len(text) > maxRecipients {
		err = fmt.Errorf("%s is too long for a file of recipients", path)
	}
	return string(text), err
}

func parseRecipient(text string) (r age.Recipient, err error) {
	switch upper := strings.ToUpper(text); {
	case strings.HasPrefix(upper, "AGE-SECRET-KEY-"), strings.HasPrefix(upper, "AGE-PLUGIN-"), strings.HasPrefix(upper, "-----BEGIN "):
		return nil, errSecretKey
	case strings.HasPrefix(text, "age1pq1"):
		r, err = age.ParseHybridRecipient(text)
	case strings.HasPrefix(text, "age1"):
		r, err = age.ParseX25519Recipient(text)
	case strings.HasPrefix(text, "ssh-"):
		r, err = agessh.ParseRecipient(text)
	default:
		return nil, errRecipient
	}
	if err != nil {
		return nil, errRecipient
	}
	return r, nil
}
