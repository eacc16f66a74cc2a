package transit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/cloakroom-io/cloakroom/keys"
)

// excess is what a login could do to the keys, and the paths and capabilities it would take.
type excess struct {
	what  string
	paths []forbidden
}

type forbidden struct {
	path         string
	capabilities []string
}

// beyondService lists what the service's role must not be able to do.
func beyondService(mount string, inst keys.InstanceID) []excess {
	change := []string{"create", "update", "patch"}
	var recreate, alter, leave, replace excess
	recreate.what = "make a key anew that was deleted, which opens nothing old"
	alter.what = "destroy or reconfigure keys"
	leave.what = "take keys out of Vault, once they are exportable"
	replace.what = "replace keys by others"
	for _, key := range []keys.KeyName{keys.RootKey, keys.DEKKey} {
		name := vaultKey(inst, key)
		at := mount + "/keys/" + name
		recreate.paths = append(recreate.paths, forbidden{mount + "/encrypt/" + name, []string{"create"}}, forbidden{at, change})
		alter.paths = append(alter.paths, forbidden{at, []string{"delete"}}, forbidden{at + "/config", change},
			forbidden{at + "/rotate", change}, forbidden{at + "/trim", change})
		leave.paths = append(leave.paths, forbidden{mount + "/export/encryption-key/" + name, []string{"read"}},
			forbidden{mount + "/export/encryption-key/" + name + "/latest", []string{"read"}},
			forbidden{mount + "/backup/" + name, []string{"read"}})
		replace.paths = append(replace.paths, forbidden{mount + "/restore/" + name, change},
			forbidden{at + "/import", change}, forbidden{at + "/import_version", change})
	}
	service, closer := PolicyNames(inst)
	return []excess{recreate, alter, leave, replace, {"change policies", []forbidden{
		{"sys/policies/acl/" + service, change}, {"sys/policies/acl/" + closer, change},
	}}, {"unmount the engine with all keys", []forbidden{{"sys/mounts/" + mount, []string{"delete"}}}}}
}

// checkCapabilities compares what the login may do with the service's policy. missing has a line for each grant that is
// not there; warnings one for each excess.
func (t *Transit) checkCapabilities(ctx context.Context) (missing, warnings []string, err error) {
	needed, beyond := serviceGrants(t.mount, t.instance), beyondService(t.mount, t.instance)
	var paths []string
	for _, g := range slices.Concat(needed, selfGrants()) {
		paths = append(paths, g.path)
	}
	for _, e := range beyond {
		for _, f := range e.paths {
			paths = append(paths, f.path)
		}
	}
	slices.Sort(paths)
	has, err := t.capabilities(ctx, slices.Compact(paths))
	if errors.Is(err, errDenied) {
		return nil, []string{"this login may not ask what it may do: grant it update on sys/capabilities-self, " +
			"so that a missing or needless permission shows at the start"}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if may(has, needed[0].path, "root") {
		return nil, []string{"this login is root at Vault and may do everything: give it the service's policy alone"}, nil
	}
	for _, g := range needed {
		if !may(has, g.path, g.capability) {
			missing = append(missing, fmt.Sprintf("this login lacks the capability %s on %s", g.capability, g.path))
		}
	}
	var self []string
	for _, g := range selfGrants() {
		if !may(has, g.path, g.capability) {
			self = append(self, g.capability+" on "+g.path)
		}
	}
	if len(self) > 0 {
		warnings = append(warnings, "this login can't look after its token; it lacks "+strings.Join(self, ", "))
	}
	for _, e := range beyond {
		if found := e.found(has); len(found) > 0 {
			warnings = append(warnings, "this login may "+e.what+": "+strings.Join(found, ", "))
		}
	}
	return missing, warnings, nil
}

// found lists what of e the login has.
func (e excess) found(has map[string][]string) []string {
	var out []string
	for _, f := range e.paths {
		var held []string
		for _, c := range f.capabilities {
			if may(has, f.path, c) {
				held = append(held, c)
			}
		}
		if len(held) > 0 {
			out = append(out, strings.Join(held, " and ")+" on "+f.path)
		}
	}
	return out
}

func may(has map[string][]string, path, capability string) bool {
	return slices.Contains(has[path], capability)
}

// capabilities asks Vault what the token may do on each path.
func (t *Transit) capabilities(ctx context.Context, paths []string) (map[string][]string, error) {
	body, err := encodeJSON(&t.requests, map[string]any{"paths": paths})
	if err != nil {
		return nil, err
	}
	defer body.release()
	r := request{method: http.MethodPut, path: "sys/capabilities-self", body: body}
	a, err := t.call(ctx, r)
	if err != nil {
		return nil, err
	}
	defer a.release()
	if a.status != http.StatusOK {
		return nil, refused(r, a)
	}
	var out struct {
		Data map[string][]string `json:"data"`
	}
	if err := json.Unmarshal(a.body.b, &out); err != nil || out.Data == nil {
		return nil, fmt.Errorf("%w: %s: %w", keys.ErrKMSUnavailable, r.path, errAnswer)
	}
	return out.Data, nil
}
