package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const maxLines = 450

// sources are the module's files as far as the rules look at them.
type sources struct {
	graph  graph
	faults []string // of files and folders, each with its place and the rule
}

// read walks a module's folder. Hidden folders, testdata and modules inside the module are not its code.
func read(root fs.FS) (sources, error) {
	s := sources{graph: graph{}}
	err := fs.WalkDir(root, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			return s.folder(root, name)
		}
		if !slices.Contains([]string{".go", ".sh", ".sql", ".yaml", ".yml"}, path.Ext(name)) {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		if line := promise(text); line > 0 {
			s.faults = append(s.faults, fmt.Sprintf("%s:%d: work left for later: finish it or leave it out", name, line))
		}
		if path.Ext(name) == ".go" {
			return s.file(name, text)
		}
		return nil
	})
	return s, err
}

func (s *sources) folder(root fs.FS, name string) error {
	base := path.Base(name)
	if name == "." {
		return nil
	}
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "vendor" {
		return fs.SkipDir
	}
	if _, err := fs.Stat(root, path.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "pkg"}, base) {
		s.faults = append(s.faults, name+": the folder's name says nothing; name it by its noun")
	}
	return nil
}

func (s *sources) file(name string, text []byte) error {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, name, text, parser.ParseComments)
	if err != nil {
		return err
	}
	if strings.HasSuffix(name, "_test.go") {
		for _, pos := range skips(f) {
			s.faults = append(s.faults, fmt.Sprintf("%s:%d: a test is skipped: make it run or delete it", name, files.Position(pos).Line))
		}
		return nil
	}
	if n := bytes.Count(text, []byte("\n")); n >= maxLines && !ast.IsGenerated(f) {
		s.faults = append(s.faults, fmt.Sprintf("%s: %d lines; a file has fewer than %d: split it by noun", name, n, maxLines))
	}
	dir := path.Dir(name)
	if dir == "." {
		dir = ""
	}
	for _, spec := range f.Imports {
		to, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !slices.Contains(s.graph[dir], to) {
			s.graph[dir] = append(s.graph[dir], to)
		}
	}
	return nil
}

// skips finds the calls with which a test ends itself unjudged.
func skips(f *ast.File) []token.Pos {
	var found []token.Pos
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
			found = append(found, sel.Sel.Pos())
		}
		return true
	})
	return found
}

// promise returns the line of the first mark of unfinished work, or 0. The marks are put together here so that this
// file does not have them.
func promise(text []byte) int {
	marks := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	at := marks.FindIndex(text)
	if at == nil {
		return 0
	}
	return 1 + bytes.Count(text[:at[0]], []byte("\n"))
}
