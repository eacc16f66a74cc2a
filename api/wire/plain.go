// Package wire is what travels over HTTP: request and response bodies and error codes, shared by the server (api) and
// the client. Shapes and names follow docs/api.md; JSON is strict in both directions.
package wire

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// Plain is a value or a token on its way in or out. In JSON it is an ordinary string; printed or logged it is
// redacted, so that a request dumped into a log by mistake shows nothing.
type Plain string

func (Plain) String() string             { return secret.Redacted }
func (Plain) GoString() string           { return secret.Redacted }
func (Plain) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secret.Redacted) }
func (Plain) LogValue() slog.Value       { return slog.StringValue(secret.Redacted) }
