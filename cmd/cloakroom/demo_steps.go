package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"

	"github.com/cloakroom-io/cloakroom/api/wire"
	"github.com/cloakroom-io/cloakroom/audit"
	"github.com/cloakroom-io/cloakroom/client"
	"github.com/cloakroom-io/cloakroom/cmd/cloakroom/sample"
	"github.com/cloakroom-io/cloakroom/vault"
)

const (
	demoWorkers = 32
	// demoShown customers stand in the tables, demoBatch are read in one call.
	demoShown = 5
	demoBatch = 100
)

// tokenize hands all customers over.
func (d *demonstration) tokenize(ctx context.Context, _ string) error {
	d.title(fmt.Sprintf("A shop hands over %d customers: name, phone, address, e-mail.", len(d.customers)))
	bar := d.p.progress(len(d.customers), "   customers")
	began := time.Now()
	d.tokens = make([]map[string]string, len(d.customers))
	warned := make([]int, len(d.customers))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(demoWorkers)
	for i, c := range d.customers {
		work.Go(func() error {
			out, err := d.app.PutSubject(ctx, c.ID, wire.PutSubject{Fields: map[string]wire.FieldValue{
				"phone": {Value: wire.Plain(c.Phone)}, "name": {Value: wire.Plain(c.Name)},
				"address": {Value: wire.Plain(c.Address)}, "email": {Value: wire.Plain(c.Email)},
			}})
			if err != nil {
				return fmt.Errorf("%s: %w", c.ID, err)
			}
			d.tokens[i] = make(map[string]string, len(out.Tokens))
			for field, token := range out.Tokens {
				d.tokens[i][field] = string(token)
			}
			warned[i] = len(out.Warnings)
			return bar.Add(1)
		})
	}
	if err := errors.Join(work.Wait(), bar.Finish()); err != nil {
		return err
	}
	d.result.TokenizeMS = ms(began)
	d.result.Customers = len(d.customers)
	for i, t := range d.tokens {
		d.result.Tokens += len(t)
		d.result.Warnings += warned[i]
	}
	d.say("   %d tokens came back in %.0f ms. Each value is encrypted under a key of its\n   person; each call is in the audit log, on disk, before it is answered.", d.result.Tokens, d.result.TokenizeMS)
	if d.result.Warnings > 0 {
		d.say("   %d values were accepted with a doubt: the sample's phone numbers lie in\n   ranges that no operator uses.", d.result.Warnings)
	}
	return nil
}

// progress is a bar on standard error, and nothing where that is no terminal.
func (p *program) progress(total int, what string) *progressbar.ProgressBar {
	if !p.errTerminal {
		return progressbar.DefaultSilent(int64(total), what)
	}
	return progressbar.NewOptions(total, progressbar.OptionSetWriter(p.err), progressbar.OptionSetDescription(what),
		progressbar.OptionSetWidth(30), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(50*time.Millisecond))
}

// othersSee shows what is left for every other system, and the masked view of a call centre.
func (d *demonstration) othersSee(ctx context.Context, _ string) error {
	d.title("Every other system keeps tokens. The support desk sees masked values.")
	t := newTable("CUSTOMER", "IN THE ORDER TABLE", "DESK: NAME", "DESK: PHONE")
	for i, c := range d.customers[:demoShown] {
		got, err := d.support.GetSubject(ctx, c.ID, client.Read{Purpose: "support", View: "masked", Fields: []string{"name", "phone"}})
		if err != nil {
			return err
		}
		if string(got.Fields["phone"].Value) == c.Phone {
			return errors.New("the masked view is not masked")
		}
		t.add(c.ID, d.tokens[i]["phone"], string(got.Fields["name"].Value), string(got.Fields["phone"].Value))
	}
	return d.show(t)
}

// authorised reads values in full, for a purpose that the policy grants.
func (d *demonstration) authorised(ctx context.Context, _ string) error {
	d.title("The dispatcher has to call: role app, purpose service, full view.")
	tokens := make([]wire.Plain, demoBatch)
	for i := range tokens {
		tokens[i] = wire.Plain(d.tokens[i]["phone"])
	}
	began := time.Now()
	out, err := d.app.Detokenize(ctx, wire.Detokenize{Purpose: "service", Reason: "demo", View: "full", Tokens: tokens})
	if err != nil {
		return err
	}
	d.result.DetokenizeMS = ms(began)
	for i, r := range out {
		if r.Value == nil || string(*r.Value) != d.customers[i].Phone {
			return fmt.Errorf("the value behind the phone token of %s is not the one that was given", d.customers[i].ID)
		}
	}
	t := newTable("TOKEN", "VALUE, AS IT WAS WRITTEN")
	for i, r := range out[:demoShown] {
		t.add(d.tokens[i]["phone"], string(*r.Value))
	}
	if err := d.show(t); err != nil {
		return err
	}
	d.say("   %d tokens in one call: %.1f ms, and all %d values are right.", demoBatch, d.result.DetokenizeMS, demoBatch)
	return nil
}

// refused asks for more than the policy grants.
func (d *demonstration) refused(ctx context.Context, _ string) error {
	d.title("The support desk asks for more than the policy grants.")
	token := []wire.Plain{wire.Plain(d.tokens[0]["phone"])}
	t := newTable("ASKED FOR", "ANSWER")
	for _, ask := range []struct {
		what string
		body wire.Detokenize
		want wire.Code
		into *string
	}{
		{"full view, purpose support", wire.Detokenize{Purpose: "support", View: "full", Tokens: token}, wire.Forbidden, &d.result.Refused},
		{"any view, purpose ads", wire.Detokenize{Purpose: "ads", Tokens: token}, wire.PurposeNotAllowed, &d.result.RefusedPurpose},
	} {
		code, err := refusal(d.support.Detokenize(ctx, ask.body))
		if err != nil {
			return err
		}
		if code != ask.want {
			return fmt.Errorf("%s: answered %q, expected %q", ask.what, code, ask.want)
		}
		*ask.into = string(code)
		t.add(ask.what, string(code))
	}
	return d.show(t)
}

// refusal is the code that a call of one token was refused with.
func refusal(out []wire.Revealed, err error) (wire.Code, error) {
	var e *client.Error
	switch {
	case errors.As(err, &e):
		return e.Problem.Code, nil
	case err != nil:
		return "", err
	case len(out) != 1 || out[0].Error == nil:
		return "", errors.New("a value was shown that should not be")
	}
	return out[0].Error.Code, nil
}

// erase ends one customer.
func (d *demonstration) erase(ctx context.Context, _ string) error {
	last := len(d.customers) - 1
	id := d.customers[last].ID
	d.title(id + " asks to be erased: this one key is destroyed.")
	began := time.Now()
	certificate, err := d.officer.EraseSubject(ctx, id, "request of the person", client.IdempotencyKey("demo-erase"))
	if err != nil {
		return err
	}
	d.result.EraseMS = ms(began)
	d.certificate = certificate
	token := wire.Plain(d.tokens[last]["phone"])
	code, err := refusal(d.app.Detokenize(ctx, wire.Detokenize{Purpose: "service", Tokens: []wire.Plain{token}}))
	if err != nil {
		return err
	}
	d.result.ErasedToken = string(code)
	_, err = d.app.GetSubject(ctx, id, client.Read{Purpose: "service"})
	var gone *client.Error
	if !errors.As(err, &gone) {
		return errors.New("an erased person can still be read")
	}
	d.result.ErasedSubject = string(gone.Problem.Code)
	if code != wire.SubjectErased || gone.Problem.Status != 410 {
		return fmt.Errorf("an erased person answers %s and HTTP %d", code, gone.Problem.Status)
	}
	t := newTable("ASKED FOR", "ANSWER")
	t.add("the old phone token", string(code))
	t.add("GET "+id, fmt.Sprintf("HTTP %d, %s", gone.Problem.Status, gone.Problem.Code))
	return d.show(t)
}

// verify checks the proofs with nothing but the files: the server is stopped first.
func (d *demonstration) verify(context.Context, string) error {
	d.title("The server stops. The proofs are checked without it.")
	if err := d.stop(); err != nil {
		return err
	}
	key, err := publicKey(d.paths.CertificateKey, "")
	if err != nil {
		return err
	}
	cert, err := vault.VerifyCertificate(d.certificate, key)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	altered := bytes.Replace(d.certificate, []byte(`"level":1`), []byte(`"level":2`), 1)
	if _, err := vault.VerifyCertificate(altered, key); !errors.Is(err, vault.ErrCertificateSignature) {
		return errors.New("an altered certificate was not found out")
	}
	if key, err = publicKey(d.paths.AuditKey, ""); err != nil {
		return err
	}
	log, err := audit.Verify(d.paths.Audit, key)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	d.result.Erasure, d.result.AuditEntries = cert.Erasure, log.Entries
	t := newTable("PROOF", "RESULT")
	t.add("certificate of erasure", "verified, level "+fmt.Sprint(cert.Level)+", "+cert.Erasure)
	t.add("the same, one digit changed", "refused: the signature does not match")
	t.add("audit log", fmt.Sprintf("verified, %d entries, %d of them signed for", log.Entries, log.Checkpointed))
	return d.show(t)
}

// search looks for plaintext in every file that the installation has.
func (d *demonstration) search(_ context.Context, dir string) error {
	const customers = 25
	d.title(fmt.Sprintf("Every file is searched for the data of %d customers.", customers))
	needles := plaintexts(d.customers[:customers])
	err := filepath.WalkDir(filepath.Dir(dir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		n, found, err := searchFile(path, needles)
		d.result.FilesSearched++
		d.result.BytesSearched += n
		d.result.PlaintextsFound += found
		return err
	})
	if err != nil {
		return err
	}
	if d.result.PlaintextsFound > 0 {
		return fmt.Errorf("%d plaintexts were found on disk", d.result.PlaintextsFound)
	}
	d.say("   %d texts (as written, digits alone, base64, hex) in %d files, %.1f MiB:\n   none found.", len(needles), d.result.FilesSearched, float64(d.result.BytesSearched)/(1<<20))
	return nil
}

// plaintexts are the forms in which a careless program would have left the customers' data.
func plaintexts(customers []sample.Customer) [][]byte {
	var out [][]byte
	for _, c := range customers {
		digits := strings.Map(func(r rune) rune {
			if r < '0' || r > '9' {
				return -1
			}
			return r
		}, c.Phone)
		texts := []string{c.Phone, c.Name, c.Address, c.Email}
		if len(digits) >= 8 {
			texts = append(texts, digits)
		}
		for _, s := range texts {
			b := []byte(s)
			// Base64 in the middle of other bytes: only whole groups of three look the same there.
			out = append(out, b, []byte(hex.EncodeToString(b)), []byte(base64.RawStdEncoding.EncodeToString(b[:len(b)/3*3])))
		}
	}
	return out
}

// searchFile reads a file in blocks that overlap by the longest needle.
func searchFile(path string, needles [][]byte) (size int64, found int, err error) {
	const block = 4 << 20
	longest := 0
	for _, n := range needles {
		longest = max(longest, len(n))
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, 0, block+longest)
	for {
		n, err := io.ReadFull(f, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		size += int64(n)
		for _, needle := range needles {
			if bytes.Contains(buf, needle) {
				found++
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return size, found, nil
		}
		if err != nil {
			return size, found, err
		}
		kept := copy(buf, buf[len(buf)-longest:])
		buf = buf[:kept]
	}
}
