// Package installation is everything that one Cloakroom has on disk: it makes it on the first start, opens it on
// every other, and puts the drivers together (store/bolt, keys/local, keys/transit) into a vault.
//
//	DIR/                 0700
//	DIR/cloakroom.db     the store
//	DIR/audit/           the audit log
//	DIR/audit.pub        its public key
//	DIR/certificate.pub  the public key of certificates; written last, so it marks an installation that is complete
//	DIR/app.key, DIR/officer.key, DIR/operator.key   the first credentials, 0600
//	DIR/instance.new     only while it is being made with keys at HashiCorp Vault, which bear this id in their names
//	DIR.keyring          the file of the key service keys/local, beside the folder: a copy of DIR is then no copy of the
//	                     keys. With HashiCorp Vault there is none
//	DIR.ledger           the erasure ledger, beside it too: a backup of DIR must not bring back an older one
//	DIR.backup/          where backups go
//
// A first start that is cut short leaves nothing in the way of the next. The one step that counts is vault.Init, a
// single transaction. What comes before it (keys at the key service, credential files) is made again or used again;
// what comes after (ledger, audit log, public keys) follows from the store's keys.
package installation

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Paths are the files of one installation, absolute.
type Paths struct {
	Data, Store, Audit, AuditKey, CertificateKey string
	NewInstance                                  string
	Keyring, Ledger, Backup                      string
}

const newInstance = "instance.new"

// PathsOf returns the paths for a data folder.
func PathsOf(data string) (Paths, error) {
	dir, err := filepath.Abs(data)
	if err != nil {
		return Paths{}, err
	}
	if filepath.Dir(dir) == dir {
		return Paths{}, errors.New("the data folder cannot be the root folder: keyring and ledger lie beside it")
	}
	return Paths{
		Data:           dir,
		Store:          filepath.Join(dir, "cloakroom.db"),
		Audit:          filepath.Join(dir, "audit"),
		AuditKey:       filepath.Join(dir, "audit.pub"),
		CertificateKey: filepath.Join(dir, "certificate.pub"),
		NewInstance:    filepath.Join(dir, newInstance),
		Keyring:        dir + ".keyring",
		Ledger:         dir + ".ledger",
		Backup:         dir + ".backup",
	}, nil
}

// Credential is the file of a first credential.
func (p Paths) Credential(service string) string { return filepath.Join(p.Data, service+".key") }

// ledgerHeader is the length of a ledger without entries.
const ledgerHeader = 24

// checkVirgin refuses to begin anew where an installation was before: its store is missing, but other parts are there.
// Beginning anew would hide the loss.
func (p Paths) checkVirgin() error {
	for _, mark := range []string{p.CertificateKey, p.AuditKey} {
		if exists(mark) {
			return fmt.Errorf("the store %s is missing or empty, though an installation was here (%s is there): put the store back from a copy; "+
				"to begin anew without its data, move %s away", p.Store, filepath.Base(mark), p.remains())
		}
	}
	if info, err := os.Stat(p.Ledger); err == nil && info.Size() > ledgerHeader {
		return fmt.Errorf("%s is the erasure ledger of an earlier installation, but %s is empty: put that folder back; to begin anew, move %s away", p.Ledger, p.Data, p.remains())
	}
	return nil
}

// remains names what is left of an installation.
func (p Paths) remains() string {
	var all []string
	for _, path := range []string{p.Data, p.Keyring, p.Keyring + ".mirror", p.Ledger} {
		if exists(path) {
			all = append(all, path)
		}
	}
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}

// checkStrangers refuses to settle in a folder that holds something else.
func (p Paths) checkStrangers() error {
	entries, err := os.ReadDir(p.Data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		// lost+found is what a fresh file system has; temporary files may be left of a start that was cut short.
		if name == "lost+found" || name == "audit" || name == newInstance || strings.HasSuffix(name, ".key") || strings.HasPrefix(name, temporary) {
			continue
		}
		return fmt.Errorf("%s is not empty and holds no Cloakroom (%s, for one): give an empty folder, or one that is not there yet", p.Data, name)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

const temporary = ".cloakroom-new-"

// writeFile puts text at path in one step: whoever opens it sees the old file or the new one, also after a crash.
func writeFile(path, text string, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, temporary+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(dir)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeFolder makes dir with its parents, or makes sure that nobody else looks into one that is there. It reports
// a mode that could not be tightened, as on a mounted volume that belongs to somebody else.
func makeFolder(dir string) (loose bool, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return false, err
	}
	if !info.IsDir() {
		return false, fmt.Errorf("%s is no folder", dir)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return false, nil
	}
	return os.Chmod(dir, 0o700) != nil, nil
}

// KeyringSealed reports whether a keyring file is sealed under a passphrase, by its header alone: magic "CRKR", format
// 1, then 1 for sealed (package keys/local).
func KeyringSealed(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	var header [6]byte
	if _, err := io.ReadFull(f, header[:]); err != nil || string(header[:5]) != "CRKR\x01" || header[5] > 1 {
		return false, fmt.Errorf("%s is no keyring that this version knows", path)
	}
	return header[5] == 1, nil
}
