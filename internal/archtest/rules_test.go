package archtest

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

const module = "github.com/cloakroom-io/cloakroom"

// graph has each package of the module by its path below the module, "" for the root, and what it imports, by full path.
type graph map[string][]string

// leaves import none of each other.
func leaves() []string { return []string{"tokenizer", "keys", "policy", "audit", "store"} }

// door is a third party's code and the folders that may import it.
type door struct {
	client  string
	folders []string
}

func doors() []door {
	return []door{
		{"github.com/gin-gonic", []string{"api"}},
		{"github.com/gin-contrib", []string{"api"}},
		{"github.com/hashicorp/vault", []string{"keys/transit"}},
		{"go.etcd.io/bbolt", []string{"store/bolt"}},
		// A store in PostgreSQL, and the tables of others that the command line turns into tokens.
		{"github.com/jackc", []string{"store/postgres", "cmd/cloakroom/internal/sqltable"}},
		{"github.com/go-sql-driver", []string{"cmd/cloakroom/internal/sqltable"}},
		{"filippo.io/age", []string{"cmd/cloakroom"}},
	}
}

// domainLibraries are the third parties that vault may import. The domain is ours: it needs few.
func domainLibraries() []string {
	return []string{"golang.org/x", "github.com/go-json-experiment/json"}
}

// check returns a line for each import that breaks a rule, sorted.
func check(g graph) []string {
	var faults []string
	for from, imports := range g {
		for _, to := range imports {
			if rule := broken(from, to); rule != "" {
				faults = append(faults, fmt.Sprintf("%s imports %s: %s", from, strings.TrimPrefix(to, module+"/"), rule))
			}
		}
	}
	slices.Sort(faults)
	return faults
}

// broken returns the rule that the import of to by from breaks, or "".
func broken(from, to string) string {
	if ours, ok := own(to); ok {
		return brokenInside(from, ours)
	}
	for _, d := range doors() {
		if under(to, d.client) && !slices.ContainsFunc(d.folders, func(f string) bool { return under(from, f) }) {
			return d.client + " is imported under " + strings.Join(d.folders, ", ") + " only"
		}
	}
	if under(from, "vault") && thirdParty(to) && !slices.ContainsFunc(domainLibraries(), func(l string) bool { return under(to, l) }) {
		return "vault imports no third party but " + strings.Join(domainLibraries(), ", ")
	}
	return ""
}

// brokenInside judges an import between two packages of the module.
func brokenInside(from, to string) string {
	if under(from, "cmd") {
		return ""
	}
	if under(to, "cmd") {
		return "nobody imports cmd"
	}
	top, _, _ := strings.Cut(from, "/")
	switch {
	case support(to):
		return unless(support(from), "only tests import a test's support")
	case from == "vault/vaulttest":
		return unless(!under(to, "api") && !under(to, "client"), "vault/vaulttest joins the vault and its drivers, nothing above them")
	case under(from, "client"):
		return unless(under(to, "client") || to == "api/wire", "client imports api/wire only")
	case under(to, "internal"):
		return ""
	case under(from, "internal"):
		return "internal packages import no package of the module but internal ones"
	case from == "api/wire":
		return "api/wire imports no package of the module but internal ones"
	case under(from, "api"):
		return unless(to == "vault" || under(to, "api"), "api imports vault, api/wire and internal packages only")
	case under(from, "vault"):
		return unless(slices.Contains(leaves(), to) || under(to, "vault"),
			"vault imports "+strings.Join(leaves(), ", ")+", packages under vault and internal packages only")
	case slices.Contains(leaves(), from):
		return unless(under(to, from), "the five leaves import none of each other, and nothing above them")
	case slices.Contains(leaves(), top):
		return unless(to == top || to == path.Dir(from) || under(to, from), "a driver imports its parent and internal packages only")
	}
	return "no rule knows the folder " + top + "; give it one"
}

// support reports whether a package is there for tests alone: such as store/storetest, beside what it tests.
func support(p string) bool { return strings.HasSuffix(p, "test") }

func unless(fine bool, rule string) string {
	if fine {
		return ""
	}
	return rule
}

// own returns the path below the module of an import that is part of it.
func own(to string) (string, bool) {
	if to == module {
		return "", true
	}
	return strings.CutPrefix(to, module+"/")
}

// under reports whether p is folder or lies below it.
func under(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

// thirdParty reports whether an import is neither ours nor of the standard library, whose paths have no dot in front.
func thirdParty(to string) bool {
	first, _, _ := strings.Cut(to, "/")
	return strings.Contains(first, ".")
}
