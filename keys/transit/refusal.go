package transit

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cloakroom-io/cloakroom/internal/secret"
)

// How long a refused credential is kept back while its file does not change.
const (
	// Vault counts AppRole logins with a secret id that it does not know, for each role id. Five in a row lock the role
	// out for a quarter of an hour, for right secret ids and other servers too; a login that succeeds, or a quarter of
	// an hour without such a one, begins the count anew, by default (vault/request_handling.go,
	// failedUserLoginProcess). Since each refusal prolongs the count, a shorter rest than that quarter would reach five
	// however long it took. An hour keeps that promise for four servers that share a role, whenever each of them comes.
	countedRest = time.Hour
	// What Vault does not count. That includes a login while the role is locked out.
	otherRest = 2 * time.Minute
)

// refusal is Vault's answer to a login or look-up that it refuses. It is ErrLogin.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func (r *refusal) Unwrap() error { return ErrLogin }

// refusals remembers the credential that Vault refused last, so that it is not presented again and again by callers who
// all need a token. It belongs to one source, whose fetches come one at a time.
type refusals struct {
	now      func() time.Time
	file     string         // what the file is said to hold; "" when there is no file
	counted  bool           // Vault counts refusals of status 400
	meanings map[int]string // of a status

	digest [sha256.Size]byte
	err    error // what Vault said; nil: nothing is remembered
	at     time.Time
	again  time.Time
}

// present calls login with the credential that parts are, unless Vault refused this one a short time ago: then it
// answers what Vault said. Errors: those of login.
func (r *refusals) present(login func() (token, error), parts ...secret.Text) (token, error) {
	digest := digestOf(parts)
	if r.err != nil && subtle.ConstantTimeCompare(digest[:], r.digest[:]) == 1 && r.now().Before(r.again) {
		return token{}, r.held()
	}
	got, err := login()
	switch {
	case err == nil:
		r.err = nil
	case errors.Is(err, ErrLogin):
		r.digest, r.at = digest, r.now()
		r.again = r.at.Add(r.rest(err))
		r.err = r.explain(err)
		return token{}, r.err
	}
	return got, err
}

func digestOf(parts []secret.Text) (digest [sha256.Size]byte) {
	h := sha256.New()
	for _, p := range parts {
		one := sha256.Sum256([]byte(p.Reveal()))
		h.Write(one[:])
	}
	h.Sum(digest[:0])
	return digest
}

func (r *refusals) rest(err error) time.Duration {
	var refused *refusal
	if r.counted && errors.As(err, &refused) && refused.status == http.StatusBadRequest {
		return countedRest
	}
	return otherRest
}

// explain adds what Vault's few words can mean.
func (r *refusals) explain(err error) error {
	var refused *refusal
	if errors.As(err, &refused) && r.meanings[refused.status] != "" {
		return fmt.Errorf("%w (%s)", err, r.meanings[refused.status])
	}
	return err
}

func (r *refusals) held() error {
	again := r.again.UTC().Format(time.RFC3339)
	if r.file == "" {
		return fmt.Errorf("%w; asked at %s, and again not before %s", r.err, r.at.UTC().Format(time.RFC3339), again)
	}
	return fmt.Errorf("%w; asked at %s; the file is read again by itself: another %s is tried at once, this one not before %s",
		r.err, r.at.UTC().Format(time.RFC3339), r.file, again)
}

func ofAppRole(now func() time.Time) refusals {
	return refusals{now: now, file: "secret id", counted: true, meanings: map[int]string{
		http.StatusBadRequest: "the secret id is wrong, expired or used up, or the role id is wrong",
		http.StatusForbidden: "there is no such login, or vault has locked the role out after refused logins, by default for a " +
			"quarter of an hour: an operator unlocks it with vault write -f sys/locked-users/<mount accessor>/unlock/<role id>",
	}}
}

func ofKubernetes(now func() time.Time) refusals {
	const text = "the JWT is wrong or expired, the role does not take this service account, or there is no such login"
	return refusals{now: now, file: "JWT", meanings: map[int]string{http.StatusBadRequest: text, http.StatusForbidden: text}}
}

// ofToken is for a token that is read from a file, or that was given without one: "".
func ofToken(now func() time.Time, file string) refusals {
	return refusals{now: now, file: file, meanings: map[int]string{
		http.StatusForbidden: "the token is wrong, ended or revoked, or may not look itself up",
	}}
}
