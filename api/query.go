package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/cloakroom-io/cloakroom/vault"
)

// query holds the parameters of a request, each at most once and each known to its route.
type query map[string]string

// parseQuery refuses what the route does not know: a misspelled ?recreate or ?fields would otherwise do something
// else than was asked, in silence.
func (x *exchange) parseQuery() error {
	if x.rt.body == ignoredBody || x.c.Request.URL.RawQuery == "" {
		return nil
	}
	values, err := url.ParseQuery(x.c.Request.URL.RawQuery)
	if err != nil {
		return malformed("the query is not of the form name=value&name=value")
	}
	x.query = make(query, len(values))
	for name, v := range values {
		if !slices.Contains(x.rt.query, name) {
			known := "it knows none"
			if len(x.rt.query) > 0 {
				known = "it knows " + strings.Join(x.rt.query, ", ")
			}
			return malformed("the query has a parameter that this call does not know; " + known)
		}
		if len(v) != 1 {
			return malformed("the query parameter " + name + " stands twice")
		}
		x.query[name] = v[0]
	}
	return nil
}

// params are the variable parts of the address.
type params struct {
	c *gin.Context
	q query
}

func (x *exchange) params() params { return params{x.c, x.query} }

// path returns one unescaped part of the path. "+" is itself, as in every path.
func (p params) path(name string) string {
	v := p.c.Param(name)
	if u, err := url.PathUnescape(v); err == nil {
		return u
	}
	return v
}

// page reads limit and cursor.
func (p params) page() (vault.Page, error) {
	var page vault.Page
	if v, ok := p.q["limit"]; ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > vault.MaxPageLimit || strconv.Itoa(n) != v {
			return page, malformed("limit is a number from 1 to " + strconv.Itoa(vault.MaxPageLimit))
		}
		page.Limit = n
	}
	if v, ok := p.q["cursor"]; ok {
		if !printable(v, 1024) {
			return page, malformed("cursor is what next_cursor of the page before said")
		}
		page.Cursor = v
	}
	return page, nil
}

// recreate reads ?recreate.
func (p params) recreate() (bool, error) {
	switch v, ok := p.q["recreate"]; {
	case !ok, v == "false":
		return false, nil
	case v == "true":
		return true, nil
	}
	return false, malformed("recreate is true or false")
}

// sameSource reads ?replace.
func (p params) sameSource() (bool, error) {
	switch v, ok := p.q["replace"]; {
	case !ok, v == "always":
		return false, nil
	case v == "same-source":
		return true, nil
	}
	return false, malformed("replace is always or same-source")
}

// fields reads ?fields, a list with commas; nil when it is absent.
func (p params) fields() ([]string, error) {
	v, ok := p.q["fields"]
	if !ok {
		return nil, nil
	}
	names := strings.Split(v, ",")
	if len(names) > vault.MaxItems || slices.Contains(names, "") {
		return nil, malformed("fields is a list of field names with commas between them")
	}
	return names, nil
}

// openAPI and the other documents that are no JSON answer by themselves.
func (x *exchange) document(contentType string, body []byte) error {
	x.out.Reset()
	x.out.Write(body)
	x.send(http.StatusOK, []string{contentType})
	return nil
}
