package installation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cloakroom-io/cloakroom/keys/local"
)

// openKeyring opens the key service's file. A passphrase that is given holds: a keyring that is not sealed is sealed
// with it before anything else uses it.
func (i *Installation) openKeyring(o Options, create bool) (err error) {
	i.keyring, err = local.Open(i.Keyring, local.Options{Create: create, Passphrase: o.Passphrase, Logger: sealingLogger(o.Logger)})
	switch {
	case errors.Is(err, local.ErrPassphrase) && o.Passphrase.Len() == 0:
		return fmt.Errorf("keyring: %w; give it with --passphrase-file FILE or in CLOAKROOM_PASSPHRASE_FILE=FILE", err)
	case err != nil:
		return fmt.Errorf("keyring: %w", err)
	}
	if o.Passphrase.Len() > 0 && !i.keyring.Sealed() {
		if err := i.keyring.SetPassphrase(o.Passphrase); err != nil {
			return fmt.Errorf("sealing the keyring: %w", err)
		}
		i.SealedNow = true
		o.Logger.Warn("the keyring was not sealed and is now, under the passphrase given; copies of the file made before still open without it: destroy them",
			"keyring", i.Keyring)
	}
	i.Sealed = i.keyring.Sealed()
	return nil
}

// sealingLogger passes over what package local says of a keyring that is not sealed though a passphrase is given: by
// the time anybody could read it, it is sealed, or the start has failed.
func sealingLogger(log *slog.Logger) *slog.Logger { return slog.New(sealing{log.Handler()}) }

type sealing struct{ slog.Handler }

func (s sealing) Handle(ctx context.Context, r slog.Record) error {
	given := false
	r.Attrs(func(a slog.Attr) bool {
		given = a.Key == "passphrase_given" && a.Value.Kind() == slog.KindBool && a.Value.Bool()
		return !given
	})
	if given {
		return nil
	}
	return s.Handler.Handle(ctx, r)
}

func (s sealing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sealing{s.Handler.WithAttrs(attrs)}
}

func (s sealing) WithGroup(name string) slog.Handler { return sealing{s.Handler.WithGroup(name)} }
