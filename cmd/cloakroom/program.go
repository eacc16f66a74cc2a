package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// program is one run of the command line with its surroundings.
type program struct {
	in       io.Reader
	out, err io.Writer
	lookup   func(string) (string, bool) // environment
	now      func() time.Time

	inTerminal, outTerminal, errTerminal bool
	readHidden                           func() ([]byte, error) // a line from the terminal, not echoed

	json bool // --json
	conn connection
}

func newProgram() *program {
	isTerminal := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	return &program{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, lookup: os.LookupEnv, now: time.Now,
		inTerminal: isTerminal(os.Stdin), outTerminal: isTerminal(os.Stdout), errTerminal: isTerminal(os.Stderr),
		readHidden: func() ([]byte, error) { return term.ReadPassword(int(os.Stdin.Fd())) },
	}
}

// run executes one command and returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(args)
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	code, line := p.explain(err)
	switch {
	case line == "":
	case p.json || asksJSON(args) && errors.As(err, new(usageError)):
		_, _ = fmt.Fprintf(p.err, "%s\n", p.errorJSON(err))
	default:
		_, _ = fmt.Fprintln(p.err, "cloakroom: "+line)
	}
	return code
}

const (
	groupServer = "server"
	groupData   = "data"
	groupAdmin  = "admin"
	groupProof  = "proof"
)

func (p *program) root() *cobra.Command {
	var showVersion bool
	root := &cobra.Command{
		Use:   "cloakroom",
		Short: "Hand a person's data over, get a token back",
		Long: `Hand a person's data over, get a token back. Values are encrypted under a key of that one person;
destroying the key erases the person.

Start with:  cloakroom demo
       then:  cloakroom serve

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 some items failed.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) > 0:
				return unknownCommand(c, args[0])
			case showVersion:
				return p.printVersion()
			default:
				return c.Help()
			}
		},
	}
	root.Flags().BoolVar(&showVersion, "version", false, "print the version")
	root.PersistentFlags().BoolVar(&p.json, "json", false, "print JSON, errors too (on standard error)")
	root.SetFlagErrorFunc(flagError)
	root.AddGroup(
		&cobra.Group{ID: groupServer, Title: "Server:"},
		&cobra.Group{ID: groupData, Title: "Data and tokens:"},
		&cobra.Group{ID: groupAdmin, Title: "Administration:"},
		&cobra.Group{ID: groupProof, Title: "Proof:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupServer, p.serveCommand(), p.initCommand(), p.demoCommand(), p.statusCommand(), p.doctorCommand(), p.configCommand(), p.benchCommand())
	add(groupData, p.subjectCommand(), p.tokenizeCommand(), p.detokenizeCommand(), p.inspectCommand(), p.revokeCommand(), p.importCommand(), p.exportTokensCommand(), p.migrateTableCommand(), p.restoreTableCommand())
	add(groupAdmin, p.serviceCommand(), p.keysCommand(), p.jobCommand(), p.policyCommand())
	add(groupProof, p.erasureCommand(), p.certificateCommand(), p.auditCommand())
	root.AddCommand(p.versionCommand(), p.benchEchoCommand())
	root.SetHelpCommand(helpCommand())
	strictCompletion(root)
	return root
}

// group makes a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs}
	names := make([]string, 0, len(commands))
	for _, sub := range commands {
		c.AddCommand(sub)
		names = append(names, sub.Name())
	}
	c.RunE = func(c *cobra.Command, args []string) error { return needsOne(c, args, names) }
	return c
}

func needsOne(c *cobra.Command, args, names []string) error {
	if len(args) > 0 {
		return unknownCommand(c, args[0])
	}
	return usage(fmt.Sprintf("%s needs one of: %s", c.CommandPath(), strings.Join(names, ", ")))
}

// helpCommand replaces the library's, which answers a command that is not there with success.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]...",
		Short: "Help about any command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			asked, rest, err := c.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return unknownCommand(asked, rest[0])
			}
			asked.InitDefaultHelpFlag()
			return asked.Help()
		},
	}
}

// strictCompletion makes the library's completion command refuse a shell that it does not know.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	c, _, err := root.Find([]string{"completion"})
	if err != nil || c == root {
		return
	}
	var shells []string
	for _, shell := range c.Commands() {
		shell.Args = noArgs
		shells = append(shells, shell.Name())
	}
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error { return needsOne(c, args, shells) }
}

// unknownCommand proposes what was meant. It does not repeat what was typed, which may be anything.
func unknownCommand(c *cobra.Command, typed string) error {
	c.SuggestionsMinimumDistance = 2
	text := "there is no such command"
	if meant := c.SuggestionsFor(typed); len(meant) > 0 {
		return usage(text + "; did you mean " + c.CommandPath() + " " + strings.Join(meant, " or ") + "?")
	}
	return usage(text + "; see " + c.CommandPath() + " --help")
}

// noArgs, and those below, never repeat an argument: it may be a token typed in the wrong place.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := c.CommandPath() + " takes flags only, but a word stands there that belongs to no flag"
	c.Flags().Visit(func(f *pflag.Flag) {
		if f.NoOptDefVal != "" {
			text += "; --" + f.Name + " takes its value with =, as in --" + f.Name + "=false"
		}
	})
	return usage(text + "; see " + c.CommandPath() + " --help")
}

// onlyInput is noArgs for commands that read values or tokens.
func onlyInput(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(c.CommandPath() + " takes no arguments; values and tokens come on standard input, since arguments show in ps")
	}
	return nil
}

// exactly asks for as many arguments as there are names.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usage(fmt.Sprintf("usage: %s %s (see --help)", c.CommandPath(), strings.Join(names, " ")))
		}
		return nil
	}
}

// flagError names the flag and not what was given to it.
func flagError(c *cobra.Command, err error) error {
	var (
		unknown *pflag.NotExistError
		invalid *pflag.InvalidValueError
		missing *pflag.ValueRequiredError
	)
	help := "; see " + c.CommandPath() + " --help"
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "":
		return usage("there is no flag --" + printable(unknown.GetSpecifiedName()) + help)
	case errors.As(err, &invalid):
		return usage("--" + invalid.GetFlag().Name + " is not given a value of its kind (" + invalid.GetFlag().Value.Type() + ")" + help)
	case errors.As(err, &missing):
		return usage("--" + missing.GetSpecifiedName() + " needs a value" + help)
	default:
		return usage("a flag is not known" + help)
	}
}
