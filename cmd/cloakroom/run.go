package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cloakroom/cloakroom/config"
	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitFine  = 0
	exitFail  = 1 // the check found problems, or the server failed
	exitUsage = 2
)

// errReported is a failure whose lines are printed already.
var errReported = errors.New("reported")

// usageError is a wrong call of the command.
type usageError struct{ error }

// run is the command, for main and for tests. Errors go to stderr, one line each.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "cloakroom",
		Short: "Keeps a single-page app's OAuth tokens on the server; the browser holds one opaque ticket",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q; `cloakroom --help` lists them", args[0])}
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("which command? `cloakroom --help` lists them")}
		},
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(demoCommand(), idpCommand(), serveCommand(), checkCommand(), schemaCommand(), versionCommand(), keysCommand(),
		sessionsCommand(), storeCommand())
	return exitCode(root.ExecuteContext(ctx), stderr)
}

func exitCode(err error, stderr io.Writer) int {
	var problems config.Problems
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, errReported):
		return exitFail
	case errors.As(err, &problems):
		for _, p := range problems {
			fmt.Fprintln(stderr, p)
		}
		return exitFail
	}
	fmt.Fprintln(stderr, "cloakroom: "+strings.ReplaceAll(err.Error(), "\n", "; "))
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFail
}

// noArgs refuses arguments that would be ignored.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no argument, got %q", cmd.CommandPath(), args[0])}
	}
	return nil
}
